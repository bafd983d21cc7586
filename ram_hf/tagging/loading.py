"""The model of a command about pictures, without a word from the libraries."""

import warnings
from typing import TYPE_CHECKING

import torch
from huggingface_hub.utils import logging as hub_logging
from transformers.utils import logging

from ..pretrained import load_model

if TYPE_CHECKING:
    from ..model.modeling_ram import RamModel
    from ..model.processing_ram import RamProcessor


def load_quietly(name: str) -> "tuple[RamModel, RamProcessor]":
    """A model and its processor; arguments and errors are those of [`load_model`]."""
    logging.disable_progress_bar()  # weights load in a moment, and this is about pictures
    for library in (logging, hub_logging):  # what goes wrong becomes an error of one line
        library.set_verbosity_error()
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of oddities that matter only where they become errors
    return load_model(name)


def pick_device(name: str) -> torch.device:
    """The device of that name, or of "auto" the fastest one."""
    if name != "auto":
        return torch.device(name)
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


__all__ = ["load_quietly", "pick_device"]
