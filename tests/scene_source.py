"""A small source of scenes, made on the spot: a few rectangles of one colour each."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

COLOURS = {
    "apple": (250, 20, 20),
    "leaf": (20, 250, 20),
    "sea": (20, 20, 250),
    "lemon": (250, 250, 20),
    "orchid": (250, 20, 250),
    "ice": (20, 250, 250),
    "chalk": (250, 250, 250),
    "bark": (130, 60, 20),  # no blend of two others
}
UNSEEN = ("ice", "chalk")
STYLES = ("noto", "openmoji", "fluent-emoji", "fluent-emoji-flat")


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def shape(colour: tuple[int, int, int], *, size: int = 96, box: tuple[int, int, int, int] = (3, 18, 93, 78)) -> bytes:
    """A rectangle of one colour; where nothing is drawn the hidden colour is black, as a careless tool leaves it."""
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=(*colour, 255))
    return encoded(image)


def write_table(file: Path, rows: list[dict]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), file)


def write_bare_source(folder: Path) -> None:
    """Concepts and icons alone."""
    folder.mkdir()
    concepts = [
        {
            "concept_id": name,
            "label": name,
            "synonyms": [f"{name} thing", f"old {name}"],
            "split": "unseen" if name in UNSEEN else "seen",
        }
        for name in COLOURS
    ]
    (folder / "concepts.json").write_text(json.dumps(concepts))
    icons = [
        {"concept_id": name, "style": style, "image": shape(colour), "box": [3, 18, 93, 78]}
        for name, colour in COLOURS.items()
        for style in STYLES
    ]
    write_table(folder / "icons.parquet", icons)
