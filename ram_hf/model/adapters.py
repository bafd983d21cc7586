"""Checkpoints of the adapters alone: what was trained beside CLIP, and which CLIP it belongs to."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPModel, PreTrainedConfig
from transformers.utils import cached_file

from .checkpoint_kind import hub_options, load_clip, read_json_object
from .configuration_ram import RamConfig
from .loaded_weights import some

_CLIP = "clip."  # how the names of CLIP's weights begin in ours
_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size", "vocab_size")


@contextmanager
def leaving_out_clip(config: RamConfig, weights: Mapping[str, Tensor], **options: Any) -> Iterator[dict[str, Tensor]]:
    """The weights of a model that are not CLIP's; meanwhile its configuration says that CLIP's are not beside them.

    The configuration is also given the base's commit, where that comes from the Hub, and keeps it.

    Args:
        config: of the model; it names the base.
        weights: all of the model's, by name.
        **options: of the Hub: `token`, `cache_dir`, `local_files_only`.

    Yields:
        Ladder tokens, adapters with their batch-norm statistics, prompts and temperatures.

    Raises:
        ValueError: when the base is not named, cannot be loaded, or has other weights: they were trained too.
    """
    if not config.base_model_name_or_path:
        raise ValueError(
            "The model does not tell which CLIP it was made from (`base_model_name_or_path`), as where that lay in a "
            "folder, so its adapters alone could not be used again. Save it whole, or make it from a CLIP on the Hub."
        )
    clip, revision = _load_named(config, "The model's adapters belong to", **options)
    own = {name: tensor for name, tensor in weights.items() if not name.startswith(_CLIP)}
    towers = {name.removeprefix(_CLIP): tensor for name, tensor in weights.items() if name not in own}
    base = clip.state_dict()
    trained = [name for name in base.keys() | towers.keys() if not _is_same(base.get(name), towers.get(name))]
    if trained:
        raise ValueError(
            f"CLIP's own weights are not those of its base {config.base_model_name_or_path!r}: "
            f"{some(_CLIP + name for name in sorted(trained))}. They would be lost with `adapters_only=True`; save "
            "the model whole."
        )
    config.base_model_revision, config.base_model_fingerprint = revision, fingerprint(clip)
    try:
        yield own
    finally:
        config.base_model_fingerprint = None


def load_joined(
    load: Callable[..., Any],
    config_class: type[RamConfig],
    name_or_path: str | os.PathLike[str] | None,
    *args: Any,
    base_model: str | os.PathLike[str] | CLIPModel | None = None,
    **kwargs: Any,
) -> tuple[Any, dict[str, Any]]:
    """Load a checkpoint; where it holds adapters alone, join them with their CLIP.

    Args:
        load: `from_pretrained` of transformers.
        config_class: of the model.
        name_or_path: of the checkpoint.
        *args: of `from_pretrained`.
        base_model: the CLIP, where it does not lie where the checkpoint says.
        **kwargs: of `from_pretrained`.

    Returns:
        The model and what transformers tells of its loading.

    Raises:
        ValueError: when the CLIP cannot be loaded, or is another than the one that the adapters were trained on.
    """
    if name_or_path is None or not _holds_adapters_only(name_or_path, kwargs):  # None: the weights are handed in
        if base_model is not None:
            raise ValueError(f"{_shown(name_or_path)} holds CLIP's weights itself: leave `base_model` out.")
        return load(name_or_path, *args, **kwargs)
    hub = hub_options(kwargs)
    config = kwargs.pop("config", None)
    if not isinstance(config, PreTrainedConfig):
        fields = {name: kwargs.pop(name) for name in config_class.__annotations__.keys() & kwargs.keys()}
        config = config_class.from_pretrained(name_or_path if config is None else config, **hub, **fields)
    clip = _find_base(config, base_model, _shown(name_or_path), hub)
    weights = {_CLIP + name: tensor for name, tensor in clip.state_dict().items()}
    weights.update(_read_adapters(name_or_path, kwargs.pop("variant", None), hub))
    options = {name: value for name, value in kwargs.items() if name not in hub}
    config.base_model_fingerprint = None  # the model has them all
    model, info = load(None, *args, config=config, state_dict=weights, **options)
    model.config.name_or_path = os.fspath(name_or_path)
    model.name_or_path = os.fspath(name_or_path)
    return model, info


def fingerprint(model: nn.Module) -> str:
    """What tells the weights of one model from those of any other: names, shapes, types, and a sum of each one's bits.

    The sums are of integers, so they are the same on every device, and cost what reading the weights costs.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        bits = tensor.detach().reshape(-1).contiguous().view(torch.int16).sum(dtype=torch.int64).item()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {bits}\n".encode())
    return digest.hexdigest()


def _holds_adapters_only(name_or_path: str | os.PathLike[str], kwargs: Mapping[str, Any]) -> bool:
    config = kwargs.get("config")
    if isinstance(config, PreTrainedConfig):
        return getattr(config, "base_model_fingerprint", None) is not None
    where = name_or_path if config is None else config
    file = cached_file(where, "config.json", **hub_options(kwargs), _raise_exceptions_for_missing_entries=False)
    return file is not None and read_json_object(file).get("base_model_fingerprint") is not None


def _find_base(
    config: RamConfig, base_model: str | os.PathLike[str] | CLIPModel | None, name: str, hub: Mapping[str, Any]
) -> CLIPModel:
    fields = ("token", "cache_dir", "local_files_only", "force_download", "proxies")
    options = {field: hub[field] for field in fields if field in hub}
    if isinstance(base_model, CLIPModel):
        clip, base = base_model, "the given CLIP"
    elif base_model is not None:
        (clip, _), base = load_clip(base_model, **options), repr(os.fspath(base_model))
    elif config.base_model_name_or_path:
        clip, _ = _load_named(config, f"{name} holds adapters alone, of", **options)
        base = repr(config.base_model_name_or_path)
    else:
        raise ValueError(
            f"{name} holds adapters alone, of a CLIP that lay in a folder: tell where it is with `base_model`."
        )
    if fingerprint(clip) != config.base_model_fingerprint:
        raise ValueError(
            f"{name} holds adapters alone, of another CLIP than {base}: {_difference(clip, config)}. Pass the right "
            "one as `base_model`."
        )
    return clip


def _load_named(config: RamConfig, what: str, **options: Any) -> tuple[CLIPModel, str | None]:
    name, revision = str(config.base_model_name_or_path), config.base_model_revision
    try:
        return load_clip(name, **({} if revision is None else {"revision": revision}), **options)
    except (OSError, ValueError) as error:
        at = "" if revision is None else f" at {revision}"
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{what} the CLIP {name!r}{at}, which cannot be loaded ({reason}). Where it lies elsewhere, load with "
            "`base_model`; for use without a network `ram-hf pull` fetches it too."
        ) from error


def _read_adapters(
    name_or_path: str | os.PathLike[str], variant: str | None, hub: Mapping[str, Any]
) -> dict[str, Tensor]:
    name = "model.safetensors" if variant is None else f"model.{variant}.safetensors"
    return load_file(cached_file(name_or_path, name, **hub))


def _difference(clip: CLIPModel, config: RamConfig) -> str:
    for tower in ("vision_config", "text_config"):
        found, right = getattr(clip.config, tower), getattr(config.clip_config, tower)
        for field in _SIZES:
            if getattr(found, field, None) != getattr(right, field, None):
                return f"its `{tower}.{field}` is {getattr(found, field)}, not {getattr(right, field)}"
    return "it has the same shape and other weights, or another dtype"


def _is_same(base: Tensor | None, tensor: Tensor | None) -> bool:
    if base is None or tensor is None or base.shape != tensor.shape or tensor.device.type == "meta":
        return False
    return torch.equal(base.to(tensor.dtype), tensor.detach().cpu())


def _shown(name_or_path: str | os.PathLike[str] | None) -> str:
    return repr(os.fspath(name_or_path)) if name_or_path is not None else "The given model"


__all__ = ["fingerprint", "leaving_out_clip", "load_joined"]
