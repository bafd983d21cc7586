"""The model of a command about pictures, without a word from the libraries."""

import warnings
from typing import TYPE_CHECKING

import torch
from huggingface_hub.utils import logging as hub_logging
from transformers.utils import logging

from ..pretrained import load_model
from .feature_encoder import feature_fingerprint

if TYPE_CHECKING:
    from ..model.modeling_ram import RamModel
    from ..model.processing_ram import RamProcessor
    from .index import ImageIndex


def load_quietly(name: str, *, dtype: str | None = None) -> "tuple[RamModel, RamProcessor]":
    """A model and its processor; errors are those of [`load_model`].

    Args:
        name: as [`load_model`] takes it.
        dtype: what the model computes in, as torch calls it; None for that of the checkpoint.
    """
    logging.disable_progress_bar()  # weights load in a moment, and this is about pictures
    for library in (logging, hub_logging):  # what goes wrong becomes an error of one line
        library.set_verbosity_error()
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of oddities that matter only where they become errors
    return load_model(name, dtype=None if dtype is None else getattr(torch, dtype))


def load_for_index(index: "ImageIndex", name: str | None = None) -> "tuple[RamModel, RamProcessor]":
    """The model by which an index was made, or one of another name that computes the same features.

    Raises:
        ValueError: when it computes other features.
    """
    made_by = index.description.model
    model, processor = load_quietly(name or made_by)
    if feature_fingerprint(model, processor) != index.description.fingerprint:
        other = f"{name!r} computes" if name else "what has that name now computes"
        raise ValueError(
            f"The index {str(index.folder)!r} was made by the model {made_by!r}, and {other} other features: name "
            "that model with `--model`, or make the index again."
        )
    return model.eval(), processor


def pick_device(name: str) -> torch.device:
    """The device of that name, or of "auto" the fastest one."""
    if name != "auto":
        return torch.device(name)
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


__all__ = ["load_for_index", "load_quietly", "pick_device"]
