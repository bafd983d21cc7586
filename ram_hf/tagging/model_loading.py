"""A model for a command: loaded without the lines that libraries print, on the device that was asked for."""

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from ..model.modeling_ram import RamModel
    from ..model.processing_ram import RamProcessor
    from .index import ImageIndex


def load_quietly(name_or_path: str) -> tuple["RamModel", "RamProcessor"]:
    """See [`load_model`]; what goes wrong becomes an error of one line."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    logging.disable_progress_bar()  # weights load in a moment, and this is about pictures
    for library in (logging, hub_logging):
        library.set_verbosity_error()
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of oddities that matter only where they become errors
    from ..pretrained import load_model

    return load_model(name_or_path)


def load_for_index(index: "ImageIndex", name: str | None = None) -> tuple["RamModel", "RamProcessor"]:
    """The model by which an index was made, or one of another name that computes the same features.

    Raises:
        ValueError: when it computes other features.
    """
    from .feature_encoder import feature_fingerprint

    made_by = index.description.model
    model, processor = load_quietly(name or made_by)
    if feature_fingerprint(model, processor) != index.description.fingerprint:
        other = f"{name!r} computes" if name else "what has that name now computes"
        raise ValueError(
            f"The index {str(index.folder)!r} was made by the model {made_by!r}, and {other} other features: name "
            "that model with `--model`, or make the index again."
        )
    return model.eval(), processor


def device_of(name: str) -> "str | torch.device":
    """The device of a name, where "auto" is an accelerator if there is one."""
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return (accelerator or "cpu") if name == "auto" else name


__all__ = ["device_of", "load_for_index", "load_quietly"]
