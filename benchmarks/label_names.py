"""What becomes of a label with several names: their features averaged, or the highest or the sum of their scores.

Run from the repository's root: `nice python benchmarks/label_names.py`. Test scenes with all concepts; a label's names
are those that the source of the scenes knows for it: itself and its synonyms. "Synonyms" gives these alone, as where a
model was trained on other words than those of the list; "half" gives all names to every second label, to others one.

The scores are the paper's, which depend on the list of labels, and probabilities, each label by itself: the reference
is the seen labels, and the weights of the evidence are fitted here, on training scenes of these.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ram_hf.evaluation.ranking import mean_average_precision, top_k_metrics
from ram_hf.model.calibration import Calibration
from ram_hf.pretrained import load_model
from ram_hf.scenes.renderer import SceneRenderer

BATCH = 32


def features_of(model, processor, names: list[list[str]]) -> list[Tensor]:
    """L2-normalised features of each label's names, (names, D) each."""
    flat = [name for each in names for name in each]
    with torch.inference_mode():
        encoded = F.normalize(model.get_label_features(**processor(labels=flat)).float(), dim=-1)
    return list(encoded.split([len(each) for each in names]))


def fit_probabilities(model, processor, renderer: SceneRenderer, number: int) -> None:
    """Calibrate on training scenes of the seen labels, which are the reference too."""
    labels = [concept.label for concept in renderer.parts.concepts]
    with torch.inference_mode():
        features = model.get_label_features(**processor(labels=labels))
    model.set_reference_labels(labels, features)
    scenes = [renderer.scene(index) for index in range(number)]
    targets = torch.tensor([[float(label in scene.labels) for label in labels] for scene in scenes])
    pixels = processor(images=[scene.image for scene in scenes])["pixel_values"]
    evidence, statistics = [], []
    with torch.inference_mode():
        for batch in pixels.split(BATCH):
            images = model.encode_images(batch)
            output = model.score_stored(images, features)
            evidence.append(torch.stack([output.global_logits, output.local_logits], dim=-1))
            statistics.append(images.statistics)
    inputs = [torch.cat(evidence), torch.cat(statistics)[:, None].expand(-1, len(labels), -1)]
    inputs = torch.cat(inputs, dim=-1).clone()  # (N, L, 8)
    center, spread = inputs.mean(dim=(0, 1)), inputs.std(dim=(0, 1))
    weights = torch.zeros(9, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = ((inputs - center) / spread) @ weights[:8] + weights[8]
        value = F.binary_cross_entropy_with_logits(logits, targets) + 1e-6 * weights.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    raw = (weights[:8] / spread).detach()
    bias = float(weights[8].detach() - raw @ center)
    model.config.calibration = Calibration(raw[:2].tolist(), raw[2:].tolist(), bias, threshold=0.5).to_dict()


class Pictures:
    """Scenes, and what the model keeps of them."""

    def __init__(self, model, pixels: Tensor):
        self.model, self.pixels = model, pixels
        with torch.inference_mode():
            self.stored = [model.encode_images(batch) for batch in pixels.split(BATCH)]

    @torch.inference_mode()
    def scores(self, features: Tensor) -> Tensor:
        """The paper's, (N, L)."""
        batches = self.pixels.split(BATCH)
        options = {"label_features": features, "output_probabilities": False}
        return torch.cat([self.model(batch, **options).scores for batch in batches])

    @torch.inference_mode()
    def probabilities(self, features: Tensor) -> Tensor:
        """Each label by itself, (N, L)."""
        return torch.cat([self.model.score_stored(images, features).probabilities for images in self.stored])


def lists_of(names: list[list[str]]) -> dict[str, list[list[str]]]:
    """Lists of labels with several names each."""
    return {
        "all": names,
        "synonyms": [each[1:] for each in names],
        "half": [each if number % 2 else each[:1] for number, each in enumerate(names)],
    }


def ways(score: Callable[[Tensor], Tensor], features: list[Tensor]) -> dict[str, Tensor]:
    """Scores (N, L) of each way to make one score of several names."""
    sizes = [len(each) for each in features]
    each_name = score(torch.cat(features)).split(sizes, dim=1)
    return {
        "first name alone": score(torch.stack([each[0] for each in features])),
        "features averaged": score(torch.stack([each.mean(dim=0) for each in features])),
        "highest": torch.stack([scores.amax(dim=1) for scores in each_name], dim=1),
        "sum": torch.stack([scores.sum(dim=1) for scores in each_name], dim=1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--source", default="../shared/scenes", help="folder with the parts of scenes")
    parser.add_argument("--model", default="examples/ram-tiny")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, processor = load_model(options.model)
    training = SceneRenderer(options.source, size=64, seed=1, split="train", concepts="seen")
    fit_probabilities(model, processor, training, options.scenes)
    found: dict[str, list[tuple[float, ...]]] = {}
    for seed in options.seeds:
        renderer = SceneRenderer(options.source, size=64, seed=seed, split="test")
        concepts = [concept for concept in renderer.parts.concepts if len(concept.names) > 1]
        labels = [concept.label for concept in concepts]
        scenes = [renderer.scene(index) for index in range(options.scenes)]
        pixels = processor(images=[scene.image for scene in scenes])["pixel_values"]
        targets = np.array([[label in scene.labels for label in labels] for scene in scenes], dtype=np.int8)
        seen = np.array([concept.is_seen for concept in concepts])
        groups = (seen, ~seen, seen | ~seen)
        pictures = Pictures(model, pixels)
        for title, names in lists_of([list(concept.names) for concept in concepts]).items():
            features = features_of(model, processor, names)
            for score in (pictures.scores, pictures.probabilities):
                for way, scores in ways(score, features).items():
                    array = scores.numpy()
                    figures = [mean_average_precision(array[:, group], targets[:, group]).mean for group in groups]
                    figures.append(top_k_metrics(array, targets, k=3).overall_f1)
                    row = f"{score.__name__} | {title} | {way}"
                    found.setdefault(row, []).append(tuple(100 * figure for figure in figures))
    print(f"{options.scenes} scenes of {len(labels)} labels, mean of seeds {options.seeds} and their spread\n")
    print("| score | names | joined | mAP seen | mAP unseen | mAP all | F1@3 |\n|---|---|---|---|---|---|---|")
    for row, runs in found.items():
        cells = [f"{np.mean(column):.1f} ± {np.std(column):.1f}" for column in zip(*runs, strict=True)]
        print(f"| {row} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
