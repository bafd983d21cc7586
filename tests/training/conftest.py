"""A corpus of 37 pictures, a small CLIP on disk, and the command line that trains on them."""

import os
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ram_hf import RamModel
from ram_hf.cli import make_parser
from ram_hf.training.arguments import RamTrainingArguments
from ram_hf.training.command import read_arguments
from tests.conftest import make_config

LABELS = ["red", "green", "blue", "dark", "bright"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def corpus_rows() -> datasets.Dataset:
    """Flat pictures named by their colour and brightness, so that there is something to learn."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(37):
        channel, bright = int(rng.integers(3)), bool(rng.integers(2))
        pixels = rng.integers(0, 60, (24, 30, 3), dtype=np.uint8)
        pixels[..., channel] += 180 if bright else 60
        rows.append({"image": Image.fromarray(pixels), "labels": [LABELS[channel], LABELS[4 if bright else 3]]})
        rows[-1]["id"] = index
    features = datasets.Features(
        {"image": datasets.Image(), "labels": datasets.List(datasets.Value("string")), "id": datasets.Value("int64")}
    )
    return datasets.Dataset.from_list(rows, features=features)


def write_shards(rows: datasets.Dataset, folder: Path, count: int) -> Path:
    for shard in range(count):
        rows.shard(count, shard).to_parquet(folder / f"train-{shard:05d}-of-{count:05d}.parquet")
    return folder


@pytest.fixture(scope="session")
def corpus(corpus_rows, tmp_path_factory) -> Path:
    return write_shards(corpus_rows, tmp_path_factory.mktemp("corpus"), 1)


@pytest.fixture(scope="session")
def two_shards(corpus_rows, tmp_path_factory) -> Path:
    """A shard for each of two processes."""
    return write_shards(corpus_rows, tmp_path_factory.mktemp("two_shards"), 2)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory, tiny_processor) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    RamModel(make_config()).clip.save_pretrained(folder)
    tiny_processor.image_processor.save_pretrained(folder)
    tiny_processor.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def options(corpus, clip_folder, tmp_path) -> dict:
    return {
        "model": str(clip_folder),
        "dataset": str(corpus),
        "output_dir": str(tmp_path / "run"),
        "label_column": "labels",
        "seen_labels": ["red", "green", "dark", "bright"],
        "unseen_labels": ["blue"],
        "streaming": True,
        "shuffle_buffer": 8,
        "num_workers": 1,
        "max_steps": 12,
        "warmup_steps": 2,
        "schedule_steps": 40,
        "per_device_batch_size": 4,
        "ram_config": {"local_temperature": 2e-3},  # sharp, so that a few steps tell
        "adapter_learning_rate": 1e-3,
        "temperature_learning_rate": 1e-4,
        "token_learning_rate": 1e-2,
        "ema_decay": 0.9,
        "save_steps": 3,
        "log_steps": 1,
        "report_to": "none",
    }


def parse_arguments(argv: list[str]) -> RamTrainingArguments:
    return read_arguments(make_parser("train").parse_args(argv))


def write_config(options: dict, path: Path) -> Path:
    path.write_text(yaml.safe_dump(options))
    return path


def training_command(config: Path, *, processes: int = 1) -> list[str]:
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"]
    return [*launcher, "ram_hf.train", "--config", str(config)]


def start_training(config: Path, *, processes: int = 1) -> subprocess.Popen:
    """In a session of its own, so that the processes that it starts can be killed with it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        training_command(config, processes=processes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
