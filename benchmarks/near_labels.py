"""From which likeness on a model no longer tells two labels apart: the threshold of `ram-hf labels check`.

Run from the repository's root: `nice python benchmarks/near_labels.py`. Names are those that the source of the scenes
knows for its concepts. For pairs of names of different concepts, by their likeness: how often a scene with the one
concept and without the other scores the right name higher in comparison to a scene where it is the other way round
(area under the curve of the difference of their scores; 0.5 is chance). Pairs of one concept are counted beside.
"""

import argparse
import itertools

import numpy as np
import torch

from ram_hf.pretrained import load_model
from ram_hf.scenes.renderer import SceneRenderer
from ram_hf.tagging.near_labels import EVERYDAY_WORDS, directions

BATCH = 32
EDGES = [-1.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.01]
MOST_PAIRS = 4000  # of a row of the table


def told_apart(difference: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Share of (scene with the first, scene with the second) where the difference is larger for the first."""
    right = difference[first, None] - difference[None, second]
    return float((right > 0).mean() + (right == 0).mean() / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--source", default="../shared/scenes", help="folder with the parts of scenes")
    parser.add_argument("--model", default="examples/ram-tiny")
    parser.add_argument("--scenes", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=21)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, processor = load_model(options.model)
    renderer = SceneRenderer(options.source, size=64, seed=options.seed, split="test")
    concepts = renderer.parts.concepts
    names = [name for concept in concepts for name in concept.names]
    owners = np.array([number for number, concept in enumerate(concepts) for _ in concept.names])
    with torch.inference_mode():
        features = model.get_label_features(**processor(labels=names))
        everyday = model.get_label_features(**processor(labels=EVERYDAY_WORDS))
        scenes = [renderer.scene(index) for index in range(options.scenes)]
        batches = [scenes[begin : begin + BATCH] for begin in range(0, len(scenes), BATCH)]
        inputs = (processor(images=[scene.image for scene in batch])["pixel_values"] for batch in batches)
        scores = torch.cat([model(pixels, label_features=features).scores for pixels in inputs]).numpy()
    shows = np.array([[concept.label in scene.labels for concept in concepts] for scene in scenes])
    units = directions(features, everyday)
    likeness = (units @ units.T).numpy()
    first, second = np.triu_indices(len(names), 1)
    is_same = owners[first] == owners[second]
    rng = np.random.default_rng(0)
    print(f"{len(names)} names of {len(concepts)} concepts, {options.scenes} scenes, {options.model}\n")
    print("| likeness | pairs of one concept | of different ones | told apart |\n|---|---|---|---|")
    for low, high in itertools.pairwise(EDGES):
        is_here = (likeness[first, second] >= low) & (likeness[first, second] < high)
        pairs = np.flatnonzero(is_here & ~is_same)
        areas = []
        for pair in rng.permutation(pairs)[:MOST_PAIRS]:
            one, other = first[pair], second[pair]
            with_one = shows[:, owners[one]] & ~shows[:, owners[other]]
            with_other = shows[:, owners[other]] & ~shows[:, owners[one]]
            if with_one.any() and with_other.any():
                areas.append(told_apart(scores[:, one] - scores[:, other], with_one, with_other))
        area = f"{np.mean(areas):.3f}" if areas else "-"
        print(f"| {low:.2f} to {min(high, 1):.2f} | {(is_here & is_same).sum()} | {len(pairs)} | {area} |")


if __name__ == "__main__":
    main()
