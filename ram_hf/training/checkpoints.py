"""Checkpoints of a training run: written whole or not at all, small because the frozen CLIP is left out."""

import io
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

from ..atomic import NoRoomError, whole_folder, write_whole

_FACTS = "facts.json"
_FORMAT = "step-{:08d}"
_NAME = re.compile(r"step-\d{8}")
_UNFINISHED = re.compile(r"\.step-\d{8}\..+")  # what `whole_folder` writes in
_PUT_ASIDE = re.compile(r"\.(step-\d{8})\.old-\d+")  # by `whole_folder`, while another takes its place


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

    A full disk or a killed process leaves the checkpoints before it whole; what such a process left is removed.

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
    target = folder / _FORMAT.format(checkpoint.step)
    try:
        with whole_folder(target, replace=True) as unfinished:
            _write(unfinished, checkpoint)
    except Exception as error:  # the formats wrap a full disk in errors of their own
        newest = find_newest(folder)
        left = f"The last whole checkpoint is {newest}." if newest else "There is no earlier checkpoint."
        reason = error.strerror if isinstance(error, NoRoomError) else error
        raise OSError(f"Checkpoint {target} cannot be written: {reason}. {left}") from error
    for old in {*_all(folder)[:-keep], *_left_by_killed_processes(folder)}:
        shutil.rmtree(old)
    return target


def find_newest(folder: str | os.PathLike) -> Path | None:
    """The newest whole checkpoint in `folder`, or None."""
    found = _all(Path(folder))
    return found[-1] if found else None


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is a checkpoint of a run, which holds more than a model."""
    return (Path(path) / _FACTS).is_file()


def load_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        ValueError: when it is damaged.
    """
    path = Path(path)
    try:
        facts = json.loads((path / _FACTS).read_text())
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
    state = io.BytesIO()  # not to the file: where the disk is full, PyTorch speaks of something else
    torch.save({"optimizers": checkpoint.optimizers, "processes": checkpoint.processes}, state)
    write_whole(folder / "state.pt", state.getvalue())
    write_whole(folder / _FACTS, json.dumps({"step": checkpoint.step, **checkpoint.facts}, indent=1))


def _save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, path)


def _all(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found: dict[str, Path] = {}
    for path in folder.iterdir():
        if _NAME.fullmatch(path.name):
            found[path.name] = path
        elif aside := _PUT_ASIDE.fullmatch(path.name):  # and killed before the other had taken it
            found.setdefault(aside[1], path)
    return [found[name] for name in sorted(found)]


def _left_by_killed_processes(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _UNFINISHED.fullmatch(path.name)]


__all__ = ["Checkpoint", "find_newest", "is_checkpoint", "load_checkpoint", "save_checkpoint"]
