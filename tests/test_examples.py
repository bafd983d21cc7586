"""The example pictures: each has a licence, each photograph a right label, and each path leads to a file."""

import csv
import fnmatch
import re
from pathlib import Path

import pytest
from PIL import Image, ImageColor

from benchmarks.demo_pictures import RIGHT, WRONG, Tagged, draw
from ram_hf.data.label_set import read_label_list

EXAMPLES = Path(__file__).parents[1] / "examples"


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if file.suffix in {".jpg", ".png"})


def table(file: Path) -> list[tuple[str, list[str]]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return [(row["path"], row["labels"].split("|")) for row in csv.DictReader(lines)]


@pytest.mark.parametrize("folder", ["pictures", "scenes"])
def test_every_picture_has_its_licence_in_the_notice(folder):
    notice = (EXAMPLES / folder / "NOTICE").read_text(encoding="utf-8")
    entries = re.findall(r"^([\w*-]+\.(?:jpg|png))(?:$|  )", notice, flags=re.MULTILINE)
    pictures = names_in(EXAMPLES / folder)
    assert [name for name in pictures if not any(fnmatch.fnmatch(name, entry) for entry in entries)] == []
    assert [entry for entry in entries if not fnmatch.filter(pictures, entry)] == []


def test_every_photograph_is_free_to_use():
    """As stated in its own entry, in words of the place that it was taken from."""
    notice = (EXAMPLES / "pictures" / "NOTICE").read_text(encoding="utf-8")
    _, *entries = re.split(r"^(?=photo-\w+\.jpg$)", notice, flags=re.MULTILINE)
    assert len(entries) == len(names_in(EXAMPLES / "pictures"))
    assert [entry for entry in entries if not re.search(r"\bCC0\b|public[ -]domain", entry, re.IGNORECASE)] == []


def test_photographs_are_small():
    for name in names_in(EXAMPLES / "pictures"):
        file = EXAMPLES / "pictures" / name
        assert file.stat().st_size <= 30_000, name
        with Image.open(file) as image:
            assert max(image.size) <= 400, name


def test_the_truth_names_every_photograph_and_labels_that_are_asked_for():
    labels = read_label_list(EXAMPLES / "labels.txt")
    assert len(labels) == len(set(labels)) >= 100
    truth = table(EXAMPLES / "pictures" / "truth.csv")
    assert [name for name, _ in truth] == names_in(EXAMPLES / "pictures")
    assert len(truth) == 12
    for name, right in truth:
        assert len(right) == len(set(right)) >= 1, name
        assert set(right) <= set(labels), name


def test_what_is_said_of_photographs_is_drawn_below_each():
    bee, cat = (EXAMPLES / "pictures" / f"photo-{name}.jpg" for name in ("bee", "cat"))
    said = [Tagged(bee, ["bee"], [{"label": "bee", "score": 0.5}]), Tagged(cat, ["cat"], [])]
    assert [photograph.is_right for photograph in said] == [True, False]
    sheet = draw(said * 3)
    tile = sheet.width // 4, sheet.height // 2
    colours = {
        name: {colour for _, colour in sheet.crop((x, tile[1] - 50, x + tile[0], tile[1])).getcolors(100_000)}
        for name, x in (("bee", 0), ("cat", tile[0]))
    }
    for name, colour, other in (("bee", RIGHT, WRONG), ("cat", WRONG, RIGHT)):
        assert ImageColor.getrgb(colour) in colours[name]
        assert ImageColor.getrgb(other) not in colours[name]
