"""What looks learned from unlabelled pictures are worth, by how many patches and labels, and what learning them costs.

Run from the repository's root: `python benchmarks/adapt.py MODEL UNLABELLED JUDGED`, with a CLIP, or a RAM for the
one below it, and two folders of pictures with labels, such as `ram-hf scenes` writes with different seeds. Of the
first only pictures are read. All are read once, for all rows; time is processor time, which a busy machine does not
change much.
"""

import argparse
import copy
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from ram_hf import RamModel
from ram_hf.data.batches import PrepareRow, evaluation_batches
from ram_hf.data.label_set import LabelSet
from ram_hf.data.sources import DatasetSpec
from ram_hf.data.transforms import EvalTransform
from ram_hf.evaluation.report import evaluate_scores
from ram_hf.model import visual_classifier
from ram_hf.model.aggregation import combine_scores
from ram_hf.model.matching import match_patches
from ram_hf.model.patch_collection import KeptPatches
from ram_hf.pretrained import load_model

# What the method sets, and what is tried in its place; None: the published D / (n - 1).
CONSTANTS = {
    "_SHARPNESS": (0.01, 0.02, 0.05, 0.1, None),
    "_MAP_RIDGE": (0.1, 1.0, 10.0),
    "_PATCHES_OF_WORDS": (1.0, 4.0, 16.0),
}


def batches_of(folder: str, split: str, limit: int | None, labels: list[str], processor):
    """Batches of the first pictures of a split, and their truth."""
    dataset, reader = DatasetSpec(folder, split, streaming=False, label_column="labels").open()
    dataset = dataset.take(min(limit or len(dataset), len(dataset)))
    rows = PrepareRow(reader, EvalTransform.of(processor), label_names=labels)
    yield from evaluation_batches(dataset, rows, batch_size=32, num_workers=0)


def first_of_each(kept: KeptPatches, most: int) -> KeptPatches:
    """What a collector of fewer patches a label would have kept."""
    counts = kept.labels.bincount()
    ranks = torch.arange(len(kept.labels)) - (counts.cumsum(0) - counts)[kept.labels]
    return KeptPatches(*(each[ranks < most] for each in kept))


@torch.no_grad()
def mean_ap(model: RamModel, outputs, targets: np.ndarray, features: torch.Tensor, labels: list[str]) -> list[str]:
    """MAP in percent of the patches alone and of the score, of images that were encoded before."""
    global_logits, patch_embeds, label_embeds = outputs
    scales = model._scales(features.device)
    compared = model._compared(label_embeds, scales)
    local = match_patches(
        patch_embeds,
        compared.weights,
        model.config,
        label_biases=compared.biases,
        logit_scale=scales.logit_scale,
        local_temperature=scales.local_temperature,
    ).local_logits
    found = (local.softmax(dim=1), combine_scores(global_logits, local, model.config)[0])
    return [
        f"{evaluate_scores(each.numpy(), targets, label_names=labels, ks=()).mean_average_precision * 100:.1f}"
        for each in found
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", help="a CLIP, or a RAM for the CLIP below it")
    parser.add_argument("unlabelled", help="folder whose pictures are adapted to")
    parser.add_argument("judged", help="folder of other pictures with their labels")
    parser.add_argument("--split", default="train", help="of the unlabelled pictures")
    parser.add_argument("--limit", type=int, help="the first so many of them")
    parser.add_argument("--judged-split", default="train")
    parser.add_argument("--judged-limit", type=int)
    parser.add_argument("--patches-per-label", type=int, nargs="+", default=[16, 64, 512])
    parser.add_argument("--constants", action="store_true", help="also try other constants of the method")
    options = parser.parse_args()

    loaded, processor = load_model(options.model)
    model = RamModel.from_clip(loaded.clip)
    labels = list(LabelSet.from_options(Path(options.judged) / "labels_seen.txt").names)
    with torch.no_grad():
        features = model.get_label_features(**processor(labels=labels)).clone()
        global_logits, patch_embeds, targets, seconds = [], [], [], {"adapt": 0.0, "tag": 0.0}
        for _, batch in batches_of(options.judged, options.judged_split, options.judged_limit, labels, processor):
            start = time.process_time()
            output = model(batch["pixel_values"], label_features=features)
            seconds["tag"] += time.process_time() - start
            global_logits.append(output.global_logits)
            patch_embeds.append(output.patch_embeds)
            targets.append(batch["labels"].numpy().astype(np.int8))
        outputs = torch.cat(global_logits), torch.cat(patch_embeds), output.label_embeds
        truth = np.concatenate(targets)

        # Half of the labels, by chance: the others are known by their words.
        halves = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[: len(labels) // 2].sort()[0]
        chosen = {"all": torch.arange(len(labels)), "half": halves}
        most = max(options.patches_per_label)
        collectors = {
            name: model.collect_patches(features[rows], patches_per_label=most) for name, rows in chosen.items()
        }
        number = 0
        for _, batch in batches_of(options.unlabelled, options.split, options.limit, labels, processor):
            start = time.process_time()
            patches = model.get_patch_features(batch["pixel_values"], features)
            collectors["all"].add(patches)
            seconds["adapt"] += time.process_time() - start
            collectors["half"].add(patches)
            number += len(patches)

    print(f"{number} unlabelled pictures, {len(truth)} judged, {len(labels)} labels\n")
    print("| adapted to | patches a label | mAP, patches alone | mAP |\n|---|---|---|---|")
    clip = (
        evaluate_scores(outputs[0].softmax(dim=1).numpy(), truth, label_names=labels, ks=()).mean_average_precision
        * 100
    )
    print(f"| nothing, CLIP's own softmax | | | {clip:.1f} |")
    print(f"| nothing, without training | | {' | '.join(mean_ap(model, outputs, truth, features, labels))} |")

    def adapted_ap(name: str, patches_per_label: int) -> list[str]:
        adapted, rows = copy.deepcopy(model), chosen[name]
        kept = first_of_each(collectors[name].kept(), patches_per_label)
        adapted.set_visual_classifier([labels[row] for row in rows], features[rows].clone(), kept)
        return mean_ap(adapted, outputs, truth, features, labels)

    for name in chosen:
        for each in options.patches_per_label:
            print(f"| {name} of them | {each} | {' | '.join(adapted_ap(name, each))} |", flush=True)
    if options.constants:
        print("\n| constant | patches a label | all: patches alone | mAP | half: patches alone | mAP |")
        print("|---|---|---|---|---|---|")
        for constant, values in CONSTANTS.items():
            for value in values:
                for each in options.patches_per_label:
                    found = []
                    for name in chosen:
                        number_kept = len(first_of_each(collectors[name].kept(), each).labels)
                        published = features.shape[1] / (number_kept - 1)
                        with mock.patch.object(visual_classifier, constant, published if value is None else value):
                            found += adapted_ap(name, each)
                    shown = "D / (n - 1)" if value is None else f"{value:g}"
                    print(f"| `{constant}` {shown} | {each} | {' | '.join(found)} |", flush=True)
    per_image = seconds["adapt"] / number, seconds["tag"] / len(truth)
    print(f"\nA picture takes {per_image[0] / per_image[1]:.2f} times what scoring it takes, decoding not counted.")


if __name__ == "__main__":
    main()
