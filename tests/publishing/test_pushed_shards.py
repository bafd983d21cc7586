"""`ram-hf prepare --push`: shards on the Hub with a card that names their features, streamed back from there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from huggingface_hub import HfApi
from PIL import Image

from ram_hf import cli
from ram_hf.data.sources import DatasetSpec
from tests.hub_server import WRITE_TOKEN

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pushed(logged_in, tmp_path, monkeypatch):
    """A private data set of two shards on the Hub, which the client of this process asks too."""
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", logged_in.url)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)  # read when it was imported
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    images = tmp_path / "images"
    images.mkdir()
    for index in range(4):
        Image.new("RGB", (20, 20), (60 * index, 0, 0)).save(images / f"{index}.png")
    rows = [{"path": f"{index}.png", "labels": ["red", "dark"][: index + 1]} for index in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["prepare", "table", tmp_path / "rows.jsonl", images, tmp_path / "out", "--quiet", "--shard-size", 2]
    assert cli.main([*map(str, arguments), "--push", "user/reds", "--private"]) == 0
    return logged_in


@pytest.fixture
def train(tiny_model, tiny_processor, tmp_path, monkeypatch):
    """The arguments of a training of two steps; its retries wait for nothing."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    tiny_model.clip.save_pretrained(tmp_path / "clip")
    tiny_processor.save_pretrained(tmp_path / "clip")
    options = ["--model", tmp_path / "clip", "--output_dir", tmp_path / "run", "--max_steps", 2]
    options += ["--schedule_steps", 9, "--warmup_steps", 1, "--per_device_batch_size", 2, "--num_workers", 1]
    options += ["--label_column", "labels", "--seen_labels", "red", "dark", "--report_to", "none", "--dataset"]
    return ["train", *map(str, options)]


def test_shards_go_there_and_are_streamed_back(pushed, tmp_path):
    repo = pushed.repo("user/reds", "datasets")
    assert repo.is_private
    files = repo.files("main")
    assert {"README.md", "labels.txt", "train-00000-of-00002.parquet"} <= set(files)
    assert "report.json" not in files
    for content in files.values():
        for word in (str(tmp_path), str(Path.home()) + "/", WRITE_TOKEN):
            assert word.encode() not in content
    builder = datasets.load_dataset_builder(str(tmp_path / "out"))
    assert builder.info.features["image"] == datasets.Image()
    assert builder.info.features["labels"] == datasets.List(datasets.Value("string"))
    stream, reader = DatasetSpec("user/reds", "train", label_column="labels").open()
    read = [reader.read(row) for row in stream]
    assert [row.labels for row in read] == [["red"], *[["dark", "red"]] * 3]


def test_training_streams_them_by_name_and_revision_in_a_process_of_its_own(pushed, train, tmp_path):
    HfApi().create_tag("user/reds", tag="v1", repo_type="dataset")
    HfApi().delete_file("train-00000-of-00002.parquet", "user/reds", repo_type="dataset")  # on main it is broken
    done = subprocess.run(
        [sys.executable, "-m", "ram_hf", *train, "user/reds@v1"],
        **{"env": {**os.environ, "PYTHONPATH": str(ROOT)}, "capture_output": True, "text": True, "check": False},
    )
    assert done.returncode == 0, done.stderr
    assert WRITE_TOKEN not in done.stdout + done.stderr
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    assert (record["steps"], record["arguments"]["dataset"]) == (2, "user/reds")
    assert record["arguments"]["dataset_revision"] == "v1"
    assert (tmp_path / "run" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        (
            "user/blues",
            None,
            "Dataset 'user/blues' doesn't exist on the Hub or cannot be accessed. Check the name; for private",
        ),
        ("user/reds@v9", None, "There is no branch, tag or commit 'v9' of 'user/reds'"),
        ("https://huggingface.co/datasets/user/reds/", None, "Did you mean 'user/reds', on the Hub?"),
        ("user/reds", 401, "does not know your token, or needs one for 'user/reds'"),
        ("user/reds", 403, "Your token may not read 'user/reds'"),
        (
            "user/reds",
            429,
            "does in 7 seconds. Run the same again: what has arrived whole is kept. It was about 'user/",
        ),
        ("user/reds", 503, "out of order (503), asked for 'user/reds'. Run the same again"),
    ],
)
def test_a_data_set_that_cannot_be_had_is_named(pushed, train, capsys, name, status, message):
    if status is not None:
        pushed.fail(status, "user/reds", times=1000, Retry_After="7")
    assert cli.main([*train, name]) == 1
    told = capsys.readouterr().err
    assert message in told.splitlines()[-1]
    assert WRITE_TOKEN not in told


def test_a_private_data_set_needs_a_token(pushed, train, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert cli.main([*train, "user/reds"]) == 1
    assert (
        "Dataset 'user/reds' doesn't exist on the Hub or cannot be accessed. Check the name; for private"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("failure", [503, None], ids=["out of order", "dropped"])
def test_a_stream_that_breaks_off_is_told_and_training_goes_on_when_run_again(pushed, train, capsys, failure):
    """The list of files has been had; the rows come not."""
    if failure:
        pushed.fail(failure, "/resolve/.*parquet", method="GET", times=1000)
    else:
        pushed.drop("/store/", method="GET", times=1000)
    assert cli.main([*train, "user/reds"]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert re.search("out of order.*'user/reds'|connection to the Hub broke off", told), told
    assert "Run the same again" in told
    pushed.failures.clear()
    assert cli.main([*train, "user/reds"]) == 0
