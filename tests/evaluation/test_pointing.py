import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ram_hf.evaluation.pointing import PointingGame, pointing_hits


def peak_at(*patches: int, num_patches: int) -> torch.Tensor:
    """One column for each patch given, with its peak there."""
    return torch.nn.functional.one_hot(torch.tensor(patches), num_patches).T.float()


def hits_of_one(patch: int, box: list[float], *, grid: tuple[int, int], size: tuple[int, int]) -> bool:
    columns = peak_at(patch, num_patches=grid[0] * grid[1])
    hits, counted = pointing_hits(columns, grid=grid, size=size, boxes={"dog": [box]}, label_names=["dog"])
    assert counted.tolist() == [True]
    return bool(hits[0])


def test_points_in_a_picture_that_is_wider_than_high():
    # 2 rows and 4 columns on 80 x 20 pixels: patch 6 is row 1, column 2, with its centre at x = 50, y = 15.
    assert hits_of_one(6, [49, 14, 51, 16], grid=(2, 4), size=(80, 20))
    assert not hits_of_one(6, [14, 49, 16, 51], grid=(2, 4), size=(80, 20))  # x and y exchanged
    assert not hits_of_one(6, [0, 0, 80, 10], grid=(2, 4), size=(80, 20))  # the upper row


def test_a_box_holds_its_first_border_and_not_its_last():
    # One patch on 10 x 6 pixels: the centre is (5, 3).
    grid_and_size = {"grid": (1, 1), "size": (10, 6)}
    assert hits_of_one(0, [5, 3, 10, 6], **grid_and_size)
    assert not hits_of_one(0, [0, 0, 5, 6], **grid_and_size)
    assert not hits_of_one(0, [0, 0, 10, 3], **grid_and_size)
    assert not hits_of_one(0, [5, 3, 5, 3], **grid_and_size)  # empty


@given(
    st.integers(1, 14), st.integers(1, 14), st.integers(1, 700), st.integers(1, 700), st.integers(0, 700), st.data()
)
@settings(max_examples=60, deadline=None)
def test_borders_are_exact(num_rows, num_columns, width, height, corner, data):
    patch = data.draw(st.integers(0, num_rows * num_columns - 1))
    row, column = divmod(patch, num_columns)
    x, y = Fraction((2 * column + 1) * width, 2 * num_columns), Fraction((2 * row + 1) * height, 2 * num_rows)
    box = [corner, corner, corner + 50, corner + 70]
    expected = box[0] <= x < box[2] and box[1] <= y < box[3]
    assert hits_of_one(patch, box, grid=(num_rows, num_columns), size=(width, height)) == expected


def test_any_box_of_the_label_will_do_and_no_other_labels():
    columns = peak_at(0, 0, 3, num_patches=4)
    boxes = {"dog": [[8, 8, 10, 10], [0, 0, 5, 5]], "cat": [[5, 5, 10, 10]], "bird": [[0, 0, 1, 1]], "tree": []}
    hits, counted = pointing_hits(columns, grid=(2, 2), size=(10, 10), boxes=boxes, label_names=["dog", "cat", "tree"])
    assert hits.tolist() == [True, False, False]
    assert counted.tolist() == [True, True, False]


def test_of_equal_peaks_the_first_patch_points():
    hits, _ = pointing_hits(
        torch.ones(4, 1), grid=(2, 2), size=(4, 4), boxes={"dog": [[0, 0, 2, 2]]}, label_names=["dog"]
    )
    assert hits.tolist() == [True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": torch.ones(3, 1)}, r"\(4, 1\) for a grid of 2 x 2 patches and 1 labels, got \(3, 1\)"),
        ({"columns": torch.full((4, 1), torch.nan)}, "NaN"),
        ({"size": (0, 4)}, "width and height"),
        ({"boxes": {"dog": [[0, 0, 1]]}}, "four finite numbers"),
        ({"boxes": {"dog": [[0, 0, 1, math.nan]]}}, "four finite numbers"),
        ({"boxes": {"dog": [[5, 5, 1, 1]]}}, r"\[x, y, width, height\] are to be converted"),
    ],
)
def test_what_cannot_be_judged_is_refused(changes, message):
    fine = {
        "columns": torch.ones(4, 1), "grid": (2, 2), "size": (4, 4), "boxes": {"dog": [[0, 0, 1, 1]]},
        "label_names": ["dog"],
    }  # fmt: skip
    arguments = {**fine, **changes}
    with pytest.raises(ValueError, match=message):
        pointing_hits(arguments.pop("columns"), **arguments)


def test_game_over_images():
    game = PointingGame(3)
    assert math.isnan(game.accuracy)
    assert math.isnan(game.mean_accuracy)
    game.update(np.array([True, False, False]), np.array([True, True, False]))
    game.update(np.array([True, False, False]), np.array([True, False, False]))
    assert game.accuracy == 2 / 3
    assert game.mean_accuracy == (1 + 0) / 2
