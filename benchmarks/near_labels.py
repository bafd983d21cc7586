"""From which likeness on a model no longer tells two labels apart: the threshold of `ram-hf labels check`.

Run from the repository's root: `nice python -m benchmarks.near_labels`, for `ram-tiny` and scenes, or with `--model
ram-photo --photographs FOLDER`. Names are those that the source of the scenes knows for its concepts; with photographs
also the labels of those of one thing each that are held back from training, each a concept of its own. For pairs of
names of different concepts, by their likeness: how often an image with the one concept and without the other scores
the right name higher in comparison to an image where it is the other way round (area under the curve of the difference
of their scores; 0.5 is chance). Pairs of one concept are counted beside.
"""

import argparse
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.photo_sets import HELD_BACK_EVERY
from ram_hf.model.images import read_image
from ram_hf.pretrained import load_model
from ram_hf.pretraining.photographs import held_back
from ram_hf.scenes.renderer import SceneRenderer
from ram_hf.tagging.near_labels import EVERYDAY_WORDS, directions

BATCH = 32
EDGES = [-1.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.01]
MOST_PAIRS = 4000  # of a row of the table
OF_ONE_THING = ("train-imagenet", "train-caltech101", "train-open")


class Shown(NamedTuple):
    """N images, and which of C concepts, with L names in all, each shows.

    Attributes:
        images: as they are asked for.
        concepts: names of each.
        shows: shape (N, C), bool.
    """

    images: Iterable[Image.Image]
    concepts: list[tuple[str, ...]]
    shows: NDArray[np.bool_]


def drawn_scenes(renderer: SceneRenderer, *, number: int) -> Shown:
    """Scenes with one to six concepts each."""
    scenes = [renderer.scene(index) for index in range(number)]
    concepts = renderer.parts.concepts
    shows = np.array([[concept.label in scene.labels for concept in concepts] for scene in scenes])
    return Shown((scene.image for scene in scenes), [tuple(concept.names) for concept in concepts], shows)


def held_back_photographs(folder: Path, renderer: SceneRenderer) -> Shown:
    """Photographs of one thing each; what that is a kind of is shown too."""
    tables = [pq.read_table(folder / f"{file}.parquet", columns=["image", "labels"]) for file in OF_ONE_THING]
    rows = pa.concat_tables(
        [table.filter(pa.array(held_back([""] * len(table), every=HELD_BACK_EVERY))) for table in tables]
    ).to_pylist()
    parents = json.loads((folder / "hypernyms.json").read_text(encoding="utf-8"))
    named = [{name for label in row["labels"] for name in (label, *parents.get(label, ()))} for row in rows]
    concepts = [tuple(concept.names) for concept in renderer.parts.concepts]
    known = {name for names in concepts for name in names}
    concepts += [(name,) for name in sorted(set().union(*named) - known)]
    shows = np.array([[not names.isdisjoint(concept) for concept in concepts] for names in named])
    return Shown((read_image(row["image"]) for row in rows), concepts, shows)


def told_apart(difference: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Share of (image with the first, image with the second) where the difference is larger for the first."""
    right = difference[first, None] - difference[None, second]
    return float((right > 0).mean() + (right == 0).mean() / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--source", default="../shared/scenes", help="folder with the parts of scenes")
    parser.add_argument("--photographs", type=Path, help="folder with Parquet files; scenes are drawn without it")
    parser.add_argument("--model", default="examples/ram-tiny")
    parser.add_argument("--scenes", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=21)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, processor = load_model(options.model)
    renderer = SceneRenderer(options.source, size=64, seed=options.seed, split="test")
    if options.photographs is None:
        shown = drawn_scenes(renderer, number=options.scenes)
    else:
        shown = held_back_photographs(options.photographs, renderer)
    names = [name for concept in shown.concepts for name in concept]
    owners = np.array([number for number, concept in enumerate(shown.concepts) for _ in concept])
    with torch.inference_mode():
        features = model.get_label_features(**processor(labels=names))
        everyday = model.get_label_features(**processor(labels=EVERYDAY_WORDS))
        images = iter(shown.images)
        batches = iter(lambda: list(itertools.islice(images, BATCH)), [])
        inputs = (processor(images=batch)["pixel_values"] for batch in batches)
        found = (model(pixels, label_features=features, output_probabilities=False) for pixels in inputs)
        scores = torch.cat([output.scores for output in found]).numpy()
    units = directions(features, everyday)
    likeness = (units @ units.T).numpy()
    first, second = np.triu_indices(len(names), 1)
    is_same = owners[first] == owners[second]
    rng = np.random.default_rng(0)
    what = "scenes" if options.photographs is None else "photographs"
    print(f"{len(names)} names of {len(shown.concepts)} concepts, {len(scores)} {what}, {options.model}\n")
    print("| likeness | pairs of one concept | of different ones | told apart |\n|---|---|---|---|")
    for low, high in itertools.pairwise(EDGES):
        is_here = (likeness[first, second] >= low) & (likeness[first, second] < high)
        pairs = np.flatnonzero(is_here & ~is_same)
        areas = []
        for pair in rng.permutation(pairs)[:MOST_PAIRS]:
            one, other = first[pair], second[pair]
            with_one = shown.shows[:, owners[one]] & ~shown.shows[:, owners[other]]
            with_other = shown.shows[:, owners[other]] & ~shown.shows[:, owners[one]]
            if with_one.any() and with_other.any():
                areas.append(told_apart(scores[:, one] - scores[:, other], with_one, with_other))
        area = f"{np.mean(areas):.3f}" if areas else "-"
        print(f"| {low:.2f} to {min(high, 1):.2f} | {(is_here & is_same).sum()} | {len(pairs)} | {area} |")


if __name__ == "__main__":
    main()
