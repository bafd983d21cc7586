"""A model for a command: loaded without the lines that libraries print, on the device that was asked for."""

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from ..model.modeling_ram import RamModel
    from ..model.processing_ram import RamProcessor


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


def device_of(name: str) -> "str | torch.device":
    """The device of a name, where "auto" is an accelerator if there is one."""
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return (accelerator or "cpu") if name == "auto" else name


__all__ = ["device_of", "load_quietly"]
