"""Fit of the numbers that make evidence a probability: pure NumPy functions that know nothing of models.

The fit sees labels that were no reference labels when the images were read, so that it carries over to labels that
nobody trained on.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..model.calibration import Calibration
from ..model.losses import UNKNOWN
from .reliability import (
    ReliabilityBin,
    best_f1_threshold,
    brier_score,
    expected_calibration_error,
    f1_at,
    precision_threshold,
    reliability,
)

PRECISIONS = ("0.8", "0.9", "0.95")
# Nine numbers are fitted, and the best threshold moves by a few points of F1 with fewer than that.
LEAST_POSITIVES = 100
# The threshold that was best for a few images of a label is worse for others than the common one. Drawn toward that as
# if it came from this many images it is as good; see docs/probabilities.md.
_IMAGES_OF_THE_COMMON_THRESHOLD = 400
LEAST_POSITIVES_OF_A_LABEL = 200  # below, less than a third of it would be the label's own

_RIDGE = 1e-3  # on weights of standardised features: keeps them finite where the data can be told apart without error
_MOST_STEPS = 50
_ENTRIES_AT_ONCE = 2**20


class FoldEvidence(NamedTuple):
    """What speaks for L labels in N images, with these labels left out of the reference.

    Attributes:
        label_names: the L labels.
        global_logits: shape (N, L).
        local_logits: shape (N, L).
        statistics: of the reference labels' logits, shape (N, 6).
        targets: 1, 0, or -1 where nobody has looked, shape (N, L).
    """

    label_names: Sequence[str]
    global_logits: NDArray[np.float32]
    local_logits: NDArray[np.float32]
    statistics: NDArray[np.float32]
    targets: NDArray[np.int8]


class CalibrationFit(NamedTuple):
    """Result of [`fit_calibration`]; its numbers are of probabilities by a fit that did not know the label.

    Attributes:
        calibration: for the model.
        num_folds: turns in which labels were left out.
        num_images: N.
        num_positives: known entries with the label in the image.
        num_known: known entries.
        bins: what was said against what was true, above 0.05.
        ece: their mean distance, None where nothing was said.
        brier: mean squared distance of probability and truth.
        f1: at the threshold, over all labels and images.
    """

    calibration: Calibration
    num_folds: int
    num_images: int
    num_positives: int
    num_known: int
    bins: list[ReliabilityBin]
    ece: float | None
    brier: float
    f1: float


def fit_calibration(folds: Sequence[FoldEvidence]) -> CalibrationFit:
    """Fit a calibration, and judge it on each fold by the fit of the others.

    Args:
        folds: of the same N images and of distinct labels, at least two.

    Raises:
        ValueError: when there are too few labels in the images: fewer than 100 in all, or none in a fold.
    """
    _refuse_too_few(folds)
    weights, bias = fit_logistic(folds)
    probabilities = np.concatenate(
        [
            _probabilities(fold, *fit_logistic([other for other in folds if other is not fold])).astype(np.float32)
            for fold in folds
        ],
        axis=1,
    )  # (N, all labels)
    targets = np.concatenate([fold.targets for fold in folds], axis=1)
    names = [name for fold in folds for name in fold.label_names]
    threshold = best_f1_threshold(probabilities, targets)
    precisions = {share: precision_threshold(probabilities, targets, float(share)) for share in PRECISIONS}
    num_positives, num_known = int((targets == 1).sum()), int((targets != UNKNOWN).sum())
    calibration = Calibration(
        evidence_weights=weights[:2].tolist(),
        statistics_weights=weights[2:].tolist(),
        bias=bias,
        threshold=threshold,
        precision_thresholds={share: value for share, value in precisions.items() if value is not None},
        label_thresholds=_label_thresholds(names, probabilities, targets, threshold),
        labels_per_image=num_positives / num_known * len(names),
        num_labels=len(names),
    )
    bins = reliability(probabilities, targets)
    return CalibrationFit(
        calibration,
        num_folds=len(folds),
        num_images=targets.shape[0],
        num_positives=num_positives,
        num_known=num_known,
        bins=bins,
        ece=expected_calibration_error(bins),
        brier=brier_score(probabilities, targets),
        f1=f1_at(probabilities, targets, threshold),
    )


def fit_logistic(folds: Sequence[FoldEvidence]) -> tuple[NDArray[np.float64], float]:
    """Logistic regression of "the label is in the image" by its evidence and the image's statistics.

    Newton's method in float64, over the known entries, on standardised features with next to no ridge.

    Args:
        folds: entries of both kinds, present and absent.

    Returns:
        Weights of the global logit, the local logit and the six statistics, shape (8,), and the bias.
    """
    mean, deviation = _standardisation(folds)
    solution = np.zeros(len(mean) + 1)  # the bias last
    loss, gradient, curvature = _derivatives(folds, solution, mean, deviation)
    for _ in range(_MOST_STEPS):
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while True:  # a whole step can go too far where the data are nearly told apart
            candidate = solution - size * step
            found = _derivatives(folds, candidate, mean, deviation)
            if found[0] <= loss or size < 1e-6:
                break
            size /= 2
        gain, (loss, gradient, curvature), solution = loss - found[0], found, candidate
        if gain <= 1e-10 * abs(loss):
            break
    weights = solution[:-1] / deviation
    return weights, float(solution[-1] - weights @ mean)


def _standardisation(folds: Sequence[FoldEvidence]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    count, total, squares = 0, 0.0, 0.0
    for features, _ in _blocks(folds):
        count, total, squares = (
            count + len(features),
            total + features.sum(axis=0),
            squares + (features**2).sum(axis=0),
        )
    mean = np.asarray(total / count)
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean, np.where(deviation > 1e-9 * (1 + abs(mean)), deviation, 1.0)  # one that is the same everywhere


def _derivatives(
    folds: Sequence[FoldEvidence],
    solution: NDArray[np.float64],
    mean: NDArray[np.float64],
    deviation: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Sum of the log-losses with the ridge, its gradient (K + 1,) and its second derivatives (K + 1, K + 1)."""
    ridge = np.append(np.full(len(mean), _RIDGE), 0.0)
    loss = float((ridge * solution**2).sum() / 2)
    gradient, curvature = ridge * solution, np.diag(ridge)
    for features, present in _blocks(folds):
        standard = np.append((features - mean) / deviation, np.ones((len(features), 1)), axis=1)
        logits = standard @ solution
        probability = _sigmoid(logits)
        loss += float(np.logaddexp(0, np.where(present, -logits, logits)).sum())
        gradient = gradient + standard.T @ (probability - present)
        curvature = curvature + (standard * (probability * (1 - probability))[:, None]).T @ standard
    return loss, gradient, curvature


def _blocks(folds: Sequence[FoldEvidence]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Features (n, 8) and whether the label is present (n,), of the known entries, a part at a time."""
    for fold in folds:
        at_once = max(1, _ENTRIES_AT_ONCE // fold.targets.shape[1])
        for start in range(0, len(fold.targets), at_once):
            images = slice(start, start + at_once)
            known = fold.targets[images] != UNKNOWN
            yield _features(fold, images)[known].astype(np.float64), fold.targets[images][known] == 1


def _features(fold: FoldEvidence, images: slice) -> NDArray[np.float32]:
    """Shape (images, L, 8)."""
    num_labels = fold.targets.shape[1]
    statistics = np.repeat(fold.statistics[images][:, None], num_labels, axis=1)
    evidence = np.stack([fold.global_logits[images], fold.local_logits[images]], axis=2)
    return np.concatenate([evidence, statistics], axis=2)


def _probabilities(fold: FoldEvidence, weights: NDArray[np.float64], bias: float) -> NDArray[np.float64]:
    of_image = fold.statistics @ weights[2:] + bias  # (N,)
    return _sigmoid(weights[0] * fold.global_logits + weights[1] * fold.local_logits + of_image[:, None])


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-np.logaddexp(0, -logits))


def _label_thresholds(
    names: Sequence[str], probabilities: NDArray, targets: NDArray[np.int8], common: float
) -> dict[str, float]:
    """F1-best thresholds of labels with examples enough, drawn toward the common one by how few these are."""
    thresholds = {}
    for column, name in enumerate(names):
        count = int((targets[:, column] == 1).sum())
        if count < LEAST_POSITIVES_OF_A_LABEL:
            continue
        own = best_f1_threshold(probabilities[:, column], targets[:, column])
        trust = count / (count + _IMAGES_OF_THE_COMMON_THRESHOLD)
        thresholds[name] = float(_sigmoid(np.asarray(trust * _log_odds(own) + (1 - trust) * _log_odds(common))))
    return thresholds


def _log_odds(probability: float) -> float:
    probability = min(max(probability, 1e-9), 1 - 1e-9)
    return float(np.log(probability) - np.log1p(-probability))


def _refuse_too_few(folds: Sequence[FoldEvidence]) -> None:
    num_positives = [int((fold.targets == 1).sum()) for fold in folds]
    total = sum(num_positives)
    if total < LEAST_POSITIVES:
        raise ValueError(
            f"There is too little to calibrate by: the images have {total} labels in all, and at least "
            f"{LEAST_POSITIVES} are needed. Take more images, or more of their labels."
        )
    if len(folds) < 2 or not all(num_positives):
        poorest = folds[int(np.argmin(num_positives))].label_names
        shown = ", ".join(map(repr, poorest[:3])) + (", ..." if len(poorest) > 3 else "")
        raise ValueError(
            f"Labels are left out of the reference in {len(folds)} turn(s), and each turn needs labels that are in an "
            f"image: those of one ({shown}) are in none of {len(folds[0].targets)}. Take more images, or fewer folds "
            "(at least 2)."
        )
    if not any((fold.targets == 0).any() for fold in folds):
        raise ValueError("There is nothing to calibrate by: no image is known to lack one of the labels.")


__all__ = ["CalibrationFit", "FoldEvidence", "fit_calibration", "fit_logistic"]
