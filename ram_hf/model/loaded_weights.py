"""What a checkpoint lacks of its model: remembered when it is loaded, refused where it would be used."""

import contextlib
import math
import os
import pickle
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers.utils import has_file

_SHOWN = 3
_WHY = (
    "Pickles are never opened: whoever opens one runs the code in it. Get the weights as `model.safetensors`, or "
    "convert them where you trust them (`safetensors.torch.save_file`)."
)
_ALIGNMENT = 64  # bytes, of PyTorch's allocator on a CPU
_LONGEST = 120  # characters of a name: it may be a stranger's


_HUB_OPTIONS = ("revision", "token", "cache_dir", "local_files_only")
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


class PickleRefusedError(pickle.UnpicklingError):
    """Weights that would have to be unpickled. It is no OSError, after which `pipeline` tries a class that does."""


def load_and_remember(
    load: Callable[..., Any], name_or_path: str | os.PathLike[str] | None, *args: Any, **kwargs: Any
) -> tuple[Any, dict[str, Any]]:
    """Load with a `from_pretrained` of transformers, and remember in the model what the checkpoint did not give.

    Returns:
        The model and what transformers tells of its loading.

    Raises:
        PickleRefusedError: when there are no weights but pickles, or they are asked for.
        ValueError: when a tensor is of another shape than the model's, unless `ignore_mismatched_sizes=True`.
    """
    takes_any_size = kwargs.pop("ignore_mismatched_sizes", False)
    if kwargs.pop("use_safetensors", None) is False:
        raise PickleRefusedError(f"`use_safetensors=False` asks for pickles of {_shown(name_or_path)}. {_WHY}")
    # Told of by us: transformers points to a report that is only logged.
    options = {**kwargs, "use_safetensors": True, "ignore_mismatched_sizes": True, "output_loading_info": True}
    try:
        model, info = load(name_or_path, *args, **options)
    except OSError as error:
        if _has_pickles(name_or_path, kwargs):
            raise PickleRefusedError(f"{_shown(name_or_path)} holds no weights but pickles. {_WHY}") from error
        raise
    mismatched = sorted((name, tuple(found), tuple(right)) for name, found, right in info["mismatched_keys"])
    if mismatched and not takes_any_size:
        found = some(f"{name} {found} instead of {right}" for name, found, right in mismatched)
        raise ValueError(
            f"The weights in {_shown(name_or_path)} do not fit their `config.json`: {found}. "
            "Get weights and configuration of the same model."
        )
    model.tensors_not_loaded = sorted({*info["missing_keys"], *(name for name, *_ in mismatched)})
    _align(model)
    return model, info


def _align(model: nn.Module) -> None:
    """Give weights that still lie in their file memory of their own, aligned as PyTorch aligns it.

    Matrix products round by where their operands begin, and a file begins a tensor anywhere: the same weights would
    score differently by a last bit, before and after saving, in one file or in several.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % _ALIGNMENT:
            tensor.data = tensor.data.clone()


def refuse_incomplete(model: nn.Module, name_or_path: str | os.PathLike[str] | None) -> None:
    """Refuse a model with tensors that its checkpoint did not give: their numbers are random.

    Raises:
        ValueError: which names them.
    """
    missing = getattr(model, "tensors_not_loaded", ())
    if missing:
        raise ValueError(
            f"The weights in {_shown(name_or_path)} are incomplete, and what is missing would be random: "
            f"{some(missing)}. Get the whole checkpoint; a model that was completed since is saved and loaded again."
        )


def refuse_nonsense(model: nn.Module, name_or_path: str | os.PathLike[str] | None) -> None:
    """Refuse weights that are NaN or infinite, or temperatures of zero or below: all scores would be NaN.

    Raises:
        ValueError: which names them.
    """
    broken = [name for name, tensor in model.state_dict().items() if not _is_finite(tensor)]
    if broken:
        raise ValueError(f"The weights in {_shown(name_or_path)} hold NaN or infinite numbers: {some(broken)}.")
    refuse_cold(model, name_or_path)


def refuse_cold(model: nn.Module, name_or_path: str | os.PathLike[str] | None) -> None:
    """Refuse temperatures that are not finite, or of zero or below: scores divide by them.

    Raises:
        ValueError: which names them.
    """
    for name, temperature in model.temperatures.named_parameters():
        if temperature.device.type != "meta" and not 0 < temperature.item() < math.inf:
            raise ValueError(
                f"The weights in {_shown(name_or_path)} cannot be used: `temperatures.{name}` must be above 0 and "
                f"finite, got {temperature.item()}."
            )


def remove_stale_weights(folder: str | os.PathLike[str], variant: str | None) -> None:
    """Remove what an earlier saving left and would be loaded in the place of what was saved.

    transformers looks for one file first and for an index of several only then; where both lie, the newer counts.
    """
    names = ["model.safetensors", "model.safetensors.index.json"]
    if variant is not None:
        names = [f"model.{variant}.safetensors", f"model.safetensors.index.{variant}.json"]
    whole, index = (os.path.join(folder, name) for name in names)
    if os.path.isfile(whole) and os.path.isfile(index):
        os.remove(min(whole, index, key=os.path.getmtime))


def some(names: Iterable[str]) -> str:
    """The first names of a list, and how many more there are."""
    names = [name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..." for name in names]
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _is_finite(tensor: torch.Tensor) -> bool:
    if tensor.device.type == "meta" or not tensor.is_floating_point():
        return True
    # A sum is read several times as fast, and tells unless it overflows.
    return bool(tensor.sum(dtype=torch.float32).isfinite()) or bool(tensor.isfinite().all())


def _has_pickles(name_or_path: str | os.PathLike[str] | None, options: Mapping[str, Any]) -> bool:
    where = {name: options[name] for name in _HUB_OPTIONS if options.get(name) is not None}
    folder = options.get("subfolder") or ""
    with contextlib.suppress(Exception):  # the error at hand tells what is wrong
        return any(has_file(name_or_path, os.path.join(folder, name), **where) for name in _PICKLES)
    return False


def _shown(name_or_path: str | os.PathLike[str] | None) -> str:
    return repr(os.fspath(name_or_path)) if name_or_path is not None else "the given weights"


__all__ = [
    "PickleRefusedError",
    "load_and_remember",
    "refuse_cold",
    "refuse_incomplete",
    "refuse_nonsense",
    "remove_stale_weights",
    "some",
]
