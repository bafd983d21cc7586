"""Which labels the images of a run really hold: a label that none of them has trains nothing, in silence."""

import difflib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .label_set import plain_name

logger = logging.getLogger(__name__)

_NAMED = 10  # labels in one message
_MOST_OTHERS = 10_000  # names that are kept for hints


class Tally(NamedTuple):
    """What was counted."""

    num_images: int
    num_positives: dict[str, int]  # by label of the run
    others: list[str]  # labels of the images that are not among those of the run


class LabelCensus:
    """Counts the labels of the samples that pass.

    Args:
        label_names: labels of the run, in the order of the samples' columns.

    Attributes:
        is_complete: whether every row of an epoch has passed.
    """

    def __init__(self, label_names: Sequence[str]):
        self._names = list(label_names)
        self._num_positives = np.zeros(len(self._names), dtype=np.int64)
        self._others: set[str] = set()
        self._num_images = 0
        self.is_complete = False

    def note(self, labels: np.ndarray, others: Iterable[str]) -> None:
        """Count one image: 1, 0 or -1 for each label of the run, shape (L,), and its labels besides."""
        self._num_images += 1
        self._num_positives += labels == 1
        if len(self._others) < _MOST_OTHERS:
            self._others.update(others)

    def tally(self) -> Tally:
        """What has been counted so far."""
        return Tally(
            self._num_images, dict(zip(self._names, self._num_positives.tolist(), strict=True)), sorted(self._others)
        )


def tally_rows(labels: Iterable[Iterable[str]], label_names: Iterable[str]) -> Tally:
    """Count the labels of all rows.

    Args:
        labels: distinct labels of each row.
        label_names: labels of the run.
    """
    names, counts, num_images = dict.fromkeys(label_names), Counter[str](), 0
    for row in labels:
        counts.update(row)
        num_images += 1
    others = sorted(name for name in counts if name not in names)
    return Tally(num_images, {name: counts[name] for name in names}, others)


def add_tallies(tallies: Sequence[Tally]) -> Tally:
    """Sum up what several processes counted, with the same labels."""
    first = tallies[0]
    return Tally(
        sum(tally.num_images for tally in tallies),
        {name: sum(tally.num_positives[name] for tally in tallies) for name in first.num_positives},
        sorted({name for tally in tallies for name in tally.others}),
    )


def prepared_tally(folder: str | os.PathLike, split: str, label_names: Iterable[str]) -> Tally | None:
    """The count that `ram-hf prepare` left in a folder's `report.json`; None without one for this split."""
    file = Path(folder, "report.json")
    try:
        report = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        if not isinstance(report, dict) or report.get("split") != split:
            return None
        counts, num_images = dict(report["images_of_label"]), int(report["images"])
    except (OSError, ValueError, KeyError, TypeError):  # somebody else's file
        return None
    names = list(label_names)
    return Tally(
        num_images, {name: counts.get(name, 0) for name in names}, [name for name in counts if name not in names]
    )


def check_tally(tally: Tally, *, purpose: str = "learn") -> None:
    """Refuse labels that not one image has, and warn of single ones.

    Raises:
        ValueError: as [`refuse_nothing`].
    """
    refuse_nothing(tally, purpose=purpose)
    if absent := _absent(tally):
        logger.warning(
            "%s of %s labels are on none of %s images: %s.",
            len(absent),
            len(tally.num_positives),
            tally.num_images,
            _with_nearest(absent, tally.others),
        )


def refuse_nothing(tally: Tally, *, purpose: str = "learn") -> None:
    """Refuse labels of which not one is on an image.

    Args:
        tally: of the labels of a run.
        purpose: what the images are there to do.

    Raises:
        ValueError: the message has what the images hold instead.
    """
    absent = _absent(tally)
    if absent and len(absent) == len(tally.num_positives):
        found = f"They have {_listed(map(repr, tally.others))}" if tally.others else "They have no label at all"
        raise ValueError(
            f"There is nothing to {purpose}: none of {tally.num_images} images has one of the labels "
            f"{_with_nearest(absent, tally.others)}. {found}."
        )


def _absent(tally: Tally) -> list[str]:
    return [name for name, count in tally.num_positives.items() if not count]


def _with_nearest(absent: Sequence[str], others: Sequence[str]) -> str:
    by_plain = {plain_name(name): name for name in reversed(others)}
    return _listed(_hinted(name, by_plain) for name in absent[: _NAMED + 1])


def _hinted(name: str, by_plain: Mapping[str, str]) -> str:
    nearest = difflib.get_close_matches(plain_name(name), by_plain, n=1)
    return f"{name!r} (did you mean {by_plain[nearest[0]]!r}?)" if nearest else repr(name)


def _listed(texts: Iterable[str]) -> str:
    texts = list(texts)
    return ", ".join(texts[:_NAMED]) + (", ..." if len(texts) > _NAMED else "")


__all__ = ["LabelCensus", "Tally", "add_tallies", "check_tally", "prepared_tally", "refuse_nothing", "tally_rows"]
