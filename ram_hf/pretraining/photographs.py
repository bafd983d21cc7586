"""Photographs decoded once, so that no step of a training waits for a decoder: squares of pixels mapped from a file.

A folder holds `pixels.npy` (N, S, S, 3) uint8 and, written last, `rows.parquet`: what is known of each photograph.
"""

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ..atomic import whole_file

_ROW_FIELDS = ("labels", "labels_exact", "caption", "source")
_AT_ONCE = 512


@dataclass
class Photographs:
    """N photographs and what is said of them.

    Attributes:
        pixels: shape (N, S, S, 3), uint8, mapped from a file; the whole image, squeezed into a square.
        labels: names of things that are in each.
        labels_exact: the same of the labels that are complete where they are given at all; None where they are not.
        captions: a sentence about each, or None.
        sources: where each is from.
        files: name of the file that each is from.
    """

    pixels: np.ndarray
    labels: list[list[str]]
    labels_exact: list[list[str] | None]
    captions: list[str | None]
    sources: list[str]
    files: list[str]

    def __len__(self) -> int:
        return len(self.labels)


def decode_photographs(
    files: Sequence[str | os.PathLike], folder: str | os.PathLike, *, size: int, threads: int = 2
) -> Photographs:
    """Decode all rows of some files into a folder, unless that is done already.

    Args:
        files: Parquet files with `image` (bytes) and `labels`, and maybe `labels_exact`, `caption`, `source`.
        folder: to write.
        size: side of the squares, pixels.
        threads: that decode at the same time.

    Raises:
        NoRoomError: when the disk is full; nothing of it is left.
        ValueError: when the folder holds other photographs, or of another size, or a row cannot be decoded.
    """
    folder = Path(folder)
    if not (folder / "rows.parquet").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _write_pixels([Path(file) for file in files], folder / "pixels.npy", size=size, threads=threads)
        with whole_file(folder / "rows.parquet") as unfinished:
            pq.write_table(pa.concat_tables(_rows_of(Path(file)) for file in files), unfinished)
    photographs = open_photographs(folder)
    found = list(dict.fromkeys(photographs.files)), photographs.pixels.shape[1]
    wanted = [Path(file).name for file in files], size
    if found != wanted:
        raise ValueError(
            f"{folder} holds {found[0]} at {found[1]} px, but {wanted[0]} at {wanted[1]} px are asked for."
        )
    return photographs


def open_photographs(folder: str | os.PathLike) -> Photographs:
    """Open what [`decode_photographs`] wrote.

    Raises:
        FileNotFoundError: when the folder does not hold decoded photographs.
    """
    folder = Path(folder)
    if not (folder / "rows.parquet").is_file():
        raise FileNotFoundError(f"{folder} holds no decoded photographs (`rows.parquet` is written last).")
    rows = pq.read_table(folder / "rows.parquet").to_pydict()
    return Photographs(
        pixels=np.load(folder / "pixels.npy", mmap_mode="r"),
        labels=rows["labels"],
        labels_exact=rows["labels_exact"],
        captions=rows["caption"],
        sources=rows["source"],
        files=rows["file"],
    )


def array_header(shape: tuple[int, ...], dtype: type[np.generic]) -> bytes:
    """What stands in a `.npy` file before the numbers."""
    header = io.BytesIO()
    description = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(header, {"descr": description, "fortran_order": False, "shape": shape})
    return header.getvalue()


def held_back(files: Sequence[str], *, every: int) -> np.ndarray:
    """Rows that are kept apart for choices: each `every`-th of each file.

    The rows of the files are shuffled already, so that counting is as good as drawing, and needs no seed.

    Args:
        files: name of the file that each of N rows is from.
        every: 16 keeps one in 16 apart.

    Returns:
        Shape (N,), bool.
    """
    place: dict[str, int] = {}
    kept = np.zeros(len(files), dtype=bool)
    for row, file in enumerate(files):
        place[file] = place.get(file, -1) + 1
        kept[row] = place[file] % every == every - 1
    return kept


def _write_pixels(files: Sequence[Path], target: Path, *, size: int, threads: int) -> None:
    count = sum(pq.ParquetFile(file).metadata.num_rows for file in files)
    # Not through a map: where the disk is full, writing to one ends the process without a word.
    with whole_file(target) as unfinished, unfinished.open("wb") as pixels, ThreadPoolExecutor(threads) as pool:
        pixels.write(array_header((count, size, size, 3), np.uint8))
        first = 0
        for file in files:
            for batch in pq.ParquetFile(file).iter_batches(_AT_ONCE, columns=["image"]):
                images = batch.column("image").to_pylist()
                places = [f"row {first + number} ({file.name})" for number in range(len(images))]
                pixels.writelines(image.tobytes() for image in pool.map(_decode, images, places, [size] * len(images)))
                first += len(images)


def _decode(data: bytes, place: str, size: int) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))
    except (OSError, TypeError) as error:
        raise ValueError(f"The image of {place} cannot be decoded: {error}.") from error


def _rows_of(file: Path) -> pa.Table:
    table = pq.read_table(file)
    known = {name: table.column(name) for name in _ROW_FIELDS if name in table.column_names}
    empty = {"labels_exact": pa.list_(pa.string()), "caption": pa.string(), "source": pa.string()}
    columns = [known.get(name, pa.nulls(len(table), empty.get(name))) for name in _ROW_FIELDS]
    names = pa.array([file.name] * len(table))
    types = [pa.list_(pa.string()), empty["labels_exact"], pa.string(), pa.string(), pa.string()]
    cast = [column.cast(kind) for column, kind in zip([*columns, names], types, strict=True)]
    return pa.table(dict(zip([*_ROW_FIELDS, "file"], cast, strict=True)))


__all__ = ["Photographs", "array_header", "decode_photographs", "held_back", "open_photographs"]
