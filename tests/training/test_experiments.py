"""Each configuration that ships, run for a step on a small local set with the features of its real corpus."""

import datasets
import numpy as np
import pytest
from PIL import Image

from ram_hf.data.label_set import read_label_list
from ram_hf.training.loop import train
from tests.training.conftest import parse_arguments
from tests.training.test_configs import COCO, CONFIGS

EXPERIMENTS = ["coco", "mlrsnet", "multiscene", "nus_wide", "pa100k", "rap"]
NUS_WIDE = {"tags": ["beach", "sunset", "music"], "concepts": ["dog", "sky", "water"]}


def pictures(count: int) -> list:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)) for _ in range(count)]


def make_rows(name: str, arguments) -> datasets.Dataset:
    """Six pictures that hold the first labels of the configuration, laid out as the real corpus is."""
    if name == "coco":  # aha-org/coco-2014-instance
        categories = datasets.ClassLabel(names=COCO)
        features = {"objects": {"categories": datasets.List(categories)}}
        names = [read_label_list(arguments.seen_labels)[:2], read_label_list(arguments.unseen_labels)[:1]]
        rows = [{"objects": {"categories": categories.str2int(names[index % 2])}} for index in range(6)]
    elif name == "pa100k":  # tuandunghcmut/PA-100K
        features = {column: datasets.Value("uint8") for column in arguments.label_columns}
        rows = [{column: (index + i) % 2 for i, column in enumerate(features)} for index in range(6)]
    else:  # strings, as in vigneshwar472/MLRS-Net-for-modelling and as `ram-hf prepare` writes them
        features = {"labels": datasets.List(datasets.Value("string"))}
        seen, unseen = read_label_list(arguments.seen_labels), read_label_list(arguments.unseen_labels or [])
        rows = [{"labels": [seen[index % 2], *unseen[:1]]} for index in range(6)]
    rows = [{"image": picture, **row} for picture, row in zip(pictures(6), rows, strict=True)]
    return datasets.Dataset.from_list(rows, features=datasets.Features({"image": datasets.Image(), **features}))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_step_of_each_experiment(name, clip_folder, tmp_path):
    options = ["--config", str(CONFIGS / f"{name}.yaml"), "--model", str(clip_folder), "--image_size", "32"]
    options += ["--max_steps", "1", "--warmup_steps", "0", "--schedule_steps", "9", "--per_device_batch_size", "2"]
    options += ["--mixed_precision", "no", "--report_to", "none", "--output_dir", str(tmp_path / "run")]
    options += ["--ram_config", "{}"]  # the layers of the recipe are not those of a small model
    if name == "nus_wide":  # its label files are written by `ram-hf prepare`
        options += ["--seen_labels", *NUS_WIDE["tags"], "--unseen_labels", *NUS_WIDE["concepts"]]
    arguments = parse_arguments([*options, "--dataset", "elsewhere"])
    rows = make_rows(name, arguments)
    for split in {arguments.split, arguments.eval_split}:
        rows.to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    arguments.dataset, arguments.eval_dataset = str(tmp_path / "data"), None
    report = train(arguments)
    expected = {"zsl", "gzsl"} if arguments.unseen_labels else {"plain"}
    assert set(report.settings) == expected
    held = [label for label in report.settings[max(expected - {"zsl"})].labels if label.num_positives]
    assert held  # the labels of the configuration are those of the rows
