"""What the options of commands take: each refuses, in words, what nobody can mean. Standard library alone."""

import argparse
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path

_TEXT_FILES = (".csv", ".json", ".jsonl", ".lst", ".tsv", ".txt", ".yaml", ".yml")


def whole_number(at_least: int) -> Callable[[str], int]:
    """An `argparse` type: whole numbers from `at_least` on."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = at_least - 1
        if value < at_least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {at_least}, got {text!r}")
        return value

    return read


def share(text: str) -> float:
    """An `argparse` type: numbers from 0 to 1, as scores and parts of a whole are."""
    value = _finite(text)
    if value is None or not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value


def threshold(text: str) -> float | str:
    """An `argparse` type: a number from 0 to 1, or the name of a threshold that a model may have, `precision=0.9`."""
    return text if text[:1].isalpha() and _finite(text) is None and text.lower() != "nan" else share(text)


def positive_number(text: str) -> float:
    """An `argparse` type: numbers above 0."""
    value = _finite(text)
    if value is None or value <= 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def whole_number_range(text: str) -> tuple[int, int]:
    """An `argparse` type: `3`, or `1-6` for the smallest and the largest."""
    low, _, high = text.partition("-")
    try:
        ends = int(low), int(high or low)
    except ValueError:
        ends = 1, 0
    if ends[0] > ends[1]:
        raise argparse.ArgumentTypeError(f"must be a whole number, or two as in 1-6, the smaller first; got {text!r}")
    return ends


def share_range(text: str) -> tuple[float, float]:
    """An `argparse` type: `0.5`, or `0.2-0.5` for the smallest and the largest, above 0 and up to 1."""
    low, _, high = text.partition("-")
    ends = _finite(low), _finite(high or low)
    if ends[0] is None or ends[1] is None or not 0 < ends[0] <= ends[1] <= 1:
        raise argparse.ArgumentTypeError(
            f"must be a number above 0 and up to 1, or two as in 0.2-0.5, the smaller first; got {text!r}"
        )
    return ends[0], ends[1]


def path(text: str) -> Path:
    """An `argparse` type: a file or folder, where `~` is the home that the shell did not put in, as in `--output=~/x`.

    Nothing at all, as a variable that is not set leaves, is refused: it would be the working directory.
    """
    return Path(path_or_id(text))


def path_or_id(text: str) -> str:
    """An `argparse` type: as [`path`], or a name on the Hub, which stays as it is."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"must name something, got {text!r}")
    return os.path.expanduser(text)


def refuse_files_among_labels(names: Iterable[str], instead: str) -> None:
    """Refuse labels that are names of files: nobody looks for `labels.txt` in an image.

    Args:
        names: labels of a command line.
        instead: how the names in a file are asked for, with `{}` in its place.

    Raises:
        ValueError: when one is `-`, ends as text files do, or is the path of a file with an extension.
    """
    for name in names:
        ending = os.path.splitext(name)[1].lower()
        if name == "-" or ending in _TEXT_FILES or (ending and os.path.isfile(name)):
            raise ValueError(f"The label {name!r} is the name of a file. `{instead.format(name)}` reads its labels.")


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


__all__ = [
    "path",
    "path_or_id",
    "positive_number",
    "refuse_files_among_labels",
    "share",
    "share_range",
    "threshold",
    "whole_number",
    "whole_number_range",
]
