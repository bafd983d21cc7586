"""`ram-hf prepare`: turns images and annotations on disk into parquet shards that `datasets` reads and streams."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..atomic import locked, refuse_used_folder
from ..option_types import path, whole_number
from . import annotations as readers
from .annotations import Annotations
from .prepare import write_shards

_NAMED_IN_SUMMARY = 5


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
    "voc": _Format(
        readers.read_voc,
        "PASCAL VOC's lists of pictures, one for each label",
        "folder of the files <label>_<split>.txt, ImageSets/Main",
        (),
        ("train", "val", "trainval", "test"),
    ),
    "multiscene": _Format(
        readers.read_multiscene, "MultiScene, or any CSV with a picture and labels of 0 and 1 in a row", "the CSV file"
    ),
    "mlrsnet": _Format(
        readers.read_mlrsnet, "MLRSNet: such a CSV for each category", "folder of the CSV files, one for each category"
    ),
    "table": _Format(
        readers.read_table,
        "CSV with the columns path and labels (commas, semicolons or tabs between), or JSONL with a list of labels",
        "file that ends in .csv, .tsv or .jsonl",
        ("separator",),
    ),
}

_OPTIONS: dict[str, dict[str, Any]] = {
    "partition": {
        "type": whole_number(0),
        "default": 0,
        "help": "which of the file's random partitions, from 0 (default: 0)",
    },
    "concepts": {"type": path, "metavar": "FOLDER", "help": "folder of the files Labels_<name>[_Train|_Test].txt"},
    "tags": {"type": path, "metavar": "FILE", "help": "table of 0 and 1, such as AllTags1k.txt; needs --tag-list"},
    "tag_list": {"type": path, "metavar": "FILE", "help": "names of the tags, one a line, such as TagList1k.txt"},
    "separator": {
        "choices": ("|", ";", ","),
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
        command.add_argument("annotations", metavar="ANNOTATIONS", type=path, help=form.annotations)
        command.add_argument("images", metavar="IMAGES", type=path, help="folder of the pictures")
        command.add_argument("output_dir", metavar="OUT_DIR", type=path, help="folder to write; new or empty")
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
        type=path,
        metavar="FILE",
        help="keep these labels only: one a line, or the name in the source, a tab, and a new name",
    )
    command.add_argument(
        "--shard-size", type=whole_number(1), default=1000, help="pictures of one shard (default: 1000)"
    )
    command.add_argument(
        "--skip-broken", action="store_true", help="leave out pictures that are missing or cannot be decoded"
    )
    command.add_argument(
        "--num-workers", type=whole_number(1), default=4, help="threads that check pictures (default: 4)"
    )
    command.add_argument("--push", metavar="REPO", help="send the shards to this data set on the Hub too (owner/name)")
    command.add_argument("--private", action="store_true", help="with --push: make the data set private")
    command.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Run `ram-hf prepare` with the arguments of [`add_arguments`].

    Returns:
        Exit status 0.

    Raises:
        BlockingIOError: when another run writes into the folder.
        OSError, ValueError: see the reader of the format in [`ram_hf.data.annotations`], and [`write_shards`].
    """
    if getattr(args, "separator", None) is not None and args.annotations.suffix.lower() != ".csv":
        raise ValueError(f"`--separator` is for the cells of a .csv file, got {str(args.annotations)!r}.")
    if not args.images.is_dir():
        raise NotADirectoryError(f"There is no folder of pictures {str(args.images)!r}.")
    if args.push:
        from ..uploads import refuse_without_token

        refuse_without_token(args.push)
    with locked(args.output_dir):  # and refused before minutes of reading
        refuse_used_folder(args.output_dir)
        report = _prepare(args)
    sys.stderr.write(_summary(report, args.output_dir))
    if args.push:
        sys.stderr.write(f"{_push(args.output_dir, args.push, private=args.private)}\n")
    return 0


def _prepare(args: argparse.Namespace) -> dict[str, Any]:
    form = _FORMATS[args.format]
    options = {name: value for name in form.options if (value := getattr(args, name)) is not None}
    if form.splits:
        options["split"] = args.split
    annotations = form.read(args.annotations, args.images, **options)
    if args.labels is not None:
        annotations = annotations.keep(readers.read_label_names(args.labels))
    return write_shards(
        annotations,
        args.output_dir,
        split="train" if form.splits and args.split == "all" else args.split,
        shard_size=args.shard_size,
        skip_broken=args.skip_broken,
        num_workers=args.num_workers,
        show_progress=not args.quiet,
    )


def _push(folder: Path, repo: str, *, private: bool) -> str:
    """Send the shards, and not `report.json`, which may name files of this machine; returns the address."""
    from ..uploads import open_repo, tell_on_stderr, upload

    name = open_repo(repo, "dataset", private=private)
    return upload(
        folder,
        name,
        "dataset",
        message="Upload shards",
        leave_out=("report.json",),
        tell=tell_on_stderr,
    )


def _summary(report: dict[str, Any], output_dir: Path) -> str:
    missing, broken = report["left_out"]["missing"], report["left_out"]["broken"]
    lines = [
        f"{output_dir}: pictures {report['images']}, of which without label {report['images_without_label']}; "
        f"labels {len(report['images_of_label'])}; shards {len(report['shards'])}."
    ]
    if missing or broken:
        first = ", ".join([*missing, *broken][:_NAMED_IN_SUMMARY])
        lines.append(f"Left out: {len(missing)} missing, {len(broken)} broken, first {first}; report.json names all.")
    return "\n".join([*lines, *report["notes"]]) + "\n"


__all__ = ["add_arguments", "run"]
