import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ram_hf.evaluation.pointing import pointing_hits
from ram_hf.model.regions import heat_map, label_region

# Few values, so that plateaus, ties and exact halves are frequent; and any others.
HEATS = st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1e6, width=32)


@st.composite
def columns(draw):
    num_rows, num_columns = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    size = num_rows * num_columns
    column = np.array(draw(st.lists(HEATS, min_size=size, max_size=size)), dtype=np.float32)
    if not column.any():
        column[draw(st.integers(0, size - 1))] = 1
    return column, (num_rows, num_columns), (draw(st.integers(1, 700)), draw(st.integers(1, 700)))


def test_a_label_in_a_wide_picture():
    # 2 rows and 4 columns on 80 x 20 pixels, each patch 20 x 10.
    column = np.array([0.1, 0.0, 0.2, 0.0, 0.2, 0.0, 0.4, 0.3])
    region = label_region(column, grid=(2, 4), size=(80, 20))
    np.testing.assert_allclose(region["heat_map"], [[0.25, 0, 0.5, 0], [0.5, 0, 1, 0.75]], rtol=1e-6)
    assert region["heat_map"].dtype == np.float32
    assert region["peak"] == {"x": 50, "y": 15}
    # The patch of half the heat on the left is not connected, the one above is.
    assert region["box"] == {"xmin": 40, "ymin": 0, "xmax": 80, "ymax": 20}


def test_the_heat_map_alone_is_that_of_the_region():
    column = np.array([0.1, 0.0, 0.2, 0.0, 0.2, 0.0, 0.4, 0.3])
    heat = heat_map(column, grid=(2, 4))
    assert heat.dtype == np.float32
    np.testing.assert_array_equal(heat, label_region(column, grid=(2, 4), size=(80, 20))["heat_map"])
    with pytest.raises(ValueError, match=r"rows and columns of `grid`, \(2, 3\), got \(8,\)"):
        heat_map(column, grid=(2, 3))
    with pytest.raises(ValueError, match="zeros alone"):
        heat_map(np.zeros(8), grid=(2, 4))


def test_patches_that_touch_at_a_corner_are_not_connected():
    region = label_region(np.array([1.0, 0, 0, 0.9]), grid=(2, 2), size=(10, 10))
    assert region["box"] == {"xmin": 0, "ymin": 0, "xmax": 5, "ymax": 5}


def test_of_equal_peaks_the_first_counts():
    region = label_region(np.array([0, 1.0, 0, 1.0]), grid=(1, 4), size=(8, 2))
    assert region["peak"] == {"x": 3, "y": 1}
    assert region["box"] == {"xmin": 2, "ymin": 0, "xmax": 4, "ymax": 2}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tensor_is_an_array(dtype):
    column = torch.tensor([0.25, 1, 0.5, 0.125], dtype=dtype, requires_grad=True)
    region = label_region(column, grid=(2, 2), size=(10, 10))
    assert region["heat_map"].tolist() == [[0.25, 1], [0.5, 0.125]]
    assert type(region["peak"]["x"]) is float
    assert {type(border) for border in region["box"].values()} == {int}


@given(columns())
@settings(max_examples=150, deadline=None)
def test_box_is_what_scipy_connects(case):
    """Against SciPy's connected components, with the borders in exact arithmetic."""
    column, (num_rows, num_columns), (width, height) = case
    region = label_region(column, grid=(num_rows, num_columns), size=(width, height))
    heat_map, box = region["heat_map"], region["box"]
    components, _ = ndimage.label(heat_map >= 0.5)
    peak = np.unravel_index(column.argmax(), heat_map.shape)
    rows, patches = ndimage.find_objects((components == components[peak]).astype(int))[0]
    scaled = {"xmin": patches.start * width, "xmax": patches.stop * width}
    scaled |= {"ymin": rows.start * height, "ymax": rows.stop * height}
    for side, count in (("x", num_columns), ("y", num_rows)):
        first, last = box[f"{side}min"] * count, box[f"{side}max"] * count
        assert first <= scaled[f"{side}min"] < first + count  # the nearest whole pixel outwards
        assert last - count < scaled[f"{side}max"] <= last
    assert 0 <= box["xmin"] < box["xmax"] <= width
    assert 0 <= box["ymin"] < box["ymax"] <= height


@given(columns())
@settings(max_examples=100, deadline=None)
def test_peak_lies_in_the_box_and_where_the_pointing_game_points(case):
    column, grid, size = case
    region = label_region(column, grid=grid, size=size)
    box, peak = region["box"], region["peak"]
    assert box["xmin"] <= peak["x"] < box["xmax"]
    assert box["ymin"] <= peak["y"] < box["ymax"]
    assert region["heat_map"].max() == 1
    assert region["heat_map"].min() >= 0
    # A box that holds this point and little else is hit.
    around = [peak["x"] - 1e-6, peak["y"] - 1e-6, peak["x"] + 1e-6, peak["y"] + 1e-6]
    hits, _ = pointing_hits(
        torch.from_numpy(column)[:, None], grid=grid, size=size, boxes={"dog": [around]}, label_names=["dog"]
    )
    assert hits.tolist() == [True]


@given(columns(), st.integers(-10, 10))
@settings(max_examples=50, deadline=None)
def test_the_mass_of_the_column_changes_nothing(case, exponent):
    column, grid, size = case
    region = label_region(column.astype(np.float64), grid=grid, size=size)
    scaled = label_region(column.astype(np.float64) * 2.0**exponent, grid=grid, size=size)
    np.testing.assert_array_equal(region.pop("heat_map"), scaled.pop("heat_map"))
    assert region == scaled


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"column": np.ones(3)}, r"for the rows and columns of `grid`, \(2, 2\), got \(3,\)"),
        ({"column": np.ones((2, 2))}, r"got \(2, 2\)"),
        ({"grid": (-2, -2)}, r"\(-2, -2\)"),
        ({"size": (0, 4)}, r"width and height of the image in pixels, got \(0, 4\)"),
        ({"column": np.array([1, np.nan, 0, 0])}, "NaN, infinite or negative"),
        ({"column": np.array([1, np.inf, 0, 0])}, "NaN, infinite or negative"),
        ({"column": np.array([1, -1e-9, 0, 0])}, "NaN, infinite or negative"),
        ({"column": np.zeros(4)}, "zeros alone"),
    ],
)
def test_what_has_no_region_is_refused(changes, message):
    arguments = {"column": np.ones(4), "grid": (2, 2), "size": (4, 4), **changes}
    with pytest.raises(ValueError, match=message):
        label_region(arguments.pop("column"), **arguments)
