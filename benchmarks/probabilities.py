"""Probabilities on drawn scenes: how they rank, how far they can be believed, what thresholds are worth.

Run from the repository's root: `python benchmarks/probabilities.py`. For each seed, scenes are drawn to calibrate on
(of seen labels) and to judge by (of all labels; of the same styles, of half other styles, and of a style that was left
out of training), the model is calibrated, and judged. What is there already, in `--work`, is not made again.
"""

import argparse
import json
import statistics
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from ram_hf import COMMON_NOUNS, RamModel, RamProcessor
from ram_hf.data.batches import PrepareRow, evaluation_batches
from ram_hf.data.label_set import LabelSet
from ram_hf.data.sources import DatasetSpec
from ram_hf.data.transforms import EvalTransform
from ram_hf.evaluation.calibrate import calibrate
from ram_hf.evaluation.ranking import mean_average_precision, top_k_metrics
from ram_hf.evaluation.reliability import (
    best_f1_threshold,
    brier_score,
    expected_calibration_error,
    f1_at,
    reliability,
)
from ram_hf.pretrained import load_model
from ram_hf.scenes.corpus import write_scenes
from ram_hf.scenes.renderer import SceneRenderer

CALIBRATION = {"split": "train", "concepts": "seen"}
CORPORA = {
    "test": {"split": "test"},
    "half other styles": {"split": "test", "styles": ["openmoji", "emojione"], "licenses": "all"},
    "a style left out": {"split": "test", "styles": ["openmoji"], "licenses": "all", "backgrounds": "cc0"},
}
RAM_TINY = "examples/ram-tiny"
VARIANTS = {
    "ram-tiny": "ram-tiny",
    "training-free, own list": "the CLIP below ram-tiny without training, read with ram-tiny's seen labels",
    "training-free, common nouns": "the same, read with common nouns",
}
SIZES = (10, 65, 300)
LISTS = 5  # drawn of each size


def scenes(options: argparse.Namespace, name: str, settings: dict, images: int, seed: int) -> Path:
    """Folder with drawn scenes."""
    folder = options.work / "scenes" / f"{name.replace(' ', '-')}-{seed}"
    if not folder.exists():
        renderer = SceneRenderer(options.source, size=64, seed=seed, **settings)
        write_scenes(renderer, folder, images=images)
    return folder


def calibrated(options: argparse.Namespace, variant: str, seed: int) -> Path:
    """Folder of a model, calibrated on scenes of this seed."""
    folder = options.work / "models" / f"{variant.replace(', ', '-').replace(' ', '-')}-{seed}"
    if folder.exists():
        return folder
    data = scenes(options, "calibration", CALIBRATION, options.scenes, 77 + seed)
    seen = data / "labels_seen.txt"
    model, reference = RAM_TINY, seen
    if variant != "ram-tiny":
        model = options.work / "models" / "clip"
        if not model.exists():
            RamModel.from_pretrained(RAM_TINY).clip.save_pretrained(model)
            RamProcessor.from_pretrained(RAM_TINY).save_pretrained(model)
        reference = COMMON_NOUNS if variant.endswith("common nouns") else seen
    rows = DatasetSpec(data, "train", label_column="labels")
    print(calibrate(str(model), rows, labels=seen, reference=reference, output=folder, seed=seed), flush=True)
    return folder


@torch.inference_mode()
def read(model: RamModel, processor: RamProcessor, folder: Path, names: Iterable[str]) -> tuple[np.ndarray, ...]:
    """The paper's scores, probabilities and targets, (N, L) each."""
    names = tuple(names)
    dataset, reader = DatasetSpec(folder, "test", label_column="labels").open()
    prepare = PrepareRow(reader, EvalTransform.of(processor), label_names=names)
    features = model.get_label_features(**processor(labels=names))
    parts = []
    for _, batch in evaluation_batches(dataset, prepare, batch_size=50):
        output = model(batch["pixel_values"], label_features=features)
        parts.append((output.scores, output.probabilities, batch["labels"]))
    return tuple(torch.cat(part).numpy() for part in zip(*parts, strict=True))


def percent_map(values: np.ndarray, targets: np.ndarray) -> float:
    """mAP, percent."""
    return 100 * mean_average_precision(values, targets).mean


def judge(probabilities: np.ndarray, targets: np.ndarray, calibration: dict) -> dict[str, float | None]:
    """What probabilities of one list are worth."""
    threshold, precise = calibration["threshold"], calibration["precision_thresholds"].get("0.9", 1.0)
    best = best_f1_threshold(probabilities, targets)
    without = ~(targets == 1).any(axis=1)
    reported = probabilities >= precise
    return {
        "ECE": expected_calibration_error(reliability(probabilities, targets)),
        "Brier": brier_score(probabilities, targets),
        "F1": 100 * f1_at(probabilities, targets, threshold),
        "best F1": 100 * f1_at(probabilities, targets, best),
        "best threshold": best,
        "on empty": (probabilities[without] >= threshold).sum(axis=1).mean() if without.any() else None,
        "precision at 0.9": 100 * (targets[reported] == 1).mean() if reported.any() else None,
        "on empty at 0.9": reported[without].sum(axis=1).mean() if without.any() else None,
    }


def judged(options: argparse.Namespace, variant: str, seed: int) -> dict:
    """All numbers of a variant and a seed."""
    file = options.work / f"{variant.replace(', ', '-').replace(' ', '-')}-{seed}.json"
    if file.exists():
        return json.loads(file.read_text())
    model, processor = load_model(calibrated(options, variant, seed))
    calibration = model.config.calibration
    found: dict = {"threshold": calibration["threshold"]}
    for name, settings in CORPORA.items():
        folder = scenes(options, name, settings, options.scenes, seed)
        labels = LabelSet.from_options(folder / "labels_seen.txt", folder / "labels_unseen.txt")
        scores, probabilities, targets = read(model, processor, folder, labels.names)
        num_seen, rng = len(labels.seen), np.random.default_rng(seed)
        lists = {"seen": slice(0, num_seen), "unseen": slice(num_seen, None), "all": slice(None)}
        found[name] = {
            part: {
                "mAP score": percent_map(scores[:, columns], targets[:, columns]),
                "mAP probability": percent_map(probabilities[:, columns], targets[:, columns]),
                **judge(probabilities[:, columns], targets[:, columns], calibration),
            }
            for part, columns in lists.items()
        }
        for size in SIZES:
            drawn = [rng.permutation(len(labels))[:size] for _ in range(LISTS)]
            each = [judge(probabilities[:, some], targets[:, some], calibration) for some in drawn]
            keys = each[0].keys()
            found[name][f"{size} labels"] = {
                key: statistics.mean([one[key] for one in each if one[key] is not None] or [float("nan")])
                for key in keys
            }
        for what, values in (("score", scores), ("probability", probabilities)):
            found[name]["all"][f"F1@3 {what}"] = 100 * top_k_metrics(values, targets, k=3).overall_f1
    file.write_text(json.dumps(found, indent=1))
    return found


def told(values: Iterable[float | None], digits: int) -> str:
    """Mean and standard deviation over the seeds."""
    kept = [value for value in values if value is not None]
    if not kept:
        return "-"
    spread = f" ± {statistics.stdev(kept):.{digits}f}" if len(kept) > 1 else ""
    return f"{statistics.mean(kept):.{digits}f}{spread}"


def table(results: list[dict], corpus: str) -> str:
    """Markdown: one line for each list of labels."""
    columns = {"mAP score": 1, "mAP probability": 1, "ECE": 3, "Brier": 4, "F1": 1, "best F1": 1, "on empty": 2}
    columns |= {"precision at 0.9": 0, "on empty at 0.9": 2}
    lines = [f"| {corpus} | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for name in ("seen", "unseen", "all", *(f"{size} labels" for size in SIZES)):
        cells = [
            told([result[corpus][name].get(key) for result in results], digits) for key, digits in columns.items()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--source", default="../shared/scenes", help="folder with the parts of scenes")
    parser.add_argument("--work", type=Path, default=Path("runs/probabilities"), help="where everything is kept")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="of scenes, folds and lists")
    parser.add_argument("--variants", nargs="+", default=[*VARIANTS], choices=[*VARIANTS], help="what is judged")
    parser.add_argument("--scenes", type=int, default=1500, help="scenes to calibrate on, and of each corpus")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)

    for variant in options.variants:
        results = [judged(options, variant, seed) for seed in options.seeds]
        print(f"\n## {variant}\n\n{VARIANTS[variant]}; {len(results)} seeds\n")
        print(f"Stored threshold {told([result['threshold'] for result in results], 3)}\n")
        for corpus in CORPORA:
            print(table(results, corpus) + "\n")
            for what in ("score", "probability"):
                print(f"F1@3 by {what}: {told([r[corpus]['all'][f'F1@3 {what}'] for r in results], 1)}")
            print()


if __name__ == "__main__":
    main()
