"""A model by its name: a RAM as it is, a CLIP made into a training-free one, each with its processor."""

import os

from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

from .model.configuration_ram import RamConfig
from .model.modeling_ram import RamModel
from .model.processing_ram import RamProcessor


def load_model(name_or_path: str | os.PathLike) -> tuple[RamModel, RamProcessor]:
    """Load a RAM model, or a CLIP as a training-free one, and its processor.

    Raises:
        FileNotFoundError: when there is no such model, neither here nor on the Hub.
        ConnectionError: when it is not in the cache and the Hub cannot be reached.
        ValueError: when the checkpoint is neither a RAM nor a CLIP.
    """
    try:
        content, _ = RamConfig.get_config_dict(name_or_path)
    except OSError as error:
        raise _in_one_line(os.fspath(name_or_path), error) from error
    is_ram = content.get("model_type") == RamConfig.model_type
    model = RamModel.from_pretrained(name_or_path) if is_ram else RamModel.from_clip(name_or_path)
    return model, RamProcessor.from_pretrained(name_or_path)


def _in_one_line(name: str, error: OSError) -> OSError:
    """What a paragraph of transformers' means; the Hub client's own error is its cause."""
    if isinstance(error.__cause__, HFValidationError) or name.startswith((".", "~", os.sep)):
        return FileNotFoundError(f"There is no model {name!r}: no such folder, and a Hub id looks like 'owner/name'.")
    if isinstance(error.__cause__, RepositoryNotFoundError):
        return FileNotFoundError(
            f"There is no model {name!r}: no such folder, and the Hub has none of that name that you may read "
            "(`hf auth login` opens private and gated ones)."
        )
    return ConnectionError(
        f"The model {name!r} is neither a folder nor in the cache, and the Hub cannot be reached; check the network, "
        "and whether HF_HUB_OFFLINE is set."
    )


__all__ = ["load_model"]
