"""How well scores rank the labels of images: pure NumPy functions that know nothing of models.

Everywhere, N images, L labels; `scores` (N, L), higher is likelier; `targets` (N, L), 1 where the label is in the
image, 0 where not, -1 where nobody has looked. All results are fractions in [0, 1].
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..model.losses import UNKNOWN

# NUS-WIDE has 108,000 test images and 1006 labels: in pieces, the copies that sorting needs stay small.
_ENTRIES_AT_ONCE = 2**22


class MeanAveragePrecision(NamedTuple):
    """Result of [`mean_average_precision`].

    Attributes:
        mean: mean over the labels with at least one positive image; NaN when there is no such label.
        per_label: average precision of each label, shape (L,); NaN where the label has no positive image.
        left_out: indices of the labels without a positive image, in ascending order.
    """

    mean: float
    per_label: NDArray[np.float64]
    left_out: list[int]


class TopKMetrics(NamedTuple):
    """Result of [`top_k_metrics`]; the short names are those of the literature.

    Attributes:
        overall_precision: OP, over all image-label pairs.
        overall_recall: OR.
        overall_f1: OF1, harmonic mean of OP and OR.
        class_precision: CP, mean over labels of each label's precision.
        class_recall: CR, mean over labels of each label's recall.
        class_f1: CF1, harmonic mean of CP and CR (not the mean of the labels' F1).
    """

    overall_precision: float
    overall_recall: float
    overall_f1: float
    class_precision: float
    class_recall: float
    class_f1: float

    def named(self, k: int) -> dict[str, float]:
        """The six numbers under the names of the literature, for example `OP@3` for k = 3."""
        return {f"{name}@{k}": value for name, value in zip(("OP", "OR", "OF1", "CP", "CR", "CF1"), self, strict=True)}


def check_scores_and_targets(scores: ArrayLike, targets: ArrayLike) -> tuple[NDArray, NDArray[np.int8]]:
    """Check scores and targets, once at the public border.

    Args:
        scores: finite numbers, shape (N, L).
        targets: 1, 0 or -1 (unknown), or bool, shape (N, L).

    Returns:
        Scores as floats, in their own precision when they are floats already, and targets as int8.

    Raises:
        ValueError: when a shape is not (N, L) with at least one image and label, the shapes differ, a score is NaN or
            infinite, or a target is none of 1, 0 and -1.
    """
    scores, targets = _check_scores(scores), np.asarray(targets)
    if targets.shape != scores.shape:
        raise ValueError(f"`targets` must have the shape of `scores`, {scores.shape}, got {targets.shape}.")
    valid = (targets == 0) | (targets == 1) | (targets == UNKNOWN)
    if not valid.all():
        raise ValueError(
            f"`targets` must be 1 (in the image), 0 (not) or {UNKNOWN} (unknown), got {targets[~valid][0]}."
        )
    return scores, targets.astype(np.int8)


def _check_scores(scores: ArrayLike) -> NDArray:
    scores = np.asarray(scores)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"`scores` must have shape (images, labels) with at least one of each, got {scores.shape}.")
    if not np.issubdtype(scores.dtype, np.floating):
        scores = scores.astype(np.float64)
    finite = np.isfinite(scores)
    if not finite.all():
        image, label = np.argwhere(~finite)[0]
        raise ValueError(
            f"`scores` hold {int((~finite).sum())} NaN or infinite values, the first one ({scores[image, label]}) for "
            f"image {image} and label {label}: they cannot be ranked."
        )
    return scores


def average_precision(scores: ArrayLike, targets: ArrayLike) -> NDArray[np.float64]:
    """Average precision of each label over the images, not interpolated.

    `AP = sum_n (R_n - R_{n-1}) P_n` over the distinct scores of the label, from the highest down, with precision P_n
    and recall R_n of the images that score at least that much. Images that score the same are taken together, so the
    order of the images does not matter; scikit-learn's `average_precision_score` does the same.

    An unknown entry (-1) is left out of its label's ranking, as if the image were not there for that label.

    Args:
        scores: shape (N, L), finite.
        targets: 1, 0 or -1 (unknown), shape (N, L).

    Returns:
        Shape (L,), in [0, 1]; NaN where a label has no positive image.

    Raises:
        ValueError: as [`check_scores_and_targets`].
    """
    scores, targets = check_scores_and_targets(scores, targets)
    num_images, num_labels = scores.shape
    at_once = max(1, _ENTRIES_AT_ONCE // num_images)
    pieces = [slice(start, start + at_once) for start in range(0, num_labels, at_once)]
    return np.concatenate([_average_precision_of_rows(scores[:, piece].T, targets[:, piece].T) for piece in pieces])


def _average_precision_of_rows(scores: NDArray, targets: NDArray[np.int8]) -> NDArray[np.float64]:
    num_images = scores.shape[1]
    order = np.argsort(-scores, axis=1)  # (labels, images), the best image first
    scores, targets = np.take_along_axis(scores, order, axis=1), np.take_along_axis(targets, order, axis=1)
    positive = targets == 1
    num_positives = positive.sum(axis=1)
    precision = positive.cumsum(axis=1) / np.maximum((targets != UNKNOWN).cumsum(axis=1), 1)
    # Every image takes the precision at the end of the run of equal scores that it stands in.
    run_end = np.full(scores.shape, num_images - 1)
    np.copyto(run_end[:, :-1], np.arange(num_images - 1), where=scores[:, :-1] != scores[:, 1:])
    run_end = np.minimum.accumulate(run_end[:, ::-1], axis=1)[:, ::-1]
    total = np.where(positive, np.take_along_axis(precision, run_end, axis=1), 0.0).sum(axis=1)
    return np.divide(total, num_positives, out=np.full(len(total), np.nan), where=num_positives > 0)


def mean_average_precision(scores: ArrayLike, targets: ArrayLike) -> MeanAveragePrecision:
    """Mean over labels of [`average_precision`] (mAP, macro).

    Labels without a positive image have no average precision: they are left out of the mean, and reported.

    Args:
        scores: shape (N, L), finite.
        targets: 1, 0 or -1 (unknown), shape (N, L).

    Returns:
        [`MeanAveragePrecision`].

    Raises:
        ValueError: as [`check_scores_and_targets`].
    """
    per_label = average_precision(scores, targets)
    left_out = np.isnan(per_label)
    mean = float(per_label[~left_out].mean()) if not left_out.all() else float("nan")
    return MeanAveragePrecision(mean, per_label, np.flatnonzero(left_out).tolist())


def top_k_mask(scores: ArrayLike, *, k: int) -> NDArray[np.bool_]:
    """The k labels with the highest scores of each image; of equal scores the lower label index comes first.

    Args:
        scores: shape (N, L), finite.
        k: number of labels, from 1 to L.

    Returns:
        Shape (N, L), with exactly k True in each row.

    Raises:
        ValueError: when a score is NaN or infinite, `scores` are not (N, L), or k is out of range.
    """
    left = _check_scores(scores).copy()  # labels leave it as they are taken
    num_images, num_labels = left.shape
    if not 1 <= k <= num_labels:
        raise ValueError(f"`k` must be between 1 and the number of labels ({num_labels}), got {k}.")
    mask = np.zeros(left.shape, dtype=bool)
    images = np.arange(num_images)
    # `argmax` takes the first of equals and k is small: k passes are faster than sorting, and stable.
    for _ in range(k):
        best = left.argmax(axis=1)
        mask[images, best] = True
        left[images, best] = -np.inf
    return mask


def top_k_metrics(scores: ArrayLike, targets: ArrayLike, *, k: int) -> TopKMetrics:
    """Precision, recall and F1 when the k best labels of every image are predicted, overall and per class.

    With TP_j the images for which label j is predicted and right, N_j those for which it is predicted, and G_j those
    that hold it:

    - overall: `OP = sum_j TP_j / sum_j N_j`, `OR = sum_j TP_j / sum_j G_j`;
    - per class: `CP = mean_j(TP_j / N_j)`, `CR = mean_j(TP_j / G_j)`;
    - `OF1` and `CF1` are the harmonic means of OP and OR, and of CP and CR.

    These are the definitions of Gong et al. 2013 (arXiv 1312.4894, on NUS-WIDE) and of Wang et al. 2016
    (CNN-RNN, arXiv 1604.04573). They leave open what to do with empty denominators; here:

    - a label that is never predicted has precision 0, and stays in the mean;
    - a label without a positive image has no recall: it is left out of both per-class means, as of the mean average
      precision; its wrong predictions still count overall;
    - an image without any positive counts as all others: its k predictions are wrong;
    - an unknown entry (-1) keeps its place among the k, but is counted neither as predicted nor as positive: what is
      predicted never depends on the targets;
    - 0 / 0 overall, and the F1 of two zeros, are 0. Without any positive at all, everything is 0.

    Args:
        scores: shape (N, L), finite.
        targets: 1, 0 or -1 (unknown), shape (N, L).
        k: number of labels predicted for each image, from 1 to L.

    Returns:
        [`TopKMetrics`].

    Raises:
        ValueError: as [`check_scores_and_targets`], or when k is out of range.
    """
    scores, targets = check_scores_and_targets(scores, targets)
    predicted = top_k_mask(scores, k=k) & (targets != UNKNOWN)
    positive = targets == 1
    num_right = (predicted & positive).sum(axis=0)
    num_predicted, num_positives = predicted.sum(axis=0), positive.sum(axis=0)
    held = num_positives > 0
    overall_precision = _ratio(num_right.sum(), num_predicted.sum())
    overall_recall = _ratio(num_right.sum(), num_positives.sum())
    class_precision = _ratio((num_right[held] / np.maximum(num_predicted[held], 1)).sum(), held.sum())
    class_recall = _ratio((num_right[held] / num_positives[held]).sum(), held.sum())
    return TopKMetrics(
        overall_precision,
        overall_recall,
        _harmonic_mean(overall_precision, overall_recall),
        class_precision,
        class_recall,
        _harmonic_mean(class_precision, class_recall),
    )


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def _harmonic_mean(first: float, second: float) -> float:
    return _ratio(2 * first * second, first + second)


__all__ = [
    "MeanAveragePrecision",
    "TopKMetrics",
    "average_precision",
    "check_scores_and_targets",
    "mean_average_precision",
    "top_k_mask",
    "top_k_metrics",
]
