"""What each part of the training-free mode is worth, on the same pictures: mAP, pointing, and time over CLIP's tower.

Run from the repository's root: `python benchmarks/training_free.py MODEL DATASET`, with a CLIP, or a RAM for the CLIP
below it, and a folder or a file that `ram-hf evaluate` reads: what `ram-hf scenes` wrote, or Parquet with `image` and
lists of label names in `labels_exact` or `labels`. With boxes the pointing game is played, by the columns that
`transport_plan` has and by the plain similarities. Labels are those of `--labels`, of the label files beside the
scenes, or all that the rows name. Settings are to be chosen on pictures that nothing is reported on.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ram_hf import RamConfig, RamModel, RamOutput
from ram_hf.data.batches import PrepareRow, evaluation_batches
from ram_hf.data.label_set import LabelSet
from ram_hf.data.sources import DatasetSpec, open_dataset
from ram_hf.data.transforms import EvalTransform
from ram_hf.evaluation.pointing import PointingGame, pointing_hits
from ram_hf.evaluation.report import evaluate_scores
from ram_hf.model.aggregation import combine_scores
from ram_hf.model.matching import match_patches
from ram_hf.pretrained import load_model

ATTENTIONS = ("value", "key")
AGGREGATIONS = ("transport", "max", "mean", "logsumexp")
COMBINATIONS = ("mean", "product")
MENDED = ("repair_outliers", "aggregate_similar")


@dataclass
class Row:
    """A row of the table: a model, how its patches are put together, and what comes of it."""

    name: tuple[str, str]
    model: RamModel
    aggregation: str
    scores: dict[str, list[np.ndarray]] = field(default_factory=lambda: {each: [] for each in COMBINATIONS})
    game: PointingGame | None = None


def rows_of(clip: Any, options: argparse.Namespace, num_labels: int) -> list[Row]:
    """All rows; the mended patches with the largest patch alone."""
    rows = []
    for attention in ATTENTIONS:
        for aggregation in AGGREGATIONS:
            rows.append(row_of(clip, options, attention, aggregation, {}, num_labels))
    for mend in MENDED if options.mended else ():
        rows.append(row_of(clip, options, "key", "max", {mend: True}, num_labels))
    return rows


def row_of(clip, options, attention: str, aggregation: str, mended: dict[str, bool], num_labels: int) -> Row:
    """One row; the local temperature is the mode's own unless it is given, in units of CLIP's."""
    fields = {"local_attention": attention, "aggregation": aggregation, **mended}
    if options.temperature is not None:
        fields["local_temperature"] = options.temperature / clip.logit_scale.exp().item()
    name = (attention, " + ".join([aggregation, *(each.replace("_", " ") for each in mended)]))
    model = RamModel.from_clip(clip, config=fields).to(options.device)
    return Row(name, model, aggregation, game=PointingGame(num_labels))


def weighted(config: RamConfig, combination: str, options: argparse.Namespace) -> RamConfig:
    """The weight of the whole image: the paper's half of a mean, the mode's own of a product, or what is asked for."""
    default = RamConfig().global_weight if combination == "mean" else config.global_weight
    weight = default if options.global_weight is None else options.global_weight
    return RamConfig(score_combination=combination, global_weight=weight)


@torch.inference_mode()
def judge(rows: list[Row], batches, features: torch.Tensor, labels: list[str], options: argparse.Namespace):
    """Fill the rows; returns CLIP's own softmax, the truth, and for each attention the game of its similarities."""
    clips, targets, games = [], [], {attention: PointingGame(len(labels)) for attention in ATTENTIONS}
    for _, batch in batches:
        targets.append(batch["labels"].numpy().astype(np.int8))
        outputs: dict[tuple, RamOutput] = {}
        for row in rows:
            config = row.model.config
            patches = (config.local_attention, config.repair_outliers, config.aggregate_similar)
            if patches not in outputs:
                outputs[patches] = row.model(batch["pixel_values"].to(options.device), label_features=features)
                if patches[1:] == (False, False):
                    similarity = outputs[patches].patch_embeds @ outputs[patches].label_embeds.T
                    play(games[patches[0]], batch, similarity, labels)
            output = outputs[patches]
            matched = match_patches(
                output.patch_embeds,
                output.label_embeds,
                config,
                logit_scale=row.model.clip.logit_scale.exp(),
                local_temperature=row.model.temperatures.local_temperature,
                output_transport_plan=True,
            )
            for combination in COMBINATIONS:
                weights = weighted(config, combination, options)
                scores, _ = combine_scores(output.global_logits, matched.local_logits, weights)
                row.scores[combination].append(scores.cpu().numpy())
            play(row.game, batch, matched.transport_plan, labels)
        clips.append(output.global_logits.softmax(dim=-1).cpu().numpy())
    return np.concatenate(clips), np.concatenate(targets), games


def play(game: PointingGame, batch: dict[str, Any], columns: torch.Tensor, labels: list[str]) -> None:
    """Play the pointing game on each picture of a batch that has boxes."""
    side = round(columns.shape[1] ** 0.5)
    for image, boxes in enumerate(batch.get("boxes") or ()):
        if boxes:
            size = batch["sizes"][image]
            game.update(*pointing_hits(columns[image], grid=(side, side), size=size, boxes=boxes, label_names=labels))


# --- time ---------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def ratios(rows: list[Row], pixels: torch.Tensor, features: torch.Tensor, repeats: int) -> list[float]:
    """Processor time of a forward pass over that of CLIP's tower, which a busy machine does not change much."""
    vision = rows[0].model.clip.vision_model
    functions: list[Callable[[], object]] = [lambda: vision(pixels)]
    functions += [lambda model=row.model: model(pixels, label_features=features) for row in rows]
    seconds = np.zeros((repeats + 1, len(functions)))
    for repeat, (index, function) in itertools.product(range(repeats + 1), enumerate(functions)):
        start = time.process_time()
        function()
        seconds[repeat, index] = time.process_time() - start
    medians = np.median(seconds[1:], axis=0)  # the first round warms up
    return list(medians[1:] / medians[0])


# --- what is read, and what is told -------------------------------------------------------------------------------


def open_rows(options: argparse.Namespace):
    """The rows, their reader, and the labels."""
    features = open_dataset(options.dataset, split=options.split, streaming=False).features
    column = options.label_column or ("labels_exact" if "labels_exact" in features else "labels")
    boxes = "boxes" if "boxes" in features else None
    spec = DatasetSpec(options.dataset, options.split, streaming=False, label_column=column, boxes_column=boxes)
    dataset, reader = spec.open()
    dataset = dataset.take(min(options.limit or len(dataset), len(dataset)))
    beside = [Path(options.dataset) / f"labels_{part}.txt" for part in ("seen", "unseen")]
    files = options.labels or [str(file) for file in beside if file.exists()]
    names: list[str] = []
    for file in files:
        names += LabelSet.from_options(file).names
    if not files:
        names = sorted({name for row in reader.labels(dataset) for name in row})
    return dataset, reader, names


def percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a CLIP, or a RAM for its CLIP")
    parser.add_argument("dataset", help="folder, file or id on the Hub")
    parser.add_argument("--split", default="train")
    parser.add_argument("--labels", nargs="+", metavar="FILE", help="one label a line")
    parser.add_argument("--label-column", metavar="NAME")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures")
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--mended", action="store_true", help="rows with patches mended by their neighbours too")
    parser.add_argument("--temperature", type=float, metavar="RATIO", help="local temperature in units of CLIP's own")
    parser.add_argument("--global-weight", type=float, metavar="SHARE", help="of every row")
    parser.add_argument("--repeats", type=int, default=5, help="timed forward passes of each row; 0 for none")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    model, processor = load_model(options.model)
    clip = model.clip.to(options.device)
    dataset, reader, labels = open_rows(options)
    rows = rows_of(clip, options, len(labels))
    with torch.inference_mode():
        features = rows[0].model.get_label_features(**processor(labels=labels).to(options.device))
    prepare = PrepareRow(reader, EvalTransform.of(processor), label_names=labels)
    batches = evaluation_batches(dataset, prepare, batch_size=options.batch_size)
    clips, targets, games = judge(rows, batches, features, labels, options)
    times = [float("nan")] * len(rows)
    if options.repeats:
        size = clip.config.vision_config.image_size
        times = ratios(rows, torch.zeros(8, 3, size, size, device=options.device), features, options.repeats)

    def mean_ap(scores: np.ndarray) -> str:
        return percent(evaluate_scores(scores, targets, label_names=labels, ks=()).mean_average_precision)

    print(f"{options.model}, {len(targets)} pictures of {options.dataset}, {len(labels)} labels\n")
    print("| local attention | aggregation | mAP, mean | mAP, product | points: columns | similarity | time |")
    print("|---|---|---|---|---|---|---|")
    print(f"| - | CLIP's softmax | {mean_ap(clips)} | - | - | - | 1.00 |")
    for row, ratio in zip(rows, times, strict=True):
        cells = [*row.name, *(mean_ap(np.concatenate(row.scores[each])) for each in COMBINATIONS)]
        cells.append(percent(row.game.accuracy))
        cells.append(percent(games[row.name[0]].accuracy) if row.name[1] in AGGREGATIONS else "-")
        print("| " + " | ".join([*cells, "-" if np.isnan(ratio) else f"{ratio:.2f}"]) + " |")


if __name__ == "__main__":
    main()
