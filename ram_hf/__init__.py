"""Recover and Match (RAM, arXiv 2503.15337) for Hugging Face: tag pictures with any list of label names.

Importing this package costs milliseconds and loads no torch: names resolve on first access, and the classes are made
known to transformers' Auto classes and `pipeline` when those are first there.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from . import registration

__version__ = "0.1.0.dev0"

_EXPORTS = {
    "COMMON_NOUNS": ".model.common_nouns",
    "RamConfig": ".model.configuration_ram",
    "RamModel": ".model.modeling_ram",
    "RamOutput": ".model.modeling_ram",
    "RamPreTrainedModel": ".model.modeling_ram",
    "RamProcessor": ".model.processing_ram",
    "RamTaggingPipeline": ".model.pipeline_ram",
    "convert_original_checkpoint": ".conversion.original_checkpoint",
}

__all__ = [*sorted(_EXPORTS), "__version__"]

if TYPE_CHECKING:
    from .conversion.original_checkpoint import convert_original_checkpoint
    from .model.common_nouns import COMMON_NOUNS
    from .model.configuration_ram import RamConfig
    from .model.modeling_ram import RamModel, RamOutput, RamPreTrainedModel
    from .model.pipeline_ram import RamTaggingPipeline
    from .model.processing_ram import RamProcessor


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_EXPORTS[name], __name__), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})


registration.install()
