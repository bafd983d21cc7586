"""Reading many pictures in a command: its options, the reader that they make, and the bar."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..option_types import whole_number

if TYPE_CHECKING:
    from tqdm import tqdm

    from .reader import Reading, SquareSize

_FEW = 8  # pictures, which need no bar


def add_exclude_argument(parser: argparse.ArgumentParser, *, below: str) -> None:
    """Add `--exclude`, of what stands below the argument of that name."""
    parser.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        default=[],
        help=f"leave out files and folders of this name or path below {below}, as '*_edited.jpg' or 'old/*'; may be "
        "given more than once",
    )


def add_batch_arguments(group: "argparse._ArgumentGroup | argparse.ArgumentParser") -> None:
    """Add `--device` and `--batch-size`."""
    group.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda, mps, ... (default: the fastest)")
    group.add_argument("--batch-size", type=whole_number(1), default=16, metavar="N", help="(default: 16)")


def add_speed_arguments(group: "argparse._ArgumentGroup | argparse.ArgumentParser") -> None:
    """Add `--device`, `--batch-size` and `--workers`."""
    add_batch_arguments(group)
    group.add_argument(
        "--workers",
        type=whole_number(0),
        metavar="N",
        help="processes that decode; 0 decodes in this one (default: by the number of pictures and cores)",
    )


def read_pictures(args: argparse.Namespace, paths: Sequence[str], square: "SquareSize") -> "Reading":
    """The pictures, in order, decoded as these options say while the caller works on those that came before."""
    from .reader import num_workers_for, read_ahead

    workers = num_workers_for(len(paths)) if args.workers is None else args.workers
    return read_ahead(paths, square, workers=workers, ahead=3 * args.batch_size)


def progress_bar(number: int, *, before: int = 0, shows: bool = True) -> "tqdm":
    """A bar on a terminal.

    Args:
        number: pictures that are to be read.
        before: how many were read by an earlier run, or below 0 how many are read again for nothing.
        shows: whether there may be one.
    """
    from tqdm import tqdm  # transformers needs it too

    shows = shows and sys.stderr.isatty() and number > _FEW
    return tqdm(total=before + number, initial=before, unit=" pictures", disable=not shows)


__all__ = ["add_batch_arguments", "add_exclude_argument", "add_speed_arguments", "progress_bar", "read_pictures"]
