"""A model by its name: a RAM as it is, a CLIP made into a training-free one, each with its processor."""

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    StrictDataclassFieldValidationError,
)
from transformers import CLIPConfig

from .hub_errors import explain
from .model.bundled import find_bundled
from .model.checkpoint_kind import kind_of_checkpoint, read_json_object
from .model.configuration_ram import RamConfig, check_field_names
from .model.hub_names import intended_id, split_revision
from .model.loaded_weights import PickleRefusedError, refuse_incomplete, refuse_nonsense
from .model.modeling_ram import RamModel
from .model.processing_ram import RamProcessor
from .model.processor_fit import refuse_misfit
from .model.weight_files import refuse_foreign_weights

# What a RAM checkpoint has fixed: its weights have this shape, or this value was only where they began.
_FIXED_IN_A_CHECKPOINT = ("local_temperature",)
_FIXED_BY_ADAPTERS = ("ladder_layers", "aggregation_kernel_size")
_LAYERS = ("ladder_layers", "prompt_layers")
_GIVEN_WITH_TOKENS = ("ladder_layers", "ladder_tokens", "prompt_tokens")  # by `add_learned_tokens`


def load_model(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    dtype: torch.dtype | None = None,
    config: Mapping[str, Any] | None = None,
    for_training: bool = False,
) -> tuple[RamModel, RamProcessor]:
    """Load a RAM model, or a CLIP as a training-free one, and its processor.

    Args:
        name_or_path: id on the Hub, also as "owner/name@revision", folder, or a model of the package such as
            "ram-photo".
        revision: of a Hub repository: branch, tag or commit.
        dtype: of the weights; that of the checkpoint when left out.
        config: fields of [`RamConfig`] to set: of a CLIP all but `clip_config`, of a RAM those that its weights do not
            fix: a training-free one may be given adapters and prompts in any layers. `ladder_tokens` and
            `prompt_tokens` are what a model without any is given; one that has them keeps its own.
        for_training: make of a CLIP what training begins with, not what is best without it, and give a training-free
            RAM adapters and learned tokens.

    Returns:
        The model, in evaluation mode, and its processor.

    Raises:
        FileNotFoundError: when there is no such model, neither here nor on the Hub.
        ConnectionError: when it is not in the cache and the Hub cannot be reached.
        ValueError: when a folder is asked for a revision, the checkpoint is neither a RAM nor a CLIP, its weights are
            incomplete, not finite or do not fit its configuration, a file of it is damaged, its processor is of
            another model, or `config` cannot be had of it.
    """
    name_or_path = os.path.expanduser(name_or_path)
    name_or_path, revision = split_revision(name_or_path, revision)
    if revision not in (None, "main") and os.path.isdir(name_or_path):  # "main" is what is there
        raise ValueError(f"{os.fspath(name_or_path)!r} is a folder, which has no revisions: leave out {revision!r}.")
    where: dict[str, Any] = {} if revision is None else {"revision": revision}
    options = where if dtype is None else {**where, "dtype": dtype}
    try:
        kind = kind_of_checkpoint(name_or_path, **where)
    except OSError as error:
        raise _in_one_line(os.fspath(name_or_path), error) from error
    fields = dict(config or {})
    with _telling("weights", name_or_path):
        folder = find_bundled(os.fspath(name_or_path))
        if os.path.isdir(folder):  # what comes from the Hub is looked at when it is here
            refuse_foreign_weights(folder, _clip_beside(folder, kind))
        if fields:
            _refuse_fields(fields, _described(folder, kind, **where))
        if kind == "clip":
            model = RamModel.from_clip(name_or_path, config=fields, for_training=for_training, **options)
        else:
            model = RamModel.from_pretrained(name_or_path, **options)
            refuse_incomplete(model, name_or_path)
            _set_fields(model, fields, os.fspath(name_or_path), for_training=for_training)
    refuse_nonsense(model, name_or_path)
    with _telling("image processor or tokenizer", name_or_path):
        processor = RamProcessor.from_pretrained(name_or_path, **where)
    refuse_misfit(processor, model.clip.config)
    return model, processor


def load_config(name_or_path: str | os.PathLike[str]) -> RamConfig | None:
    """The configuration of a RAM model, without its weights; None for a CLIP.

    Raises:
        FileNotFoundError: when there is no such model, neither here nor on the Hub.
        ConnectionError: when it is not in the cache and the Hub cannot be reached.
        ValueError: when it is neither a RAM nor a CLIP, or its configuration is wrong.
    """
    name, revision = split_revision(os.path.expanduser(name_or_path), None)
    where = {} if revision is None else {"revision": revision}
    try:
        kind = kind_of_checkpoint(name, **where)
        return None if kind == "clip" else RamConfig.from_pretrained(name, **where)
    except OSError as error:
        raise _in_one_line(os.fspath(name), error) from error


def _clip_beside(folder: str | os.PathLike[str], kind: str | None) -> CLIPConfig | None:
    """The CLIP that a folder's configuration says its weights hold; None where they are adapters alone."""
    if kind == "clip":
        return CLIPConfig.from_pretrained(folder)
    config = RamConfig.from_pretrained(folder)
    return None if config.base_model_fingerprint is not None else config.clip_config


def _described(name_or_path: str | os.PathLike[str], kind: str, **where: Any) -> RamConfig:
    """The configuration that fields are set in, of a RAM or around a CLIP's; where it is wrong, its file is."""
    if kind == "ram":
        return RamConfig.from_pretrained(name_or_path, **where)
    return RamConfig(clip_config=CLIPConfig.from_pretrained(name_or_path, **where), prompt_tokens=0)


def _refuse_fields(fields: Mapping[str, Any], config: RamConfig) -> None:
    """Refuse what `config` cannot hold, before weights are read: they are not to blame. It is set there."""
    check_field_names(fields)
    if "clip_config" in fields:
        raise ValueError("`config` sets `clip_config`, which comes with the checkpoint: leave it out.")
    for field, value in fields.items():
        try:
            setattr(config, field, value)
        except StrictDataclassFieldValidationError as error:
            right = inspect.formatannotation(RamConfig.__dataclass_fields__[field].type)
            raise ValueError(f"`config` sets `{field}` to {value!r}, but it must be of type {right}.") from error
    config.validate_architecture()


@contextmanager
def _telling(part: str, name_or_path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the file or the part that cannot be read, where a library below says something of its own."""
    try:
        yield
    except PickleRefusedError:
        raise
    except Exception as error:
        folder = Path(find_bundled(os.fspath(name_or_path)))
        for file in sorted(folder.glob("*.json")):
            read_json_object(file)  # raises, with its name, what made a reader stumble
        if explanation := None if isinstance(error, ValueError) else explain(error):
            raise ConnectionError(f"The {part} of {os.fspath(name_or_path)!r} cannot be had. {explanation}") from error
        if isinstance(error, ValueError | OSError) and not isinstance(error, UnicodeError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"The {part} of {os.fspath(name_or_path)!r} cannot be read ({type(error).__name__}: {reason}): a file is "
            "damaged, cut short or of another model. Get it again."
        ) from error


def _set_fields(model: RamModel, fields: Mapping[str, Any], name: str, *, for_training: bool) -> None:
    # `null` lets a model have the layers that it would have anyway, as of a CLIP.
    fields = {field: value for field, value in fields.items() if value is not None or field not in _LAYERS}
    # A model with learned tokens is given no others, and no adapters: parts that it lacks stay away.
    has_tokens = bool(model.config.ladder_tokens or model.config.prompt_tokens)
    fixed = {
        *_FIXED_IN_A_CHECKPOINT,
        *(_FIXED_BY_ADAPTERS if model.ladder or has_tokens else ()),
        *(_LAYERS if has_tokens else ()),
    }
    for field, value in fields.items():
        present = getattr(model.config, field)
        if field in fixed and value != present:
            raise ValueError(
                f"`config` sets `{field}` but the RAM checkpoint {name!r} has {present!r}; "
                "start from a CLIP to choose it."
            )
        if field not in _GIVEN_WITH_TOKENS:
            setattr(model.config, field, value)
    given = {field: fields[field] for field in _GIVEN_WITH_TOKENS if field in fields}
    if has_tokens:
        return
    if for_training and not model.has_trained_adapters:  # it may have been saved with adapters that add nothing
        model.add_learned_tokens(**given)
    elif given:
        model.add_learned_tokens(**{"ladder_tokens": 0, "prompt_tokens": 0, **given})


def _in_one_line(name: str, error: OSError) -> OSError:
    """What a paragraph of transformers' means; the Hub client's own error is its cause."""
    is_path = isinstance(error, FileNotFoundError) or name.startswith((".", os.sep))
    if is_path or isinstance(error.__cause__, HFValidationError):
        hint = f" Did you mean {intended!r}?" if (intended := intended_id(name)) else ""
        return FileNotFoundError(
            f"There is no model {name!r}: no such folder, and a Hub id looks like 'owner/name'.{hint}"
        )
    if isinstance(error.__cause__, RepositoryNotFoundError) and not isinstance(error.__cause__, GatedRepoError):
        return FileNotFoundError(f"There is no model {name!r}: no such folder. {explain(error)}")
    if explanation := explain(error):
        return ConnectionError(f"The model {name!r} is neither a folder nor in the cache. {explanation}")
    return ConnectionError(
        f"The model {name!r} is neither a folder nor in the cache, and the Hub cannot be reached; check the network, "
        "and whether HF_HUB_OFFLINE is set."
    )


__all__ = ["load_config", "load_model"]
