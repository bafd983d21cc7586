"""`ram-hf prepare --push`: shards on the Hub with a card that names their features, streamed back from there."""

import json
from pathlib import Path

import datasets
from PIL import Image

from ram_hf import cli
from ram_hf.data.sources import DatasetSpec
from tests.hub_server import WRITE_TOKEN


def test_shards_go_there_and_are_streamed_back(logged_in, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", logged_in.url)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)  # read when it was imported
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    images = tmp_path / "images"
    images.mkdir()
    for index in range(4):
        Image.new("RGB", (20, 20), (60 * index, 0, 0)).save(images / f"{index}.png")
    table = tmp_path / "rows.jsonl"
    table.write_text(
        "".join(json.dumps({"path": f"{i}.png", "labels": ["red", "dark"][: i + 1]}) + "\n" for i in range(4))
    )
    arguments = ["prepare", "table", table, images, tmp_path / "out", "--quiet", "--push", "user/reds", "--private"]
    assert cli.main([*map(str, arguments)]) == 0
    repo = logged_in.repo("user/reds", "datasets")
    assert repo.is_private
    files = repo.files("main")
    assert {"README.md", "labels.txt", "train-00000-of-00001.parquet"} <= set(files)
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
