"""How well models know photographs that were kept apart: a RAM, the CLIP below it, and that without training.

`python -m benchmarks.photographs MODEL [MODEL ...] --photographs FOLDER [--held-back]`, from the repository's root;
each MODEL is the name or folder of a RAM or of a CLIP. Choices are made by `--held-back`, which opens training files
alone. The spread is the standard deviation over 200 resamples of the photographs; that of a difference is of the
difference, over the same resamples.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.photo_sets import POINTING, Column, PhotoSet, open_sets
from ram_hf import RamModel, RamProcessor
from ram_hf.data.transforms import EvalTransform
from ram_hf.evaluation.pointing import pointing_hits
from ram_hf.evaluation.ranking import average_precision
from ram_hf.model.images import read_image
from ram_hf.pretrained import load_config, load_model

RESAMPLES = 200
BATCH_SIZE = 50
# Rows of a model: a RAM's score, and those of the CLIP below it; CLIP's own is the global half of an untrained RAM's.
RAM, CLIP, UNTRAINED = "RAM", "CLIP (softmax)", "CLIP, training-free RAM"

Findings = dict[str, NDArray]  # by ranking the scores (N, L), and by what points the hits (N, L)
Spread = tuple[float, NDArray]  # a number, and what it is in each resample


class Looked(NamedTuple):
    """What a model says of a set: its score's findings, those of the score's global half, and which boxes counted."""

    score: Findings
    whole: Findings
    counted: NDArray | None


@torch.inference_mode()
def look(model: RamModel, processor: RamProcessor, photographs: PhotoSet) -> Looked:
    """Score the labels of each ranking, and play the pointing game where there are boxes."""
    transform = EvalTransform.of(processor)
    features = {
        name: model.get_label_features(**processor(labels=labels)) for name, labels in photographs.rankings.items()
    }
    score: dict[str, list[NDArray]] = {name: [] for name in photographs.rankings}
    whole: dict[str, list[NDArray]] = {name: [] for name in photographs.rankings}
    hits: dict[str, list[NDArray]] = {name: [] for name in POINTING}
    counted: list[NDArray] = []
    for first in range(0, len(photographs.images), BATCH_SIZE):
        images = [read_image(data) for data in photographs.images[first : first + BATCH_SIZE]]
        pixel_values = torch.from_numpy(np.stack([transform(image) for image in images]))
        for name, label_features in features.items():
            plays = photographs.boxes is not None and name == next(iter(features))
            output = model(
                pixel_values,
                label_features=label_features,
                output_transport_plan=plays,
                output_probabilities=False,
            )
            score[name].append(output.scores.numpy())
            whole[name].append(output.global_logits.softmax(dim=-1).numpy())
            if plays:
                sizes = [image.size for image in images]
                grid = model.config.patch_grid(*pixel_values.shape[-2:])
                _play(output, photographs, first, sizes, grid, hits, counted)
    found = {name: np.concatenate(parts) for name, parts in (score | hits).items() if parts}
    halves = {name: np.concatenate(parts) for name, parts in whole.items()}
    return Looked(found, halves, np.stack(counted) if counted else None)


def _play(
    output,
    photographs: PhotoSet,
    first: int,
    sizes: Sequence[tuple[int, int]],
    grid: tuple[int, int],
    hits: dict[str, list[NDArray]],
    counted: list[NDArray],
) -> None:
    names = next(iter(photographs.rankings.values()))
    columns: dict[str, Tensor] = {
        "plan": output.transport_plan,
        "similarity": output.patch_embeds @ output.label_embeds.T,
    }
    for number, size in enumerate(sizes):
        boxes = (photographs.boxes or [])[first + number]
        for points in POINTING:
            right, judged = pointing_hits(
                columns[points][number], grid=grid, size=size, boxes=boxes, label_names=names
            )
            hits[points].append(right[None])
        counted.append(judged)


def rows_of(model: RamModel, processor: RamProcessor, photographs: PhotoSet) -> dict[str, Looked]:
    """A model's rows of the table; the weights of the CLIP are shared."""
    below = look(RamModel.from_clip(model.clip), processor, photographs)
    return {RAM: look(model, processor, photographs), **_clip_rows(below)}


def clip_rows(model: RamModel, processor: RamProcessor, photographs: PhotoSet) -> dict[str, Looked]:
    """The rows of a CLIP, as `load_model` gives it: a RAM without training."""
    return _clip_rows(look(model, processor, photographs))


def _clip_rows(below: Looked) -> dict[str, Looked]:
    return {CLIP: below._replace(score=below.whole), UNTRAINED: below}


def numbers(photographs: PhotoSet, looked: Looked) -> dict[str, float]:
    """Each column of a row, as fractions, but for those that the row lacks or that are undefined."""
    arrays = {column: _arrays(photographs, column, looked) for column in photographs.columns}
    found = {column.title: column.measure(*values) for column, values in arrays.items() if values is not None}
    return {title: value for title, value in found.items() if not math.isnan(value)}


def spread(photographs: PhotoSet, column: Column, looked: Looked) -> Spread | None:
    """A number and what it is in each resample of the photographs; None where the row lacks it."""
    arrays = _arrays(photographs, column, looked)
    if arrays is None:
        return None
    values, targets = arrays
    rng = np.random.default_rng(0)  # the same resamples for every row: differences are of pairs
    drawn = [rng.integers(len(values), size=len(values)) for _ in range(RESAMPLES)]
    return column.measure(values, targets), np.array([column.measure(values[rows], targets[rows]) for rows in drawn])


def _arrays(photographs: PhotoSet, column: Column, looked: Looked) -> tuple[NDArray, NDArray] | None:
    """What the measure of a column is of: scores and targets, or hits and what was counted."""
    if column.ranking not in looked.score:
        return None
    values = looked.score[column.ranking]
    targets = looked.counted if column.ranking in POINTING else photographs.targets[column.ranking]
    if column.labels is None:
        return values, targets
    kept = list(column.labels)
    return values[:, kept], targets[:, kept]


def to_table(photographs: PhotoSet, models: Mapping[str, Mapping[str, Looked]]) -> str:
    """The numbers in percent with their spread, and each RAM's differences from its CLIP, in Markdown.

    Args:
        photographs: what was judged by.
        models: the rows of each, by its name and theirs.
    """
    titles = [column.title for column in photographs.columns]
    lines = [f"{photographs.name}, {len(photographs.images)} photographs:\n"]
    lines += ["| | " + " | ".join(titles) + " |", "|---|" + "---|" * len(titles)]
    for model, rows in models.items():
        found = {row: [spread(photographs, column, rows[row]) for column in photographs.columns] for row in rows}
        lines += [f"| {model}: {row} | " + " | ".join(map(_told, cells)) + " |" for row, cells in found.items()]
        if RAM in found:
            compared = zip(found[RAM], found[CLIP], found[UNTRAINED], strict=True)
            # Pointing, which a softmax has none of, is compared with the untrained peak.
            cells = [_difference(own, below or peak) for own, below, peak in compared]
            lines.append(f"| {model}: RAM above its CLIP | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _told(value: Spread | None) -> str:
    return "-" if value is None else f"{100 * value[0]:.1f} ± {100 * value[1].std():.1f}"


def _difference(value: Spread | None, below: Spread | None) -> str:
    if value is None or below is None:
        return "-"
    return f"{100 * (value[0] - below[0]):+.1f} ± {100 * (value[1] - below[1]).std():.1f}"


def to_label_table(photographs: PhotoSet, models: Mapping[str, Mapping[str, Looked]]) -> str:
    """Average precision of each label of the first ranking, in percent."""
    ranking, labels = next(iter(photographs.rankings.items()))
    targets = photographs.targets[ranking]
    rows = {f"{model}: {row}": looked for model, found in models.items() for row, looked in found.items()}
    values = [average_precision(looked.score[ranking], targets) for looked in rows.values()]
    lines = [f"{photographs.name}, average precision:\n", "| label | positives | " + " | ".join(rows) + " |"]
    lines.append("|---|---|" + "---|" * len(rows))
    for index, label in enumerate(labels):
        cells = ["-" if np.isnan(column[index]) else f"{100 * column[index]:.1f}" for column in values]
        lines.append(f"| {label} | {targets[:, index].sum(dtype=int)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="RAM or CLIP, folder or name")
    parser.add_argument("--photographs", required=True, type=Path, help="folder with Parquet files and labels.json")
    parser.add_argument("--held-back", action="store_true", help="judge by rows held back from training files alone")
    parser.add_argument("--max-images", type=int, metavar="N", help="only the first N photographs of each set")
    parser.add_argument("--per-label", action="store_true", help="print the average precision of each label too")
    options = parser.parse_args()

    sets = open_sets(options.photographs, is_held_back=options.held_back, max_images=options.max_images)
    rows: dict[str, dict[str, dict[str, Looked]]] = {photographs.name: {} for photographs in sets}
    for name in options.models:
        judge = clip_rows if load_config(name) is None else rows_of
        model, processor = load_model(name)
        for photographs in sets:
            rows[photographs.name][name] = judge(model, processor, photographs)
    for photographs in sets:
        print(to_table(photographs, rows[photographs.name]))
    if options.per_label:
        for photographs in sets:
            print(to_label_table(photographs, rows[photographs.name]))


if __name__ == "__main__":
    main()
