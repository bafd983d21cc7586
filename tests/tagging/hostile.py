"""Real files of the kinds that strangers send."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth picture with some detail, as photographs are."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def save_photographs(folder: Path, number: int, *, size: tuple[int, int] = (60, 40)) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:04d}.jpg" for index in range(number)]
    for index, path in enumerate(paths):
        photograph(*size, seed=index).save(path, quality=90)
    return paths


def save_png_bomb(path: Path, side: int = 60_000) -> None:
    """All of its pixels are there: black, one bit each, in a file of a few hundred kilobytes."""
    compressor = zlib.compressobj(1)
    row = bytes(1 + side // 8)
    data = b"".join(compressor.compress(row * 100) for _ in range(side // 100)) + compressor.flush()
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, content in (
            (b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)),
            (b"IDAT", data),
            (b"IEND", b""),
        ):
            file.write(struct.pack(">I", len(content)) + kind + content)
            file.write(struct.pack(">I", zlib.crc32(kind + content)))


def save_truncated(path: Path, image_format: str = "JPEG") -> None:
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(path, image_format)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def save_frames(path: Path, colours: tuple[str, ...] = ("red", "green", "blue")) -> None:
    """An animation or a file of many pages, by its extension."""
    first, *others = (Image.new("RGB", (40, 30), colour) for colour in colours)
    first.save(path, save_all=True, append_images=others)
