"""Where a label is: heat map, peak and box from its column of the transport plan."""

from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

_BOX_LEVEL = 0.5  # share of the peak's heat that a patch must have to belong to the box


class Peak(TypedDict):
    """A point, in pixels of the original image."""

    x: float
    y: float


class BoundingBox(TypedDict):
    """First and last border, in whole pixels of the original image; the last ones are excluded."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int


class LabelRegion(TypedDict):
    """What [`label_region`] returns."""

    heat_map: NDArray[np.float32]
    peak: Peak
    box: BoundingBox


def label_region(column: NDArray[Any] | torch.Tensor, *, grid: tuple[int, int], size: tuple[int, int]) -> LabelRegion:
    """Tell where in a image one label is.

    The model sees the whole image squashed to a square, so patch (row, column) of a grid of H x W patches covers
    `column * width / W <= x < (column + 1) * width / W` of the original image, and likewise in y.

    Args:
        column: the label's column of the transport plan, shape (P,), patches row by row; at least 0.
        grid: rows H and columns W of patches, with H * W = P.
        size: width and height of the original image, in pixels.

    Returns:
        `heat_map`: shape (H, W), over the whole image, its largest entry is 1.
        `peak`: centre of the patch with the largest entry, of equal ones the first.
        `box`: the smallest box of whole pixels around the patches that hang together with the peak, side by side, and
        have at least half its heat. It holds the peak.

    Raises:
        ValueError: when shapes do not fit, `size` or `grid` is not positive, or the column holds NaN, infinite or
            negative entries, or zeros alone.
    """
    if min(size) < 1:
        raise ValueError(f"`size` must be the width and height of the image in pixels, got {tuple(size)}.")
    num_rows, num_columns = grid
    width, height = size
    heat = _check(column, grid)
    peak_row, peak_column = divmod(int(heat.argmax()), num_columns)
    relative = _relative(heat)
    rows, columns = np.nonzero(_connected(relative >= _BOX_LEVEL, (peak_row, peak_column)))
    return {
        "heat_map": relative,
        "peak": {
            "x": (2 * peak_column + 1) * width / (2 * num_columns),
            "y": (2 * peak_row + 1) * height / (2 * num_rows),
        },
        "box": {
            "xmin": int(columns.min()) * width // num_columns,
            "ymin": int(rows.min()) * height // num_rows,
            "xmax": _divide_up((int(columns.max()) + 1) * width, num_columns),
            "ymax": _divide_up((int(rows.max()) + 1) * height, num_rows),
        },
    }


def heat_map(column: NDArray[Any] | torch.Tensor, *, grid: tuple[int, int]) -> NDArray[np.float32]:
    """A label's heat over the patches, as [`label_region`] tells it.

    Args:
        column: the label's column of the transport plan, shape (P,), patches row by row; at least 0.
        grid: rows H and columns W of patches, with H * W = P.

    Returns:
        Shape (H, W), its largest entry is 1.

    Raises:
        ValueError: when shapes do not fit, or the column holds NaN, infinite or negative entries, or zeros alone.
    """
    return _relative(_check(column, grid))


def _relative(heat: NDArray[np.float64]) -> NDArray[np.float32]:
    return (heat / heat.max()).astype(np.float32)


def _check(column: NDArray[Any] | torch.Tensor, grid: tuple[int, int]) -> NDArray[np.float64]:
    """The column as a map of shape (H, W)."""
    if isinstance(column, torch.Tensor):
        column = column.detach().double().cpu().numpy()
    heat = np.asarray(column, dtype=np.float64)
    if min(grid) < 1 or heat.shape != (grid[0] * grid[1],):
        raise ValueError(
            f"`column` must have shape (patches,) for the rows and columns of `grid`, {tuple(grid)}, got {heat.shape}."
        )
    if not np.isfinite(heat).all() or heat.min() < 0:
        raise ValueError("`column` holds NaN, infinite or negative entries: it is no column of a transport plan.")
    if heat.max() == 0:
        raise ValueError("`column` holds zeros alone: it has no peak.")
    return heat.reshape(grid)


def _connected(is_hot: NDArray[np.bool_], start: tuple[int, int]) -> NDArray[np.bool_]:
    """The patches that can be reached from `start` over hot ones, a side at a time. Shape (H, W) in and out."""
    num_rows, num_columns = is_hot.shape
    reached = np.zeros_like(is_hot)
    waiting = [start]
    while waiting:
        row, column = waiting.pop()
        if 0 <= row < num_rows and 0 <= column < num_columns and is_hot[row, column] and not reached[row, column]:
            reached[row, column] = True
            waiting += [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
    return reached


def _divide_up(number: int, divisor: int) -> int:
    return -(-number // divisor)


__all__ = ["BoundingBox", "LabelRegion", "Peak", "heat_map", "label_region"]
