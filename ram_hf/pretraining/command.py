"""`ram-hf pretrain`: the small CLIPs that come with the package, a stage each."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..atomic import locked, locked_folder
from ..option_types import path, path_or_id, whole_number

_DECODED_SIZE = 112  # pixels: the longest side of what is stored
_TEACHER_SIZE = 160  # pixels: its map has 5 rows
_SCENE_PATHS = ("source", "output_dir")
_PHOTO_PATHS = ("photographs", "teacher", "words", "output_dir", "start_from")
_PHOTO_STEPS = ("total_steps", "decay_steps")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the stages of `ram-hf pretrain` to a parser, each with its own arguments."""
    stages = parser.add_subparsers(required=True, metavar="STAGE", title="stages")

    clip = stages.add_parser("clip-on-scenes", help="train a CLIP from scratch on scenes that are composed as it goes")
    clip.add_argument(
        "--config", required=True, metavar="YAML", type=path, help="keys are fields of ClipPretrainingArguments"
    )
    clip.add_argument("--source", type=path_or_id, help="folder with the parts of scenes, in place of the YAML's")
    clip.add_argument(
        "--output_dir", type=path_or_id, help="folder for checkpoints, log and CLIP, in place of the YAML's"
    )
    clip.set_defaults(stage=_clip_on_scenes)

    photographs = stages.add_parser("photographs", help="decode photographs once, for training")
    photographs.add_argument(
        "files", nargs="+", metavar="PARQUET", type=path_or_id, help="files with `image` and `labels`"
    )
    photographs.add_argument("--output_dir", required=True, type=path, help="folder to write")
    photographs.set_defaults(stage=_photographs)

    teacher = stages.add_parser("teacher", help="look at decoded photographs with a classifier; goes on when stopped")
    teacher.add_argument("photographs", metavar="FOLDER", type=path, help="folder of the decoded photographs")
    teacher.add_argument("--output_dir", required=True, type=path, help="folder to write")
    teacher.set_defaults(stage=_teacher)

    clip = stages.add_parser(
        "clip-on-photographs", help="train a CLIP on photographs and what a teacher sees in them; goes on when stopped"
    )
    clip.add_argument(
        "--config", required=True, metavar="YAML", type=path, help="keys are fields of PhotoClipArguments"
    )
    for name in _PHOTO_PATHS:
        clip.add_argument(f"--{name}", metavar="PATH", type=path_or_id, help="in place of the YAML's")
    for name in _PHOTO_STEPS:
        clip.add_argument(f"--{name}", type=whole_number(0), metavar="STEPS", help="in place of the YAML's")
    clip.set_defaults(stage=_clip_on_photographs)

    rows = stages.add_parser("multi-labels", help="write the photographs that RAM is trained and chosen on")
    rows.add_argument("files", nargs="+", metavar="PARQUET", type=path_or_id, help="files with `image` and `labels`")
    rows.add_argument("--words", required=True, metavar="FOLDER", type=path, help="folder with labels.json")
    rows.add_argument(
        "--all-labels",
        action="store_true",
        help="train with all labels of the files but the unseen of labels.json (default: its seen ones)",
    )
    rows.add_argument(
        "--nouns",
        choices=("absent", "unknown", "left-out"),
        default="absent",
        help="what a noun is in training where a caption does not name it (default: absent)",
    )
    rows.add_argument("--output_dir", required=True, type=path, help="folder to write")
    rows.set_defaults(stage=_multi_labels)

    bundle = stages.add_parser("bundle", help="write a trained model as it comes with the package")
    bundle.add_argument("trained", metavar="RUN", type=path, help="folder of the trained model")
    bundle.add_argument("folder", metavar="FOLDER", type=path, help="folder to write, beside what stands there")
    bundle.set_defaults(stage=_bundle)


def run(args: argparse.Namespace) -> int:
    """Run the stage that a command line asks for.

    Returns:
        Exit status 0.

    Raises:
        BlockingIOError: when another run writes there.
    """
    args.stage(args)
    return 0


def _configuration(args: argparse.Namespace, paths: Sequence[str], numbers: Sequence[str]) -> dict[str, Any]:
    """What the YAML says, and instead of it what the command line does; `~` is the home in both."""
    import yaml

    values = yaml.safe_load(args.config.read_text(encoding="utf-8"))
    if not isinstance(values, Mapping):
        raise ValueError(f"{args.config} must hold `key: value` lines, got {type(values).__name__}.")
    given = {name: getattr(args, name) for name in (*paths, *numbers)}
    values = {**values, **{name: value for name, value in given.items() if value is not None}}
    return {
        name: os.path.expanduser(value) if name in paths and isinstance(value, str) else value
        for name, value in values.items()
    }


def _clip_on_scenes(args: argparse.Namespace) -> None:
    from transformers import HfArgumentParser

    from .scene_clip import ClipPretrainingArguments, pretrain_clip

    values = _configuration(args, _SCENE_PATHS, ())
    (arguments,) = HfArgumentParser(ClipPretrainingArguments).parse_dict(values)
    with locked_folder(arguments.output_dir):
        pretrain_clip(arguments)


def _photographs(args: argparse.Namespace) -> None:
    from .photographs import decode_photographs

    with locked_folder(args.output_dir):
        photographs = decode_photographs(args.files, args.output_dir, size=_DECODED_SIZE)
    sys.stdout.write(f"{args.output_dir}: {len(photographs)} photographs\n")


def _teacher(args: argparse.Namespace) -> None:
    from .photographs import open_photographs
    from .teacher import EfficientNetLite0, compute_teacher_features

    with locked_folder(args.output_dir):
        photographs = open_photographs(args.photographs)
        features = compute_teacher_features(photographs, EfficientNetLite0(_TEACHER_SIZE), args.output_dir)
    sys.stdout.write(f"{args.output_dir}: features of {len(features.maps)} photographs\n")


def _clip_on_photographs(args: argparse.Namespace) -> None:
    from transformers import HfArgumentParser

    from .photo_arguments import PhotoClipArguments
    from .photo_clip import train_photo_clip

    values = _configuration(args, _PHOTO_PATHS, _PHOTO_STEPS)
    (arguments,) = HfArgumentParser(PhotoClipArguments).parse_dict(values)
    with locked_folder(arguments.output_dir):
        judgement = train_photo_clip(arguments)
    sys.stdout.write(", ".join(f"{name} {value:.3f}" for name, value in judgement.items()) + "\n")


def _multi_labels(args: argparse.Namespace) -> None:
    import json

    from .photo_rows import write_multi_labels

    words = json.loads(Path(args.words, "labels.json").read_text(encoding="utf-8"))
    with locked(args.output_dir):
        counts = write_multi_labels(
            args.files,
            args.output_dir,
            seen_labels=None if args.all_labels else words["seen"],
            unseen_labels=words["unseen"],
            exact_labels=words["exact"],
            nouns=args.nouns,
        )
    sys.stdout.write(f"{args.output_dir}: {counts['train']} photographs to train on, {counts['validation']} apart\n")


def _bundle(args: argparse.Namespace) -> None:
    from .bundling import write_bundle

    with locked_folder(args.folder):
        size = write_bundle(args.trained, args.folder)
    sys.stdout.write(f"{args.folder}: {size / 1e6:.1f} MB of weights\n")


__all__ = ["add_arguments", "run"]
