"""The pointing game: does the place where a label scores highest lie on the object?"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def pointing_hits(
    columns: Tensor,
    *,
    grid: tuple[int, int],
    size: tuple[int, int],
    boxes: Mapping[str, Sequence[Sequence[float]]],
    label_names: Sequence[str],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Play the pointing game on one image (Zhang et al. 2016, arXiv 1608.00507), without tolerance around the boxes.

    The point of a label is the centre of the patch with the highest entry in the label's column; of equal entries the
    first patch, row by row. The model sees the whole image squashed to a square, so patch (row, column) of a grid of
    H x W patches has its centre at `x = (column + 1/2) * width / W`, `y = (row + 1/2) * height / H` of the original
    image. It is a hit when one of the label's boxes holds it: `x0 <= x < x1` and `y0 <= y < y1`.

    Args:
        columns: what the model says of each patch and label, shape (P, L), patches row by row: a transport plan or the
            similarities of patches and labels.
        grid: rows H and columns W of patches, with H * W = P.
        size: width and height of the original image, in pixels.
        boxes: for each label name its boxes [x0, y0, x1, y1], in pixels of the original image, ends excluded. Names
            that are not in `label_names` and names without a box are passed over.
        label_names: the L labels of the columns.

    Returns:
        `hits` and `counted`, each of shape (L,): labels that were pointed at rightly, and labels that have a box.

    Raises:
        ValueError: when shapes do not fit, `size` is not positive, a box is not four finite numbers with x0 <= x1 and
            y0 <= y1, or a column to be judged holds NaN.
    """
    num_rows, num_columns = grid
    if columns.dim() != 2 or tuple(columns.shape) != (num_rows * num_columns, len(label_names)):
        raise ValueError(
            f"`columns` must have shape (patches, labels) = {(num_rows * num_columns, len(label_names))} for a grid "
            f"of {num_rows} x {num_columns} patches and {len(label_names)} labels, got {tuple(columns.shape)}."
        )
    width, height = (float(side) for side in size)
    if width <= 0 or height <= 0:
        raise ValueError(f"`size` must be the width and height of the image in pixels, got {(width, height)}.")
    hits, counted = np.zeros(len(label_names), dtype=bool), np.zeros(len(label_names), dtype=bool)
    judged = [index for index, name in enumerate(label_names) if len(boxes.get(name, ()))]
    if not judged:
        return hits, counted
    judged_columns = columns[:, judged]
    if bool(judged_columns.isnan().any()):
        raise ValueError("`columns` hold NaN: they have no peak.")
    peaks = judged_columns.argmax(dim=0).cpu().numpy()
    # Both sides times twice the grid, so that with whole pixels the comparison is exact.
    points = (2 * np.stack([peaks % num_columns, peaks // num_columns], axis=1) + 1) * np.array([width, height])
    scale = 2 * np.array([num_columns, num_rows], dtype=np.float64)
    for index, point in zip(judged, points, strict=True):
        corners = _check_boxes(boxes[label_names[index]], label_names[index])
        hits[index] = ((corners[:, 0] * scale <= point) & (point < corners[:, 1] * scale)).all(axis=1).any()
    counted[judged] = True
    return hits, counted


def _check_boxes(boxes: Sequence[Sequence[float]], name: str) -> NDArray[np.float64]:
    """Boxes as corners, shape (boxes, 2, 2): first or last corner, then x or y."""
    corners = np.asarray(boxes, dtype=np.float64)
    if corners.ndim != 2 or corners.shape[1] != 4 or not np.isfinite(corners).all():
        raise ValueError(f"The boxes of {name!r} must be lists of four finite numbers [x0, y0, x1, y1], got {boxes}.")
    corners = corners.reshape(-1, 2, 2)
    if (corners[:, 0] > corners[:, 1]).any():
        raise ValueError(
            f"The boxes of {name!r} must be [x0, y0, x1, y1] with x0 <= x1 and y0 <= y1, got {boxes}. "
            "Boxes given as [x, y, width, height] are to be converted first."
        )
    return corners


class PointingGame:
    """Adds up the pointing game over images.

    Args:
        num_labels: L.

    Attributes:
        hits: number of images in which each label was pointed at rightly, int64, shape (L,).
        total: number of images in which each label has a box, int64, shape (L,).
    """

    def __init__(self, num_labels: int):
        self.hits = np.zeros(num_labels, dtype=np.int64)
        self.total = np.zeros(num_labels, dtype=np.int64)

    def update(self, hits: NDArray, counted: NDArray) -> None:
        """Add one image's result of [`pointing_hits`], or the `hits` and `total` of another game.

        Args:
            hits: shape (L,).
            counted: shape (L,).
        """
        self.hits += hits
        self.total += counted

    @property
    def accuracy(self) -> float:
        """Share of hits among all image-label pairs with a box, in [0, 1]; NaN when there is none."""
        total = self.total.sum()
        return float(self.hits.sum() / total) if total else float("nan")

    @property
    def mean_accuracy(self) -> float:
        """Mean over the labels with a box of each label's share of hits, as Zhang et al. report; NaN without any."""
        played = self.total > 0
        return float((self.hits[played] / self.total[played]).mean()) if played.any() else float("nan")


__all__ = ["PointingGame", "pointing_hits"]
