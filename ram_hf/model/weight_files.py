"""What the weights of a folder say of themselves, read before memory is spent on them: their headers alone."""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import CLIPConfig

from .checkpoint_kind import read_json_object
from .loaded_weights import some

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_FLOATS = ("F", "BF")  # safetensors' names of kinds of numbers begin so: F16, F32, BF16, F8_E4M3
_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_COUNTER = ".num_batches_tracked"


def refuse_foreign_weights(folder: str | os.PathLike[str], clip_config: CLIPConfig | None) -> None:
    """Refuse a folder whose weights cannot be those of its configuration; nothing is done where it has none.

    Args:
        folder: of the checkpoint.
        clip_config: of the CLIP that the weights hold; None where they hold adapters alone.

    Raises:
        ValueError: when its index names a file elsewhere, a tensor holds no floating point numbers, or the
            configuration asks for more than twice the numbers that there are.
    """
    num_numbers, strange = 0, []
    for name, shape, dtype in _headers(Path(folder)):
        num_numbers += math.prod(shape)
        if not dtype.startswith(_FLOATS) and not name.endswith(_COUNTER):
            strange.append(f"{name} ({dtype})")
    if strange:
        raise ValueError(
            f"The weights in {os.fspath(folder)!r} must be floating point numbers, got {some(strange)}. A quantised "
            "model cannot be read here."
        )
    asked = _numbers_of(clip_config) if clip_config is not None else 0
    if num_numbers and asked > 2 * num_numbers:  # of none it is told which are missing
        raise ValueError(
            f"The `config.json` in {os.fspath(folder)!r} describes a CLIP of {asked:,} numbers, but its weights hold "
            f"{num_numbers:,}: they do not fit each other. Get weights and configuration of the same model."
        )


def as_stored(folder: str | os.PathLike[str], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in the types of the folder that they were loaded from, which half precision widened loses nothing by.

    Args:
        folder: of the checkpoint.
        weights: by name; those that are not in the folder stay as they are.
    """
    stored = {name: _TYPES[dtype] for name, _, dtype in _headers(Path(folder)) if dtype in _TYPES}
    return {name: tensor.to(stored.get(name, tensor.dtype)) for name, tensor in weights.items()}


def _headers(folder: Path) -> Iterator[tuple[str, list[int], str]]:
    """Name, shape and type of each tensor, the type by safetensors' name for it; none where there are no weights."""
    for file in _weight_files(folder):
        if file.is_file():
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  (it is no dictionary)
                    part = tensors.get_slice(name)
                    yield name, part.get_shape(), part.get_dtype()


def _weight_files(folder: Path) -> Iterator[Path]:
    if (folder / _WEIGHTS).is_file() or not (folder / _INDEX).is_file():
        yield folder / _WEIGHTS
        return
    shards = read_json_object(folder / _INDEX).get("weight_map")
    if not isinstance(shards, dict):
        raise ValueError(f"{str(folder / _INDEX)!r} has no object `weight_map` that names a file for each tensor.")
    for name in sorted({str(name) for name in shards.values()}):
        if name != os.path.basename(name) or name in (os.curdir, os.pardir, ""):
            raise ValueError(f"{str(folder / _INDEX)!r} names {name!r}, which is no file beside it.")
        if not (folder / name).is_file():
            raise ValueError(f"{str(folder / _INDEX)!r} names {name!r}, which is not there. Get the whole checkpoint.")
        yield folder / name


def _numbers_of(clip_config: CLIPConfig) -> int:
    """About as many as such a CLIP has: the matrices of its layers and its embeddings."""
    vision, text = clip_config.vision_config, clip_config.text_config
    patches = vision.patch_size**2 * vision.num_channels + (vision.image_size // vision.patch_size) ** 2
    return _layers(vision, patches) + _layers(text, text.vocab_size + text.max_position_embeddings)


def _layers(tower: Any, rows: int) -> int:
    matrices = 4 * tower.hidden_size + 2 * tower.intermediate_size
    return tower.hidden_size * (tower.num_hidden_layers * matrices + rows)


__all__ = ["as_stored", "refuse_foreign_weights"]
