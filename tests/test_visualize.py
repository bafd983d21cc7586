"""Drawing tags on pictures."""

import numpy as np
import pytest
from PIL import Image

from ram_hf.visualize import draw_tags, heat_to_colours


def make_tag(label="dog", score=0.5, **more):
    return {"label": label, "score": score, **more}


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (300, 451), (5000, 40), (40, 5000)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_any_picture_becomes_readable(size, mode):
    drawn = draw_tags(Image.new(mode, size), [make_tag(heat_map=np.eye(3))])
    assert drawn.mode == "RGB"
    assert max(drawn.size) >= 512
    assert min(drawn.size) >= 64


def test_a_box_is_where_it_was_said():
    image = Image.new("RGB", (1000, 500), "black")
    box = {"xmin": 400, "ymin": 200, "xmax": 700, "ymax": 450}
    changed = np.asarray(draw_tags(image, [make_tag(box=box)]))[:500, :1000].any(axis=-1)
    rows, columns = changed.any(axis=1).nonzero()[0], changed.any(axis=0).nonzero()[0]
    assert (columns[0], columns[-1]) == (400, 699)
    assert (rows[0], rows[-1]) == (200, 449)


def test_heat_is_brightest_where_the_heat_map_is():
    heat = np.zeros((4, 4))
    heat[0, 3] = 1
    image = Image.new("RGB", (512, 512), (128, 128, 128))
    drawn = np.asarray(draw_tags(image, [make_tag(heat_map=heat)]).convert("L"), dtype=float)
    tile = drawn[512:, 8 : 8 + (drawn.shape[1] - 40) // 4]
    height = tile.shape[1]
    left, right = tile[8 : height // 4, : height // 4].mean(), tile[8 : height // 4, -height // 4 :].mean()
    assert right > left + 40


def test_colours_are_perceptually_even():
    lightness = heat_to_colours(np.linspace(0, 1, 33)).astype(float) @ [0.2126, 0.7152, 0.0722]
    steps = np.diff(lightness)
    assert (steps > 0).all()
    assert steps.max() < 5 * steps.min()


def test_only_so_many_heat_maps():
    tags = [make_tag(f"label {number}", heat_map=np.eye(2)) for number in range(9)]
    image = Image.new("RGB", (600, 600))
    assert draw_tags(image, tags, max_heat_maps=4).height < draw_tags(image, tags).height
    assert draw_tags(image, tags, max_heat_maps=0).height == 600


def test_long_and_strange_labels_stay_on_the_picture():
    tags = [make_tag("x" * 500, box={"xmin": 590, "ymin": 590, "xmax": 600, "ymax": 600}), make_tag("a\nb\tc", 0.0)]
    assert draw_tags(Image.new("RGB", (600, 600)), tags).size == draw_tags(Image.new("RGB", (600, 600)), []).size


@pytest.mark.parametrize("heat", [np.zeros(4), np.full((2, 2), np.nan), np.zeros((0, 2))])
def test_a_broken_heat_map_is_named(heat):
    with pytest.raises(ValueError, match="`heat_map` must be finite"):
        draw_tags(Image.new("RGB", (10, 10)), [make_tag(heat_map=heat)])
