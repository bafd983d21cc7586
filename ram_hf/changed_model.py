"""Writing a model that was changed without training, with all that belongs to the one that it was made of."""

import os
import shutil
from pathlib import Path

from .model.bundled import find_bundled
from .model.checkpoint_kind import kind_of_checkpoint
from .model.configuration_ram import RamConfig
from .model.modeling_ram import RamModel
from .model.processing_ram import RamProcessor
from .model.run_record import find_run_file

_WORDS_BESIDE_A_MODEL = ("README.md", "LICENSE*", "NOTICE*")


def write_changed_model(
    folder: Path, ram: RamModel, processor: RamProcessor, *, source: str, with_words: bool = True
) -> None:
    """Write model and processor; a checkpoint of adapters alone stays one.

    Args:
        folder: to write into, unfinished as it may be.
        ram: the changed model.
        processor: as it was loaded: use leaves its padding in a tokenizer.
        source: id on the Hub or folder of the model that it was made of.
        with_words: copy what belongs to that beside its weights: the record of its training, licences, a card.

    Raises:
        OSError: when it cannot be written.
    """
    source = find_bundled(source)
    adapters_only = kind_of_checkpoint(source) != "clip" and _holds_adapters_only(source)
    if with_words:
        files = [file for pattern in _WORDS_BESIDE_A_MODEL for file in sorted(Path(source).glob(pattern))]
        if run_file := find_run_file(source):
            files.append(Path(run_file))
        for file in files:
            shutil.copy(file, folder)
    ram.save_pretrained(folder, adapters_only=adapters_only)
    processor.save_pretrained(folder)


def _holds_adapters_only(source: str | os.PathLike[str]) -> bool:
    return RamConfig.from_pretrained(source).base_model_fingerprint is not None


__all__ = ["write_changed_model"]
