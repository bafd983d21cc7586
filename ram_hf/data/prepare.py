"""Annotated images as parquet shards that `datasets` reads and streams."""

import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from ..atomic import whole_folder, write_whole
from .annotations import UNKNOWN_COLUMN, AnnotatedImage, Annotations
from .shards import ShardFiles, write_lines

_MISSING = "missing"
_CHUNK = 128  # images in memory at once besides those of the shard that is being filled
_NAMED_IN_ERROR = 5


def write_shards(
    annotations: Annotations,
    output_dir: str | os.PathLike,
    *,
    split: str = "train",
    shard_size: int = 1000,
    skip_broken: bool = False,
    num_workers: int = 4,
    show_progress: bool = False,
) -> dict[str, Any]:
    """Write images and labels as parquet shards; every image is decoded once, to see that it can be.

    The columns are `image` (the bytes of the file, unchanged), `labels` (distinct names, in the order of
    `annotations.labels`), `path` and, where the source has them, `unknown_labels` (that nobody has looked for) and
    `boxes` ({label, x0, y0, x1, y1} in pixels). Beside
    the shards stand `labels.txt`, a `labels_<group>.txt` for each label group, `report.json`, and a `README.md` that
    tells `datasets.load_dataset(output_dir)` which files belong to the split and how many rows it has. The same input
    gives the same bytes.

    Args:
        annotations: what a reader of [`ram_hf.data.annotations`] found.
        output_dir: folder to write, which must be new or empty; it appears when all is written, and not before.
        split: name of the split, which the shards' names begin with.
        shard_size: images of one shard; the last may have fewer.
        skip_broken: leave out images that are missing or that Pillow cannot decode in full, and name them in the
            report.
        num_workers: threads that read and decode.
        show_progress: show a progress bar on stderr.

    Returns:
        The content of `report.json`.

    Raises:
        FileExistsError: when `output_dir` holds something.
        ValueError: when an image is missing or broken and `skip_broken` is off, nothing would be written, or a
            number is below 1. All images are looked at first, and nothing is left behind.
    """
    if shard_size < 1 or num_workers < 1:
        raise ValueError(f"`shard_size` and `num_workers` must be at least 1, got {shard_size} and {num_workers}.")
    with whole_folder(output_dir) as folder:
        writer = _ShardWriter(folder, annotations, split=split, shard_size=shard_size)
        failures: dict[str, str] = {}
        for image, data, failure in _checked(annotations.images, num_workers, show_progress):
            if failure is not None:
                failures[image.name] = failure
            elif skip_broken or not failures:
                writer.add(image, data)
        if failures and not skip_broken:
            raise ValueError(_failure_message(failures, len(annotations.images)))
        if not writer.num_images:
            raise ValueError(f"There is no picture to write: the annotations name {len(annotations.images)}.")
        report = writer.finish(failures)
    return report


class _ShardWriter:
    """Turns images into rows of shards, and counts their labels."""

    def __init__(self, folder: Path, annotations: Annotations, *, split: str, shard_size: int):
        from datasets import Image, List, Value

        columns = {"image": Image(), "labels": List(Value("string")), "path": Value("string")}
        self._has_unknown = any(image.unknown for image in annotations.images)
        if self._has_unknown:
            columns[UNKNOWN_COLUMN] = List(Value("string"))
        if annotations.has_boxes:
            corners = {name: Value("float32") for name in ("x0", "y0", "x1", "y1")}
            columns["boxes"] = List({"label": Value("string"), **corners})
        self._files = ShardFiles(folder, columns, split=split, shard_size=shard_size)
        self._folder, self._annotations, self._split = folder, annotations, split
        self._order = {label: position for position, label in enumerate(annotations.labels)}
        self._label_counts: Counter[str] = Counter()
        self._num_unlabelled = 0

    @property
    def num_images(self) -> int:
        return self._files.num_rows

    def add(self, image: AnnotatedImage, data: bytes) -> None:
        labels = sorted(set(image.labels), key=self._order.__getitem__)
        row: dict[str, Any] = {"image": {"bytes": data, "path": image.name}, "labels": labels, "path": image.name}
        if self._has_unknown:
            row[UNKNOWN_COLUMN] = list(image.unknown)
        if self._annotations.has_boxes:
            row["boxes"] = image.boxes or []
        self._files.add(row)
        self._label_counts.update(labels)
        self._num_unlabelled += not labels

    def finish(self, failures: dict[str, str]) -> dict[str, Any]:
        names = self._files.finish("Written by `ram-hf prepare`; `report.json` has the details.")
        write_lines(self._folder / "labels.txt", self._annotations.labels)
        for group, labels in self._annotations.label_groups.items():
            write_lines(self._folder / f"labels_{group}.txt", labels)
        report = {
            "split": self._split,
            "images": self.num_images,
            "images_without_label": self._num_unlabelled,
            "images_of_label": {label: self._label_counts[label] for label in self._annotations.labels},
            "shards": names,
            "notes": self._annotations.notes,
            "left_out": {
                "missing": [name for name, failure in failures.items() if failure == _MISSING],
                "broken": {name: failure for name, failure in failures.items() if failure != _MISSING},
            },
        }
        write_whole(self._folder / "report.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        return report


def _checked(
    images: Sequence[AnnotatedImage], num_workers: int, show_progress: bool
) -> Iterator[tuple[AnnotatedImage, bytes, str | None]]:
    """Yield each image with the bytes of its file and what is wrong with it, in order."""
    from tqdm import tqdm

    remaining = iter(images)
    with (
        ThreadPoolExecutor(num_workers) as pool,
        tqdm(total=len(images), unit=" pictures", disable=not show_progress) as progress,
    ):
        while chunk := list(islice(remaining, _CHUNK)):
            contents = pool.map(_read_image, [image.file for image in chunk])
            for image, (data, failure) in zip(chunk, contents, strict=True):
                yield image, data, failure
                progress.update()


def _read_image(file: Path) -> tuple[bytes, str | None]:
    from ..model.image_decoding import decode_image

    try:
        data = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return b"", _MISSING
    except (OSError, ValueError) as error:  # a zero byte in the name is a ValueError
        return b"", str(error)
    try:
        decode_image(io.BytesIO(data), "the file")
    except ValueError as error:
        return b"", str(error)
    return data, None


def _failure_message(failures: dict[str, str], num_images: int) -> str:
    num_missing = sum(failure == _MISSING for failure in failures.values())
    first = "; ".join(f"{name} ({failure})" for name, failure in islice(failures.items(), _NAMED_IN_ERROR))
    addresses = [name for name in failures if "://" in name]
    more = f"; and {len(failures) - _NAMED_IN_ERROR} more" if len(failures) > _NAMED_IN_ERROR else ""
    return (
        f"{len(failures)} of {num_images} pictures cannot be read, {num_missing} missing and "
        f"{len(failures) - num_missing} broken: {first}{more}. Nothing was written; `--skip-broken` "
        "(`skip_broken=True`) leaves them out."
        + (" Addresses are not fetched: download the pictures, and give their folder." if addresses else "")
    )


__all__ = ["write_shards"]
