"""What a second look at the best labels brings and costs: mAP and time for each `--refine N`.

Run from the repository's root, for scenes as `ram-hf scenes ../shared/scenes OUT --images 500 --size 64 --seed 6
--concepts seen` makes them: `python benchmarks/refine.py OUT --labels OUT/labels_seen.txt`. Of a RAM its CLIP is
taken, without training, unless `--trained` is given. Times are of the processor, so that other programs count little.
"""

import argparse
import time

import torch

from ram_hf import RamModel
from ram_hf.data.batches import PrepareRow, evaluation_batches
from ram_hf.data.label_set import LabelSet
from ram_hf.data.sources import DatasetSpec
from ram_hf.data.transforms import EvalTransform
from ram_hf.evaluation.ranking import mean_average_precision, top_k_metrics
from ram_hf.model.refine import refine_scores
from ram_hf.pretrained import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("dataset", help="folder of shards, with a column of labels")
    parser.add_argument("--labels", required=True, help="the label list, one a line")
    parser.add_argument("--split", default="train")
    parser.add_argument("--model", default="examples/ram-tiny")
    parser.add_argument("--trained", action="store_true", help="take the RAM as it is, and not the CLIP below it")
    parser.add_argument("--images", type=int, help="the first so many")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--refine", type=int, nargs="+", default=[1, 3, 5], help="how many labels are judged again")
    options = parser.parse_args()

    torch.set_num_threads(1)
    model, processor = load_model(options.model)
    if not options.trained:
        model = RamModel.from_clip(model.clip)
    names = LabelSet.from_options(options.labels).names
    dataset, reader = DatasetSpec(options.dataset, options.split, label_column="labels").open()
    batches = evaluation_batches(
        dataset if options.images is None else dataset.take(options.images),
        PrepareRow(reader, EvalTransform.of(processor), label_names=names),
        batch_size=options.batch_size,
        num_workers=0,
    )
    counts = [0, *options.refine]
    scores: dict[int, list[torch.Tensor]] = {count: [] for count in counts}
    seconds, crops = dict.fromkeys(counts, 0.0), dict.fromkeys(counts, 0)
    targets = []
    with torch.inference_mode():
        features = model.get_label_features(**processor(labels=names))
        for _, batch in batches:
            targets.append(batch["labels"])
            for count in counts:
                start = time.process_time()
                output = model(
                    batch["pixel_values"],
                    label_features=features,
                    output_transport_plan=count > 0,
                    output_probabilities=False,
                )
                found = output.scores
                if count:
                    found = refine_scores(model, batch["pixel_values"], features, output, num_labels=count)
                    crops[count] += int((found != output.scores).sum())
                seconds[count] += time.process_time() - start
                scores[count].append(found)
    truth = torch.cat(targets).numpy()
    print(f"{len(truth)} pictures, {len(names)} labels\n")
    print("| `--refine` | mAP | F1@3 | crops a picture | time over none |\n|---|---|---|---|---|")
    for count in counts:
        of_all = torch.cat(scores[count]).numpy()
        mean, top = mean_average_precision(of_all, truth).mean, top_k_metrics(of_all, truth, k=3)
        print(
            f"| {count or 'none'} | {100 * mean:.2f} | {100 * top.overall_f1:.2f} | {crops[count] / len(truth):.2f} | "
            f"{seconds[count] / seconds[0]:.2f} |"
        )


if __name__ == "__main__":
    main()
