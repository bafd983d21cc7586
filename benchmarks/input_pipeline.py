"""Images a second from the rows of a dataset to tensors, with one worker.

Run from the repository's root: `python benchmarks/input_pipeline.py`. The variants alternate, so that a machine whose
speed drifts slows all of them alike; the median round counts. Without the dataset, synthetic JPEGs of 640 x 480 are
used.
"""

import argparse
import io
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

from ram_hf.data.batches import BatchLoader, LoadedBatch, PrepareRow
from ram_hf.data.sources import RowReader, open_dataset
from ram_hf.data.streams import RowStream
from ram_hf.data.transforms import EvalTransform, TrainTransform

SIZE = 224  # pixels
MEAN = STD = (0.5, 0.5, 0.5)
BATCH_SIZE = 32


def synthetic_dataset(count: int = 64) -> datasets.Dataset:
    """Smooth pictures with some noise, so that they weigh about what photographs do."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, size=(24, 32, 3), dtype=np.uint8)).resize((640, 480))
        noisy = np.asarray(coarse, dtype=np.int16) + rng.integers(-8, 9, size=(480, 640, 3))
        file = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        images.append(file.getvalue())
    return datasets.Dataset.from_dict({"image": images, "labels": [["dog"]] * count})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--dataset", default="../shared/coco128/train.parquet", help="parquet file with image, labels")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of each variant")
    parser.add_argument("--batches", type=int, default=4, help=f"batches of {BATCH_SIZE} per round")
    options = parser.parse_args()

    if Path(options.dataset).is_file():
        dataset = open_dataset(options.dataset, split="train")
    else:
        dataset = synthetic_dataset().to_iterable_dataset()
    name = options.dataset if Path(options.dataset).is_file() else "synthetic JPEGs"
    reader = RowReader.from_dataset(dataset, label_column="labels")
    transforms = {"evaluate": EvalTransform(SIZE, MEAN, STD), "train": TrainTransform(SIZE, MEAN, STD)}
    loaders = {}
    for kind, transform in transforms.items():
        prepare = PrepareRow(reader, transform, label_names=["dog"])
        stream = RowStream(reader.select(dataset), seed=0, shuffle_buffer=0)
        loaders[kind] = BatchLoader(stream, prepare, batch_size=BATCH_SIZE, num_workers=1)

    seconds: dict[str, list[float]] = {kind: [] for kind in loaders}
    for _ in range(options.rounds):
        for kind, loader in loaders.items():
            with loader:
                batches: Iterator[LoadedBatch] = iter(loader)
                next(batches)  # not timed: it waits for the threads to start
                start = time.perf_counter()
                for _ in range(options.batches):
                    next(batches)
                seconds[kind].append(time.perf_counter() - start)

    print(f"{name}, {SIZE} px, 1 worker, batches of {BATCH_SIZE}, median of {options.rounds} rounds\n")
    print("| transform | images/s |")
    print("|---|---|")
    for kind, times in seconds.items():
        rate = options.batches * BATCH_SIZE / statistics.median(times)
        print(f"| {kind} | {rate:.0f} |")


if __name__ == "__main__":
    main()
