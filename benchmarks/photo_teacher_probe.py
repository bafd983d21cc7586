"""What a linear layer makes of the teacher's features: the ceiling of a CLIP that is distilled from them.

`python benchmarks/photo_teacher_probe.py runs/ram-photo ../shared/photos`
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ram_hf.evaluation.ranking import mean_average_precision
from ram_hf.pretraining.photo_labels import make_label_bank
from ram_hf.pretraining.photographs import held_back, open_photographs
from ram_hf.pretraining.teacher import open_teacher_features

STEPS, WEIGHT_DECAY = 60, 1e-4  # of 1e-5 to 1e-3 the best


def fit(features: torch.Tensor, targets: torch.Tensor) -> torch.nn.Linear:
    """Logistic regression, all labels at once."""
    layer = torch.nn.Linear(features.shape[1], targets.shape[1])
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(layer(features), targets)
        value = value + WEIGHT_DECAY * layer.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return layer


def probe(photographs, maps: np.ndarray, scale: np.ndarray, exact_labels: list[str]) -> float:
    """Mean average precision of the exact labels on what is held back."""
    bank = make_label_bank(photographs, exact_labels=exact_labels, parents={}, class_names=[])
    is_complete = (bank.exact >= 0).all(dim=1).numpy()
    kept = held_back(photographs.files, every=16)
    sides = {}
    for name, rows in (("fit", np.flatnonzero(is_complete & ~kept)), ("judge", np.flatnonzero(is_complete & kept))):
        pooled = torch.from_numpy(maps[rows].mean(axis=(1, 2), dtype=np.float32) / scale)
        sides[name] = (pooled, bank.exact[rows].float())
    layer = fit(*sides["fit"])
    with torch.no_grad():
        scores = layer(sides["judge"][0])
    return mean_average_precision(scores.numpy(), sides["judge"][1].numpy().astype(int)).mean


def main() -> None:
    """Print the ceiling."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of `make ram-photo`")
    parser.add_argument("words", type=Path, help="folder with labels.json")
    options = parser.parse_args()
    features = open_teacher_features(options.run / "teacher")
    exact = json.loads((options.words / "labels.json").read_text(encoding="utf-8"))["exact"]
    found = probe(open_photographs(options.run / "photographs"), features.maps, features.deviations, exact)
    print(f"mAP on {len(exact)} labels of held-back photographs: {found:.3f}")


if __name__ == "__main__":
    main()
