"""`ram-hf prepare`: turns pictures and annotations on disk into parquet shards that `datasets` reads and streams."""

import argparse
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from . import annotations as readers
from .annotations import AnnotatedImage, Annotations
from .shards import ShardFiles, appearing_whole, refuse_used_folder, write_lines

_MISSING = "missing"
_CHUNK = 128  # pictures in memory at once besides those of the shard that is being filled
_NAMED_IN_ERROR = 5


class _Format(NamedTuple):
    read: Callable[..., Annotations]
    help: str
    annotations: str  # help of the positional argument
    options: tuple[str, ...] = ()  # names of the reader's own options
    splits: tuple[str, ...] = ()  # parts that the source itself knows


_FORMATS = {
    "coco": _Format(readers.read_coco, "COCO's instances JSON; keeps the boxes", "instances_*.json"),
    "ram-json": _Format(
        readers.read_ram_json,
        'the RAM paper\'s files: {"images": [[path, [label, ...]], ...], "classes": [...]}',
        "the JSON file",
    ),
    "rap": _Format(
        readers.read_rap,
        "RAPv1, pedestrian attributes",
        "RAP_annotation.mat",
        ("partition",),
        ("train", "test", "all"),
    ),
    "pa100k": _Format(
        readers.read_pa100k, "PA100K, pedestrian attributes", "annotation.mat", (), ("train", "val", "test")
    ),
    "nus-wide": _Format(
        readers.read_nus_wide,
        "NUS-WIDE's text files: 81 concepts, 1000 tags, or both",
        "image list, one path a line, that the other files follow",
        ("concepts", "tags", "tag_list"),
        ("train", "test", "all"),
    ),
    "multiscene": _Format(
        readers.read_multiscene, "MultiScene, or any CSV with a picture and labels of 0 and 1 in a row", "the CSV file"
    ),
    "mlrsnet": _Format(
        readers.read_mlrsnet, "MLRSNet: such a CSV for each category", "folder of the CSV files, one for each category"
    ),
    "table": _Format(
        readers.read_table,
        "CSV with the columns path and labels, or JSONL with a list of labels",
        "file that ends in .csv or .jsonl",
        ("separator",),
    ),
}

_OPTIONS: dict[str, dict[str, Any]] = {
    "partition": {"type": int, "default": 0, "help": "which of the file's random partitions, from 0 (default: 0)"},
    "concepts": {"type": Path, "metavar": "FOLDER", "help": "folder of the files Labels_<name>[_Train|_Test].txt"},
    "tags": {"type": Path, "metavar": "FILE", "help": "table of 0 and 1, such as AllTags1k.txt; needs --tag-list"},
    "tag_list": {"type": Path, "metavar": "FILE", "help": "names of the tags, one a line, such as TagList1k.txt"},
    "separator": {
        "choices": ("|", ";", ","),
        "default": "|",
        "help": "what stands between the labels of a CSV cell (default: |)",
    },
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ram-hf prepare` to a parser: a subcommand for each format."""
    formats = parser.add_subparsers(dest="format", required=True, metavar="FORMAT", title="formats")
    for name, form in _FORMATS.items():
        command = formats.add_parser(
            name,
            help=form.help,
            description=f"{form.help[0].upper()}{form.help[1:]}. Writes parquet shards, labels.txt and report.json.",
        )
        command.add_argument("annotations", metavar="ANNOTATIONS", type=Path, help=form.annotations)
        command.add_argument("images", metavar="IMAGES", type=Path, help="folder of the pictures")
        command.add_argument("output_dir", metavar="OUT_DIR", type=Path, help="folder to write; new or empty")
        for option in form.options:
            command.add_argument(f"--{option.replace('_', '-')}", **_OPTIONS[option])
        if form.splits:
            command.add_argument(
                "--split",
                choices=form.splits,
                default="train",
                help="part to read (default: train); all is written as train",
            )
        else:
            command.add_argument("--split", default="train", help="name of the split to write (default: train)")
        _add_common_options(command)


def _add_common_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="keep these labels only: one a line, or the name in the source, a tab, and a new name",
    )
    command.add_argument("--shard-size", type=int, default=1000, help="pictures of one shard (default: 1000)")
    command.add_argument(
        "--skip-broken", action="store_true", help="leave out pictures that are missing or cannot be decoded"
    )
    command.add_argument("--num-workers", type=int, default=4, help="threads that check pictures (default: 4)")
    command.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Run `ram-hf prepare` with the arguments of [`add_arguments`].

    Returns:
        Exit status: 0, or 1 after an error, which is explained on stderr and leaves nothing behind.
    """
    form = _FORMATS[args.format]
    options = {name: getattr(args, name) for name in form.options}
    if form.splits:
        options["split"] = args.split
    try:
        refuse_used_folder(args.output_dir)  # before minutes of reading
        annotations = form.read(args.annotations, args.images, **options)
        if args.labels is not None:
            annotations = annotations.keep(readers.read_label_names(args.labels))
        report = write_shards(
            annotations,
            args.output_dir,
            split="train" if form.splits and args.split == "all" else args.split,
            shard_size=args.shard_size,
            skip_broken=args.skip_broken,
            num_workers=args.num_workers,
            show_progress=not args.quiet,
        )
    except (OSError, ValueError) as error:
        sys.stderr.write(f"ram-hf prepare: {error}\n")
        return 1
    sys.stderr.write(_summary(report, args.output_dir))
    return 0


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
    """Write pictures and labels as parquet shards; every picture is decoded once, to see that it can be.

    The columns are `image` (the bytes of the file, unchanged), `labels` (distinct names, in the order of
    `annotations.labels`), `path` and, where the source has them, `boxes` ({label, x0, y0, x1, y1} in pixels). Beside
    the shards stand `labels.txt`, a `labels_<group>.txt` for each label group, `report.json`, and a `README.md` that
    tells `datasets.load_dataset(output_dir)` which files belong to the split and how many rows it has. The same input
    gives the same bytes.

    Args:
        annotations: what a reader of [`ram_hf.data.annotations`] found.
        output_dir: folder to write, which must be new or empty; it appears when all is written, and not before.
        split: name of the split, which the shards' names begin with.
        shard_size: pictures of one shard; the last may have fewer.
        skip_broken: leave out pictures that are missing or that Pillow cannot decode in full, and name them in the
            report.
        num_workers: threads that read and decode.
        show_progress: show a progress bar on stderr.

    Returns:
        The content of `report.json`.

    Raises:
        FileExistsError: when `output_dir` holds something.
        ValueError: when a picture is missing or broken and `skip_broken` is off, nothing would be written, or a
            number is below 1. All pictures are looked at first, and nothing is left behind.
    """
    if shard_size < 1 or num_workers < 1:
        raise ValueError(f"`shard_size` and `num_workers` must be at least 1, got {shard_size} and {num_workers}.")
    output_dir = Path(output_dir)
    with appearing_whole(output_dir) as folder:
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
    """Turns pictures into rows of shards, and counts their labels."""

    def __init__(self, folder: Path, annotations: Annotations, *, split: str, shard_size: int):
        from datasets import Image, List, Value

        columns = {"image": Image(), "labels": List(Value("string")), "path": Value("string")}
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
            "left_out": {
                "missing": [name for name, failure in failures.items() if failure == _MISSING],
                "broken": {name: failure for name, failure in failures.items() if failure != _MISSING},
            },
        }
        text = json.dumps(report, indent=1, ensure_ascii=False)
        (self._folder / "report.json").write_text(text + "\n", encoding="utf-8")
        return report


def _checked(
    images: Sequence[AnnotatedImage], num_workers: int, show_progress: bool
) -> Iterator[tuple[AnnotatedImage, bytes, str | None]]:
    """Yield each picture with the bytes of its file and what is wrong with it, in order."""
    from tqdm import tqdm

    remaining = iter(images)
    with (
        ThreadPoolExecutor(num_workers) as pool,
        tqdm(total=len(images), unit=" pictures", disable=not show_progress) as progress,
    ):
        while chunk := list(islice(remaining, _CHUNK)):
            pictures = pool.map(_read_picture, [image.file for image in chunk])
            for image, (data, failure) in zip(chunk, pictures, strict=True):
                yield image, data, failure
                progress.update()


def _read_picture(file: Path) -> tuple[bytes, str | None]:
    from PIL import Image

    try:
        data = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return b"", _MISSING
    except OSError as error:
        return b"", str(error)
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except Exception as error:  # Pillow's readers raise nearly anything on a broken file
        return b"", f"{type(error).__name__}: {error}".partition(" <_io")[0]
    return data, None


def _failure_message(failures: dict[str, str], num_images: int) -> str:
    num_missing = sum(failure == _MISSING for failure in failures.values())
    first = "; ".join(f"{name} ({failure})" for name, failure in islice(failures.items(), _NAMED_IN_ERROR))
    more = f"; and {len(failures) - _NAMED_IN_ERROR} more" if len(failures) > _NAMED_IN_ERROR else ""
    return (
        f"{len(failures)} of {num_images} pictures cannot be read, {num_missing} missing and "
        f"{len(failures) - num_missing} broken: {first}{more}. Nothing was written; `--skip-broken` "
        "(`skip_broken=True`) leaves them out."
    )


def _summary(report: dict[str, Any], output_dir: Path) -> str:
    missing, broken = report["left_out"]["missing"], report["left_out"]["broken"]
    lines = [
        f"{output_dir}: pictures {report['images']}, of which without label {report['images_without_label']}; "
        f"labels {len(report['images_of_label'])}; shards {len(report['shards'])}."
    ]
    if missing or broken:
        first = ", ".join([*missing, *broken][:_NAMED_IN_ERROR])
        lines.append(f"Left out: {len(missing)} missing, {len(broken)} broken, first {first}; report.json names all.")
    return "\n".join(lines) + "\n"


__all__ = ["add_arguments", "run", "write_shards"]
