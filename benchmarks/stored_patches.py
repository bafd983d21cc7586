"""What the patches of an index are worth: mAP of probabilities from all of them, from rounded, pooled and no patches.

Run from the repository's root: `python benchmarks/stored_patches.py MODEL --fit SCENES --judge SCENES --seen FILE
--unseen FILE`, with folders of Parquet shards as `ram-hf scenes` writes and files of labels, one a line. The seen
labels are the reference. Weights are fitted for each way of storing on the scenes of --fit, each time with a fifth of
the seen labels left out of the reference; judged on the scenes of --judge.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from torch import Tensor

from ram_hf import RamModel
from ram_hf.model.reference_labels import ImageFeatures, describe_images
from ram_hf.pretrained import load_model

NUM_FOLDS, BATCH = 5, 50
ALL, WHOLE = list(range(8)), [0, 2, 3, 4]  # of local evidence nothing


def rounded(patches: Tensor) -> Tensor:
    scale = patches.abs().amax(dim=2, keepdim=True) / 127
    return (patches / scale).round() * scale


def pooled(patches: Tensor) -> Tensor:
    side = round(patches.shape[1] ** 0.5)
    grid = patches.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    return F.normalize(F.avg_pool2d(grid, 2).flatten(2).mT, dim=2)


WAYS: dict[str, tuple[Callable[[Tensor], Tensor] | None, list[int]]] = {
    "float32": (None, ALL),
    "float16": (lambda patches: patches.half().float(), ALL),
    "int8": (rounded, ALL),
    "2 x 2 as one": (pooled, ALL),
    "the whole alone": (None, WHOLE),
}


def read_scenes(folder: Path, labels: list[str], number: int) -> tuple[list[Image.Image], np.ndarray]:
    images: list[Image.Image] = []
    present = []
    for file in sorted(folder.glob("*.parquet")):
        for row in pq.read_table(file, columns=["image", "labels"]).to_pylist():
            images.append(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"))
            present.append([label in row["labels"] for label in labels])
    return images[:number], np.array(present[:number])


def evidence(model: RamModel, pixels: Tensor, labels: Tensor, store: Callable[[Tensor], Tensor] | None) -> Tensor:
    """Global and local logit and the image's six statistics, (images, labels, 8)."""
    parts = []
    for batch in pixels.split(BATCH):
        features = model.encode_images(batch)
        if store is pooled:
            reference = F.normalize(model.reference.features, dim=1)
            scales = model._scales(batch.device)
            few = pooled(features.patch_embeds)
            features = describe_images(features.image_embeds, few, reference, model.config, scales)
        elif store is not None:
            features = ImageFeatures(features.image_embeds, store(features.patch_embeds), *features[2:])
        output = model.score_stored(features, labels)
        statistics = features.statistics[:, None].expand(-1, len(labels), -1)
        parts.append(torch.cat([output.global_logits[..., None], output.local_logits[..., None], statistics], dim=2))
    return torch.cat(parts)


def mean_ap(present: np.ndarray, scores: np.ndarray) -> float:
    return 100 * float(
        np.mean([average_precision_score(*each) for each in zip(present.T, scores.T, strict=True) if each[0].any()])
    )


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    for name in ("--fit", "--judge", "--seen", "--unseen"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--fitted", type=int, default=400, help="scenes to fit on")
    parser.add_argument("--judged", type=int, default=1500)
    args = parser.parse_args()
    seen, unseen = ([line for line in file.read_text().splitlines() if line] for file in (args.seen, args.unseen))
    model, processor = load_model(args.model)
    features = model.get_label_features(**processor(labels=[*seen, *unseen]))
    scenes = []
    for folder, number in ((args.fit, args.fitted), (args.judge, args.judged)):
        images, present = read_scenes(folder, [*seen, *unseen], number)
        scenes.append((processor(images=images)["pixel_values"], present))
    folds = np.arange(len(seen)) % NUM_FOLDS
    for name, (store, columns) in WAYS.items():
        inputs, targets = [], []
        for fold in range(NUM_FOLDS):
            kept, out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            model.set_reference_labels([seen[each] for each in kept], features[kept])
            inputs.append(evidence(model, scenes[0][0], features[out], store).flatten(0, 1))
            targets.append(scenes[0][1][:, out].ravel())
        fitted_on = torch.cat(inputs).numpy()[:, columns]
        scale = fitted_on.std(axis=0)
        regression = LogisticRegression(C=1e3, max_iter=1000).fit(fitted_on / scale, np.concatenate(targets))
        model.set_reference_labels(seen, features[: len(seen)])
        judged_on = evidence(model, scenes[1][0], features, store)[..., columns].numpy() / scale
        scores = regression.decision_function(judged_on.reshape(-1, len(columns))).reshape(scenes[1][1].shape)
        parts = (slice(0, len(seen)), slice(len(seen), None), slice(None))
        print(f"{name}:", *(f"{mean_ap(scenes[1][1][:, part], scores[:, part]):.1f}" for part in parts), flush=True)


if __name__ == "__main__":
    main()
