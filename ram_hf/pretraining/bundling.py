"""Write a trained model as it comes with the package: small, and without the code, which the package has."""

import json
import os
import shutil
from pathlib import Path

import torch

from ..atomic import whole_files, write_whole
from ..model.modeling_ram import RamModel
from ..model.processing_ram import RamProcessor
from ..model.run_record import find_run_file

# How a tokenizer was told to cut texts when it was used last, which is saved with it.
_LAST_CALL = ("max_length", "stride", "truncation_strategy")


def write_bundle(trained: str | os.PathLike, folder: str | os.PathLike) -> int:
    """Write model, processor and the record of the run into a folder, beside what stands there.

    Matrices and kernels are kept in half precision, statistics, norms and temperatures in full; all load in float32,
    the precision that the configuration names.

    Args:
        trained: folder of a trained model.
        folder: to write, such as `ram_hf/bundled/ram-photo`.

    Returns:
        Size of the weights, bytes.

    Raises:
        NoRoomError: when the disk is full; what was there stays.
    """
    model, folder = RamModel.from_pretrained(trained, dtype=torch.float32), Path(folder)
    model.config.base_model_name_or_path = None  # a folder of the machine that trained it
    weights = {
        name: value.half() if value.is_floating_point() and value.dim() > 1 else value
        for name, value in model.state_dict().items()
    }
    processor = RamProcessor.from_pretrained(trained)
    with whole_files(folder) as unfinished:
        model.save_pretrained(unfinished, state_dict=weights)
        processor.save_pretrained(unfinished)
        _leave_out_code(unfinished)
        if run_file := find_run_file(trained):  # for the card, where the bundle is pushed
            shutil.copy(run_file, unfinished)
        (unfinished / "model.safetensors").chmod(0o644)  # safetensors lets nobody else read it
    return (folder / "model.safetensors").stat().st_size


def _leave_out_code(folder: Path) -> None:
    for file in folder.glob("*.py"):
        file.unlink()
    for file in folder.glob("*config.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        for key in ("auto_map", "is_local", "local_files_only", *_LAST_CALL):  # its code, and how it was used before
            content.pop(key, None)
        content.get("clip_config", {}).pop("_name_or_path", None)
        write_whole(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


__all__ = ["write_bundle"]
