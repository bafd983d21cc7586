"""`configs/training_free/`: each runs as it stands, on a small data set of the same form and a random CLIP."""

from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from ram_hf import cli

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "training_free"


def labels(name: str) -> list[str]:
    return (ROOT / "configs" / "labels" / f"{name}.txt").read_text().splitlines()


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def clip(tmp_path, tiny_model, tiny_processor) -> str:
    for part in (tiny_model.clip, tiny_processor.image_processor, tiny_processor.tokenizer):
        part.save_pretrained(tmp_path / "clip")
    return str(tmp_path / "clip")


def save_pictures(folder: Path, number: int = 4) -> list[Path]:
    folder.mkdir(parents=True)
    files = [folder / f"{index:06}.jpg" for index in range(number)]
    for seed, file in enumerate(files):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(file)
    return files


def evaluate(name: str, *words: str) -> int:
    return cli.main(["evaluate", "--config", str(CONFIGS / f"{name}.yaml"), *words])


def prepare(*words: object) -> int:
    return cli.main(["prepare", *map(str, words), "--quiet"])


def test_there_is_one_for_each_published_benchmark():
    assert sorted(file.stem for file in CONFIGS.glob("*.yaml")) == ["coco", "nus81", "voc07"]


def test_coco(tmp_path, clip, capsys):
    names = labels("coco")
    objects = datasets.List({"categories": datasets.ClassLabel(names=names)})
    features = datasets.Features({"image": datasets.Image(), "objects": objects})
    rows = [
        {"image": str(file), "objects": [{"categories": names[index]}, {"categories": names[-1]}]}
        for index, file in enumerate(save_pictures(tmp_path / "pictures"))
    ]
    Path("coco").mkdir()
    datasets.Dataset.from_list(rows, features=features).to_parquet("coco/validation-00000-of-00001.parquet")
    assert evaluate("coco", clip, "coco") == 0
    assert "4 images; 80 labels" in capsys.readouterr().out


def test_voc07(tmp_path, clip, capsys):
    files = save_pictures(tmp_path / "JPEGImages")
    (tmp_path / "Main").mkdir()
    for index, label in enumerate(labels("voc07")):
        lines = [f"{file.stem} {1 if number == index % 4 else -1:2}\n" for number, file in enumerate(files)]
        (tmp_path / "Main" / f"{label.replace(' ', '')}_test.txt").write_text("".join(lines))
    names = ("--labels", ROOT / "configs" / "labels" / "voc07.txt")
    assert prepare("voc", "Main", "JPEGImages", "prepared/voc07/test", "--split", "test", *names) == 0
    assert evaluate("voc07", clip) == 0
    assert "4 images; 20 labels" in capsys.readouterr().out


def test_nus81(tmp_path, clip, capsys):
    files = save_pictures(tmp_path / "Flickr")
    Path("list.txt").write_text("".join(f"{file.name}\n" for file in files))
    Path("concepts").mkdir()
    for index, label in enumerate(labels("nus81")):
        marks = [int(number == index % 4) for number in range(len(files))]
        Path(f"concepts/Labels_{label}_Test.txt").write_text("".join(f"{mark}\n" for mark in marks))
    options = ("--split", "test", "--skip-broken", "--concepts", "concepts")
    assert prepare("nus-wide", "list.txt", "Flickr", "prepared/nus81/test", *options) == 0
    assert evaluate("nus81", clip) == 0
    assert "4 images; 81 labels" in capsys.readouterr().out
