"""What scenes are made of: concepts with their drawings and cut-out photographs, and photographs to put them on.

Reads a folder with `concepts.json`, `icons.parquet`, `stamps.parquet` and `backgrounds.parquet`, and keeps what the
options allow: styles, licences, concepts, and the half of the photographs that belongs to the split.
"""

import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from PIL import Image

from ..data.label_set import LabelList, read_label_list
from ..model.suggestions import did_you_mean

Split = Literal["train", "test"]
Stamps = Literal["none", "only", "mixed"]
Photos = Literal["none", "cc0", "all"]
Licenses = Literal["permissive", "all"]

# Two renderings of the same drawings are one style: naming either takes both, and each draws half as often.
STYLE_FAMILIES = {"fluent-emoji-flat": "fluent-emoji"}
STYLE_LICENSES = {
    "noto": "Apache-2.0",
    "twemoji": "CC-BY-4.0",
    "openmoji": "CC-BY-SA-4.0",
    "fluent-emoji-flat": "MIT",
    "fluent-emoji": "MIT",
    "emojione": "CC-BY-4.0",
}
# What a package under the Apache licence can carry with attribution. Photographs are held to more than drawings:
# they must need no attribution either, as an image made from one cannot be told from it.
_PERMISSIVE_STYLES = {"Apache-2.0", "CC-BY-4.0", "MIT", "CC0-1.0", "Public domain"}
_FREE = {"CC0-1.0", "Public domain"}
_UNKNOWN_LICENSE = "unknown"
_MARGIN = 1  # transparent pixels kept around a drawing, so that its edge stays soft
_SMALLEST = 12  # pixels; a drawing is not halved below this


class Drawing:
    """An image with transparency, decoded when first asked for, with copies at a half, a quarter, ... of its size.

    Args:
        data: encoded RGBA image.
        box: visible content, pixels x0, y0, x1, y1, half-open; the rest is cut off.
        license: as the source names it.
        origin: what to name in an attribution, such as the style, or the stamp and its author.
    """

    def __init__(self, data: bytes, box: Sequence[int], *, license: str, origin: str):
        self._data = data
        self._box = box
        self._levels: list[Image.Image] = []
        self.license, self.origin = license, origin

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the content, pixels."""
        return self._box[2] - self._box[0], self._box[3] - self._box[1]

    def level(self, scale: float) -> tuple[Image.Image, float]:
        """The smallest copy that need not be enlarged to `scale` times the original.

        Colours are premultiplied by alpha (mode RGBa), so that scaling mixes in nothing of the invisible pixels.

        Returns:
            The copy, with a transparent margin, and its own scale.
        """
        if not self._levels:
            self._levels = self._decode()  # in two threads at once: twice the same
        number = 0
        while number + 1 < len(self._levels) and scale <= 0.5 ** (number + 1):
            number += 1
        return self._levels[number], 0.5**number

    def _decode(self) -> list[Image.Image]:
        with Image.open(io.BytesIO(self._data)) as image:
            x0, y0, x1, y1 = self._box
            content = image.convert("RGBA").crop((x0 - _MARGIN, y0 - _MARGIN, x1 + _MARGIN, y1 + _MARGIN))
        levels = [content.convert("RGBa")]
        while min(levels[-1].size) // 2 >= _SMALLEST:
            width, height = levels[-1].size
            even = levels[-1].crop((0, 0, width + width % 2, height + height % 2))
            levels.append(even.reduce(2))
        return levels


@dataclass
class Concept:
    """A thing that scenes can show.

    Args:
        concept_id: its stable name.
        label: the name that multi-labels use.
        names: the label and its synonyms.
        is_seen: whether RAM may train on the label.
        styles: drawings by style family.
        stamps: cut-out photographs of the split.
    """

    concept_id: str
    label: str
    names: tuple[str, ...]
    is_seen: bool
    styles: dict[str, list[Drawing]] = field(default_factory=dict)
    stamps: list[Drawing] = field(default_factory=list)

    @property
    def drawings(self) -> list[Drawing]:
        """All images of it."""
        return [drawing for family in self.styles.values() for drawing in family] + self.stamps


class Photo(NamedTuple):
    """A photograph to put things on."""

    data: bytes
    license: str
    origin: str


@dataclass(frozen=True)
class SceneParts:
    """What the scenes of one split are made of.

    Args:
        concepts: those with at least one image, in the order of the source.
        photos: backgrounds of the split; may be empty.
    """

    concepts: list[Concept]
    photos: list[Photo]

    @property
    def attributions(self) -> list[str]:
        """A line for each source of images with its licence and the number of its images."""
        drawings = [drawing for concept in self.concepts for drawing in concept.drawings]
        counts = Counter((drawing.origin, drawing.license) for drawing in drawings)
        counts.update((photo.origin, photo.license) for photo in self.photos)
        return [f"{origin}: {count} ({license})" for (origin, license), count in sorted(counts.items())]


def read_parts(
    source: str | os.PathLike,
    *,
    split: Split = "train",
    styles: Sequence[str] | None = None,
    concepts: LabelList = "all",
    stamps: Stamps = "none",
    backgrounds: Photos = "all",
    licenses: Licenses = "permissive",
) -> SceneParts:
    """Read the parts of scenes.

    Photographs that show something the source can label (`visible_labels`) are left out: their boxes are not known.
    No photograph is in both splits: of those under one licence every third is for testing, whichever options are
    given; where only one can be had, it is for training. A concept with several stamps gives every second one to
    testing; a single stamp, and the drawings, serve both.

    Args:
        source: folder with `concepts.json`; `icons.parquet`, unless stamps alone are used; `stamps.parquet`, where
            they are used; and `backgrounds.parquet`, which may be missing.
        split: whose photographs to take.
        styles: styles of drawings; None for all that the licences allow.
        concepts: "seen", "unseen" or "all"; or labels or ids of concepts, or a file with one a line.
        stamps: use cut-out photographs not at all, alone, or beside the drawings.
        backgrounds: photographs to use; "cc0" are those without any condition.
        licenses: "permissive" leaves out what a package under the Apache licence cannot carry with attribution:
            share-alike, GNU and unknown licences, and all photographs and stamps but those in the public domain.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: when a file holds something else, a style or a concept is unknown, a style is not permissive, or
            nothing is left.
    """
    for name, value, choices in (
        ("split", split, Split),
        ("stamps", stamps, Stamps),
        ("backgrounds", backgrounds, Photos),
        ("licenses", licenses, Licenses),
    ):
        if value not in get_args(choices):
            raise ValueError(f"`{name}` must be one of {_quoted(get_args(choices))}, got {value!r}.")
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {str(folder)!r} with the parts of scenes.")
    chosen = {concept.concept_id: concept for concept in _choose(_read_concepts(folder), concepts)}
    if stamps != "only":
        _add_icons(folder, chosen, styles=styles, licenses=licenses)
    if stamps != "none":
        _add_stamps(folder, chosen, split=split, licenses=licenses)
    drawable = [concept for concept in chosen.values() if concept.drawings]
    if not drawable:
        raise ValueError(
            f"None of the {len(chosen)} concepts has a picture with stamps={stamps!r}, styles={styles} and "
            f"licenses={licenses!r}."
        )
    free_only = backgrounds == "cc0" or licenses == "permissive"
    photos = [] if backgrounds == "none" else _read_photos(folder, split)
    return SceneParts(drawable, [photo for photo in photos if photo.license in _FREE or not free_only])


# --- concepts -------------------------------------------------------------------------------------------------------


def _read_concepts(folder: Path) -> list[Concept]:
    file = _existing(folder / "concepts.json")
    try:
        concepts = [
            Concept(
                entry["concept_id"],
                entry["label"],
                tuple(dict.fromkeys((entry["label"], *entry["synonyms"]))),
                {"seen": True, "unseen": False}[entry["split"]],
            )
            for entry in json.loads(file.read_text(encoding="utf-8"))
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{str(file)!r} must hold a list of {{concept_id, label, synonyms, split}} where split is seen or unseen; "
            f"got {type(error).__name__}: {error}."
        ) from error
    for what in ("concept_id", "label"):
        counts = Counter(getattr(concept, what) for concept in concepts)
        if repeated := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"{str(file)!r} has several concepts with the same {what}: {_quoted(repeated)}.")
    return concepts


def _choose(concepts: list[Concept], wanted: LabelList) -> list[Concept]:
    if isinstance(wanted, str) and wanted in ("all", "seen", "unseen"):
        return [concept for concept in concepts if wanted == "all" or concept.is_seen == (wanted == "seen")]
    names = set(read_label_list(wanted))
    known = {concept.concept_id for concept in concepts} | {concept.label for concept in concepts}
    for name in sorted(names - known):
        raise ValueError(f"There is no concept {name!r} in the source. {did_you_mean(name, sorted(known))}")
    return [concept for concept in concepts if concept.concept_id in names or concept.label in names]


# --- images -------------------------------------------------------------------------------------------------------


def _add_icons(
    folder: Path, concepts: dict[str, Concept], *, styles: Sequence[str] | None, licenses: Licenses
) -> None:
    rows = _read_rows(folder / "icons.parquet", ("concept_id", "style", "image", "box"))
    families = _style_families({row["style"] for row in rows}, styles, licenses)
    for row in rows:
        family = STYLE_FAMILIES.get(row["style"], row["style"])
        if family in families and row["concept_id"] in concepts:
            license = STYLE_LICENSES.get(row["style"], _UNKNOWN_LICENSE)
            drawing = Drawing(row["image"], row["box"], license=license, origin=f"icons {row['style']}")
            concepts[row["concept_id"]].styles.setdefault(family, []).append(drawing)


def _style_families(known: set[str], styles: Sequence[str] | None, licenses: Licenses) -> set[str]:
    permissive = {style for style in known if STYLE_LICENSES.get(style) in _PERMISSIVE_STYLES}
    allowed = known if licenses == "all" else permissive
    for style in styles or ():
        if style not in known:
            raise ValueError(f"There is no icon style {style!r} in the source. {did_you_mean(style, sorted(known))}")
        if style not in allowed:
            raise ValueError(
                f"The icon style {style!r} is under {STYLE_LICENSES.get(style, 'an unknown licence')}, which "
                "licenses='permissive' leaves out; allow all licences (`--licenses all`) or leave the style out."
            )
    return {STYLE_FAMILIES.get(style, style) for style in (allowed if styles is None else styles)}


def _add_stamps(folder: Path, concepts: dict[str, Concept], *, split: Split, licenses: Licenses) -> None:
    columns = ("concept_id", "stamp_id", "image", "box", "license", "author")
    by_concept: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(_read_rows(folder / "stamps.parquet", columns), key=lambda row: row["stamp_id"]):
        by_concept.setdefault(row["concept_id"], []).append(row)
    for concept_id in concepts.keys() & by_concept.keys():
        rows = by_concept[concept_id]
        if len(rows) > 1:
            rows = rows[split == "test" :: 2]
        for row in rows:
            if licenses == "all" or row["license"] in _FREE:
                stamp = Drawing(
                    row["image"], row["box"], license=row["license"], origin=f"stamps by {row['author'] or 'unknown'}"
                )
                concepts[concept_id].stamps.append(stamp)


def _read_photos(folder: Path, split: Split) -> list[Photo]:
    file = folder / "backgrounds.parquet"
    if not file.exists():
        return []
    rows = _read_rows(file, ("background_id", "image", "license", "author", "visible_labels"))
    rows = sorted((row for row in rows if not row["visible_labels"]), key=lambda row: row["background_id"])
    of_license: dict[str, list[str]] = {}
    for row in rows:
        of_license.setdefault(row["license"], []).append(_photograph(row))
    for_test = {name for names in of_license.values() for name in list(dict.fromkeys(names))[1::3]}
    return [
        Photo(row["image"], row["license"], f"backgrounds {_photograph(row)} by {row['author'] or 'unknown'}")
        for row in rows
        if (_photograph(row) in for_test) == (split == "test")
    ]


def _photograph(row: dict[str, Any]) -> str:
    """Name of the photograph that a background was cut from: `dune_b1` and `dune_t0` are from `dune`."""
    return row["background_id"].rpartition("_")[0] or row["background_id"]


def _read_rows(file: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(_existing(file))
    except pa.ArrowInvalid as error:
        raise ValueError(f"{str(file)!r} is no parquet file: {error}.") from error
    if missing := [column for column in columns if column not in table.column_names]:
        raise ValueError(f"{str(file)!r} has no column {_quoted(missing)}; it has {_quoted(table.column_names)}.")
    return table.select(list(columns)).to_pylist()


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(f"The source of scenes has no file {file.name!r}: looked for {str(file)!r}.")
    return file


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


__all__ = ["STYLE_FAMILIES", "STYLE_LICENSES", "Concept", "Drawing", "Photo", "SceneParts", "read_parts"]
