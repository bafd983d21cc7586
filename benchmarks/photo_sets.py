"""The photographs that models are judged by: which there are, which labels are ranked, and what is counted.

Each set has a file of its own that nothing is trained or chosen on, and stands, for choices, for rows of a training
file that are held back from the CLIP and from RAM.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ram_hf.evaluation.ranking import mean_average_precision, top_k_mask, top_k_metrics
from ram_hf.pretraining.photographs import held_back

HELD_BACK_EVERY = 16
LEAST_POSITIVES = 5  # of a label, among rows that are held back; in the other files the labels are fixed
POINTING = ("plan", "similarity")  # what points
Boxes = Mapping[str, Sequence[Sequence[float]]]


class Column(NamedTuple):
    """A number of the table.

    Attributes:
        title: of the column.
        ranking: which labels are ranked together, a key of [`PhotoSet.rankings`]; or one of `POINTING`.
        measure: of scores and targets, or of hits and what was counted, each (N, L).
        labels: indices of those of the ranking that it is of; None for all.
    """

    title: str
    ranking: str
    measure: Callable[[NDArray, NDArray], float]
    labels: tuple[int, ...] | None = None


@dataclass
class PhotoSet:
    """N photographs, and how they are judged by.

    Attributes:
        name: `coco`, `coco80` or `objects`.
        images: encoded.
        rankings: labels that are ranked against each other, by name; the first is the one that is told of by label.
        targets: 1 where a label is in a photograph, else 0, by ranking, shape (N, L).
        columns: what is counted.
        boxes: [x0, y0, x1, y1] in pixels by label, for each photograph; None where there are none.
    """

    name: str
    images: list[bytes]
    rankings: dict[str, list[str]]
    targets: dict[str, NDArray[np.int8]]
    columns: list[Column]
    boxes: list[Boxes] | None = None


def open_sets(folder: Path, *, is_held_back: bool, max_images: int | None = None) -> list[PhotoSet]:
    """The three sets, but for those that no label is left of.

    Args:
        folder: with the Parquet files and `labels.json`.
        is_held_back: read rows of the training files that are held back, and open none of the others.
        max_images: of each set the first so many.
    """
    words = json.loads((folder / "labels.json").read_text(encoding="utf-8"))

    def rows(judged: str, trained: str) -> list[dict[str, Any]]:
        table = pq.read_table(folder / f"{trained if is_held_back else judged}.parquet")
        if is_held_back:
            table = table.filter(pa.array(held_back([trained] * len(table), every=HELD_BACK_EVERY)))
            if "source" in table.column_names and judged == "dev-objects":
                kept = [source.startswith("tiny-imagenet") for source in table["source"].to_pylist()]
                table = table.filter(pa.array(kept))
        return table.slice(0, max_images).to_pylist()

    sets = [
        exact_and_nouns(rows("dev-coco", "train-coco"), words),
        coco80(rows("dev-coco80", "train-coco"), words, is_complete=not is_held_back),
        objects(rows("dev-objects", "train-imagenet")),
    ]
    return [photographs for photographs in sets if photographs.rankings]


def exact_and_nouns(rows: Sequence[Mapping[str, Any]], words: Mapping[str, Any]) -> PhotoSet:
    """The exact labels, all of them and those that RAM never saw; and nouns, absent where no caption names them."""
    exact, seen, unseen = words["exact"], words["seen"], words["unseen"]
    rankings = {
        "exact": exact,
        "exact unseen": [name for name in exact if name in unseen],
        "unseen": unseen,
        "all": [*seen, *unseen],
    }
    rows = [row for row in rows if row["labels_exact"] is not None]
    named = [row["labels"] for row in rows]
    parts = {
        part: tuple(index for index, name in enumerate(exact) if name in words[part]) for part in ("seen", "unseen")
    }
    columns = [
        Column(f"mAP, {len(exact)} exact", "exact", mean_ap),
        *(Column(f"the {len(kept)} {part} of them", "exact", mean_ap, kept) for part, kept in parts.items()),
        Column(f"ZSL, the {len(parts['unseen'])} alone", "exact unseen", mean_ap),
        Column(f"ZSL, {len(unseen)} labels", "unseen", mean_ap),
        Column(f"GZSL, {len(rankings['all'])} labels", "all", mean_ap),
    ]
    return _photo_set("coco", rows, named, rankings, columns)


def coco80(rows: Sequence[Mapping[str, Any]], words: Mapping[str, Any], *, is_complete: bool) -> PhotoSet:
    """COCO's 80 classes with their boxes; or, of rows that are not complete, those that captions name often enough.

    Four classes are asked for by the names that the other files have for them.
    """
    elsewhere = words["coco80_names_elsewhere"]
    named = [[elsewhere.get(name, name) for name in row["labels"]] for row in rows]
    labels = [elsewhere.get(name, name) for name in words["coco80"]]
    if not is_complete:
        labels = [name for name in labels if sum(name in names for names in named) >= LEAST_POSITIVES]
    new = [name for name in labels if name not in words["seen"]]
    rankings = {"all": labels, "new": new}
    parts = {
        "seen": tuple(index for index, name in enumerate(labels) if name not in new),
        "never trained on": tuple(index for index, name in enumerate(labels) if name in new),
    }
    columns = [
        Column(f"mAP, {len(labels)} classes", "all", mean_ap),
        *(Column(f"the {len(kept)} {part}", "all", mean_ap, kept) for part, kept in parts.items()),
        Column(f"ZSL, the {len(new)} alone", "new", mean_ap),
        Column("OF1@3", "all", lambda scores, targets: top_k_metrics(scores, targets, k=3).overall_f1),
        Column("CF1@3", "all", lambda scores, targets: top_k_metrics(scores, targets, k=3).class_f1),
    ]
    boxes = None
    if is_complete:
        boxes = [boxes_by_label(row["boxes"], elsewhere) for row in rows]
        columns += [Column(f"pointing: {points}", points, share_of_hits) for points in POINTING]
    return _photo_set("coco80", rows, named, rankings, columns, boxes)


def objects(rows: Sequence[Mapping[str, Any]]) -> PhotoSet:
    """Photographs of one thing each, among all the names of these things."""
    named = [row["labels"][:1] for row in rows]
    labels = sorted({name for names in named for name in names})
    columns = [Column(f"top-{k} of {len(labels)}", "all", share_in_top(min(k, len(labels)))) for k in (1, 5)]
    return _photo_set("objects", rows, named, {"all": labels}, columns)


def _photo_set(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    named: Sequence[Sequence[str]],
    rankings: Mapping[str, list[str]],
    columns: Sequence[Column],
    boxes: list[Boxes] | None = None,
) -> PhotoSet:
    """A set of rows and of what is in each, without rankings and columns that no label is left of."""
    kept = {ranking: labels for ranking, labels in rankings.items() if labels}
    return PhotoSet(
        name,
        [row["image"] for row in rows],
        kept,
        {ranking: marks(named, labels) for ranking, labels in kept.items()},
        [column for column in columns if column.ranking in (*kept, *POINTING) and column.labels != ()],
        boxes,
    )


def marks(named: Sequence[Sequence[str]], labels: Sequence[str]) -> NDArray[np.int8]:
    """1 where a label is among the names of a photograph, shape (N, L)."""
    return np.array([[name in names for name in labels] for names in map(set, named)], dtype=np.int8)


def boxes_by_label(boxes: Sequence[Mapping[str, Any]] | None, names: Mapping[str, str]) -> Boxes:
    """Boxes of a photograph by the name of what is in them, `names` being those of other names."""
    found: dict[str, list[list[float]]] = {}
    for box in boxes or ():
        label = names.get(box["label"], box["label"])
        found.setdefault(label, []).append([box[side] for side in ("x0", "y0", "x1", "y1")])
    return found


def mean_ap(scores: NDArray, targets: NDArray) -> float:
    """Mean average precision of the labels that are in a photograph."""
    return mean_average_precision(scores, targets).mean


def share_in_top(k: int) -> Callable[[NDArray, NDArray], float]:
    """Share of the photographs with a right label among the k best."""

    def measure(scores: NDArray, targets: NDArray) -> float:
        return float((top_k_mask(scores, k=k) & (targets == 1)).any(axis=1).mean())

    return measure


def share_of_hits(hits: NDArray, counted: NDArray) -> float:
    """Share of the pairs of photograph and label with a box whose peak lies in one."""
    return float(hits.sum() / counted.sum())
