"""Checkpoints of a training run: written whole or not at all, small because the frozen CLIP is left out."""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.utils import logging

logger = logging.get_logger(__name__)

_FORMAT = "step-{:08d}"
_NAME = re.compile(r"step-(\d{8})")


class Checkpoint(NamedTuple):
    """What is needed to go on as if the run had never stopped.

    Attributes:
        step: optimizer steps that were done.
        weights: trained weights and batch statistics, by name.
        average: their moving average, by name; empty without averaging.
        optimizers: state of each optimizer, and of the gradient scaler where there is one.
        processes: for each process its place in the stream and its random states.
        facts: small numbers and texts, kept as JSON.
    """

    step: int
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizers: list[dict[str, Any]]
    processes: list[dict[str, Any]]
    facts: dict[str, Any]


def save_checkpoint(folder: str | os.PathLike, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write a checkpoint into `folder`, and remove the oldest beyond `keep`.

    It is written under another name and renamed when it is complete and on the disk, so that a full disk or a killed
    process leaves the checkpoints before it whole.

    Args:
        folder: of all checkpoints of the run.
        checkpoint: what to write.
        keep: number of newest checkpoints that stay, >= 1.

    Returns:
        Its folder.

    Raises:
        OSError: when it cannot be written, with what is left in `folder`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / _FORMAT.format(checkpoint.step)
    partial = target.with_name(f"partial-{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        _write(partial, checkpoint)
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    except Exception as error:  # the formats wrap a full disk in errors of their own
        shutil.rmtree(partial, ignore_errors=True)
        newest = find_newest(folder)
        left = f"The last whole checkpoint is {newest}." if newest else "There is no earlier checkpoint."
        raise OSError(f"Checkpoint {target} cannot be written: {error}. {left}") from error
    for old in _all(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def find_newest(folder: str | os.PathLike) -> Path | None:
    """The newest whole checkpoint in `folder`, or None."""
    found = _all(Path(folder))
    return found[-1] if found else None


def load_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        ValueError: when it is damaged.
    """
    path = Path(path)
    try:
        facts = json.loads((path / "facts.json").read_text())
        state = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
        return Checkpoint(
            step=facts.pop("step"),
            weights=load_file(path / "weights.safetensors"),
            average=load_file(path / "average.safetensors"),
            optimizers=state["optimizers"],
            processes=state["processes"],
            facts=facts,
        )
    except Exception as error:
        raise ValueError(
            f"Checkpoint {path} cannot be read ({error}). Remove it to go on from the one before it."
        ) from error


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    _save_tensors(checkpoint.weights, folder / "weights.safetensors")
    _save_tensors(checkpoint.average, folder / "average.safetensors")
    torch.save({"optimizers": checkpoint.optimizers, "processes": checkpoint.processes}, folder / "state.pt")
    (folder / "facts.json").write_text(json.dumps({"step": checkpoint.step, **checkpoint.facts}, indent=1))
    for file in folder.iterdir():
        _flush(file)
    _flush(folder)


def _save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)


def _flush(path: Path) -> None:
    """Wait until the disk has it: a rename must not overtake what it names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _all(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
