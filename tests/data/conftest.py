"""Small local datasets with the features of those that users stream, and the means to make more."""

import io
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

COCO_CATEGORIES = ["person", "bicycle", "car", "motorcycle", "airplane"]
MLRSNET_LABELS = ["airplane", "airport", "bare soil", "baseball diamond", "basketball court", "beach"]
PEDESTRIAN_LABELS = ["Female", "AgeOver60", "Hat", "Glasses"]


def encoded_picture(seed: int, *, size: tuple[int, int] = (20, 16), form: str = "PNG") -> bytes:
    """A picture of noise, width by height, as the bytes of a file."""
    pixels = np.random.default_rng(seed).integers(0, 256, size=(size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def image_rows(count: int) -> list[dict]:
    return [{"bytes": encoded_picture(seed), "path": None} for seed in range(count)]


@pytest.fixture(scope="session", autouse=True)
def _datasets_settings(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets_cache"))
        patch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.001)  # seconds after each shuffled epoch
        yield


@pytest.fixture(scope="session")
def strings_dataset() -> datasets.Dataset:
    """As `vigneshwar472/MLRS-Net-for-modelling`: a list of strings."""
    features = datasets.Features({"image": datasets.Image(), "labels": datasets.List(datasets.Value("string"))})
    labels = [["beach", "sea"], ["sea"], [], ["beach", "sand", "beach"], ["airport"]]
    return datasets.Dataset.from_dict({"image": image_rows(5), "labels": labels}, features=features)


@pytest.fixture(scope="session")
def class_labels_dataset() -> datasets.Dataset:
    """As `jonathan-roberts1/MLRSNet`: a list of ClassLabel."""
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.List(datasets.ClassLabel(names=MLRSNET_LABELS))}
    )
    return datasets.Dataset.from_dict({"image": image_rows(3), "label": [[0, 1], [5], []]}, features=features)


@pytest.fixture(scope="session")
def objects_dataset() -> datasets.Dataset:
    """As `aha-org/coco-2014-instance`: a struct of lists with ClassLabel inside."""
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "image_id": datasets.Value("int64"),
            "objects": {
                "bbox": datasets.List(datasets.List(datasets.Value("float32"), length=4)),
                "categories": datasets.List(datasets.ClassLabel(names=COCO_CATEGORIES)),
            },
        }
    )
    objects = [{"bbox": [[0, 0, 2, 2]] * len(ids), "categories": ids} for ids in ([0, 0, 2], [], [4, 1])]
    return datasets.Dataset.from_dict(
        {"image": image_rows(3), "image_id": [7, 8, 9], "objects": objects}, features=features
    )


@pytest.fixture(scope="session")
def truth_columns_dataset() -> datasets.Dataset:
    """As `tuandunghcmut/PA-100K`: a uint8 column of 0 and 1 for each label."""
    features = {"image": datasets.Image(), **{name: datasets.Value("uint8") for name in PEDESTRIAN_LABELS}}
    columns = {"Female": [1, 0, 0], "AgeOver60": [0, 0, 0], "Hat": [1, 0, 1], "Glasses": [0, 0, 1]}
    return datasets.Dataset.from_dict({"image": image_rows(3), **columns}, features=datasets.Features(features))


@pytest.fixture(scope="session")
def boxes_dataset() -> datasets.Dataset:
    """As the reference data's coco128: encoded bytes, strings and boxes in pixels."""
    boxes = [
        [{"label": "dog", "x0": 1.0, "y0": 2.0, "x1": 8.0, "y1": 9.0}],
        [{"label": "cat", "x0": 0.0, "y0": 0.0, "x1": 4.0, "y1": 5.0}] * 2,
        [],
    ]
    images = [encoded_picture(seed) for seed in range(3)]
    return datasets.Dataset.from_dict({"image": images, "labels": [["dog"], ["cat"], []], "boxes": boxes})


@pytest.fixture(scope="session")
def make_numbered() -> Callable[..., datasets.Dataset | datasets.IterableDataset]:
    """Function (rows, shards) -> rows with a `number` and no picture; `shards=None` gives a map-style dataset."""

    def make(rows: int, shards: int | None):
        dataset = datasets.Dataset.from_dict({"number": list(range(rows))})
        return dataset if shards is None else dataset.to_iterable_dataset(num_shards=shards)

    return make


@pytest.fixture
def parquet_shards(strings_dataset, tmp_path) -> Path:
    """Folder with a train split of two parquet files and a test split of one."""
    for split, count in (("train", 2), ("test", 1)):
        for index in range(count):
            shard = strings_dataset.shard(count, index)
            shard.to_parquet(tmp_path / f"{split}-{index:05d}-of-{count:05d}.parquet")
    return tmp_path


@pytest.fixture(scope="session")
def coco128(shared_dir) -> Path:
    """The reference data's `coco128/train.parquet`."""
    return shared_dir / "coco128" / "train.parquet"
