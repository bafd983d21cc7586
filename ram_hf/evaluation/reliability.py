"""How far probabilities can be believed: pure NumPy functions that know nothing of models.

Everywhere `probabilities` and `targets` have one shape; `targets` hold 1 where the label is in the image, 0 where not,
and -1 where nobody has looked: those entries are left out.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..model.losses import UNKNOWN

# Of many labels nearly all have a probability near zero, which is right for any model that says "never": what it says
# where it says something is judged.
_ABOVE = 0.05
_NUM_BINS = 15
# A share of right labels among fewer reported ones than this is chance.
_LEAST_REPORTED = 20


class ReliabilityBin(NamedTuple):
    """Entries of about the same probability.

    Attributes:
        lowest: probability of them.
        highest: probability of them.
        mean_probability: what was said.
        share_present: what was true.
        num_entries: how many there are.
    """

    lowest: float
    highest: float
    mean_probability: float
    share_present: float
    num_entries: int


def reliability(
    probabilities: ArrayLike, targets: ArrayLike, *, above: float = _ABOVE, num_bins: int = _NUM_BINS
) -> list[ReliabilityBin]:
    """What was said against what was true, in bins that hold the same number of entries (to one).

    Args:
        probabilities: in [0, 1].
        targets: 1, 0 or -1.
        above: entries with a probability of at most this are left out.
        num_bins: fewer where there are fewer entries, none where there is none.

    Raises:
        ValueError: as [`known_entries`].
    """
    probabilities, present = known_entries(probabilities, targets)
    kept = probabilities > above
    probabilities, present = probabilities[kept], present[kept]
    order = np.argsort(probabilities, kind="stable")
    pieces = np.array_split(order, min(num_bins, len(order))) if len(order) else []
    return [
        ReliabilityBin(
            float(probabilities[piece[0]]),
            float(probabilities[piece[-1]]),
            float(probabilities[piece].mean()),
            float(present[piece].mean()),
            len(piece),
        )
        for piece in pieces
    ]


def expected_calibration_error(bins: list[ReliabilityBin]) -> float | None:
    """ECE: mean distance between what was said and what was true, weighted by the bins' sizes; None without bins."""
    total = sum(each.num_entries for each in bins)
    if not total:
        return None
    return sum(each.num_entries * abs(each.mean_probability - each.share_present) for each in bins) / total


def brier_score(probabilities: ArrayLike, targets: ArrayLike) -> float:
    """Mean squared distance of probability and truth (Brier 1950), over all known entries.

    Raises:
        ValueError: as [`known_entries`], and when no entry is known.
    """
    probabilities, present = known_entries(probabilities, targets)
    if not len(present):
        raise ValueError("Not one of the `targets` is known: there is nothing to judge by.")
    return float(np.square(probabilities - present).mean())


def f1_at(probabilities: ArrayLike, targets: ArrayLike, threshold: float) -> float:
    """F1 over all entries when those of at least a threshold are reported; 0 where nothing is reported or present.

    Raises:
        ValueError: as [`known_entries`].
    """
    probabilities, present = known_entries(probabilities, targets)
    reported = probabilities >= threshold
    whole = reported.sum() + present.sum()
    return float(2 * (reported & present).sum() / whole) if whole else 0.0


def best_f1_threshold(probabilities: ArrayLike, targets: ArrayLike) -> float:
    """The probability from which on to report for the best [`f1_at`]; of equally good ones the highest.

    Raises:
        ValueError: as [`known_entries`], and when nothing is present.
    """
    probabilities, present = known_entries(probabilities, targets)
    if not present.any():
        raise ValueError("Not one label is present in an image: no threshold is the best.")
    values, num_reported, num_right = _sweep(probabilities, present)
    return float(values[np.argmax(2 * num_right / (num_reported + present.sum()))])


def precision_threshold(probabilities: ArrayLike, targets: ArrayLike, share: float) -> float | None:
    """The lowest probability from which on a share of the reported labels is right.

    Args:
        probabilities: in [0, 1].
        targets: 1, 0 or -1.
        share: of right ones, in (0, 1].

    Returns:
        None where no threshold that reports at least 20 labels reaches the share.

    Raises:
        ValueError: as [`known_entries`].
    """
    probabilities, present = known_entries(probabilities, targets)
    values, num_reported, num_right = _sweep(probabilities, present)
    reached = np.flatnonzero((num_right >= share * num_reported) & (num_reported >= _LEAST_REPORTED))
    return float(values[reached[-1]]) if len(reached) else None


def known_entries(probabilities: ArrayLike, targets: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Flat probabilities and whether the label is present, without the unknown entries.

    Raises:
        ValueError: when the shapes differ, a probability lies outside of [0, 1], or a target is none of 1, 0 and -1.
    """
    probabilities, targets = np.asarray(probabilities, dtype=np.float64).ravel(), np.asarray(targets)
    if targets.size != probabilities.size:
        raise ValueError(f"There are {probabilities.size} `probabilities` and {targets.size} `targets`.")
    targets = targets.ravel()
    if not ((probabilities >= 0) & (probabilities <= 1)).all():  # also of NaN
        wrong = probabilities[~((probabilities >= 0) & (probabilities <= 1))][0]
        raise ValueError(f"`probabilities` must be between 0 and 1, got {wrong}.")
    valid = (targets == 0) | (targets == 1) | (targets == UNKNOWN)
    if not valid.all():
        raise ValueError(f"`targets` must be 1 (in the image), 0 (not) or -1 (unknown), got {targets[~valid][0]}.")
    known = targets != UNKNOWN
    return probabilities[known], targets[known] == 1


def _sweep(
    probabilities: NDArray[np.float64], present: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Every distinct probability, from the highest down, and how many entries reach it, and how many rightly."""
    order = np.argsort(-probabilities, kind="stable")
    probabilities, right = probabilities[order], present[order].cumsum()
    ends = np.flatnonzero(np.append(probabilities[1:] != probabilities[:-1], True)) if len(order) else order
    return probabilities[ends], ends + 1, right[ends]


__all__ = [
    "ReliabilityBin",
    "best_f1_threshold",
    "brier_score",
    "expected_calibration_error",
    "f1_at",
    "known_entries",
    "precision_threshold",
    "reliability",
]
