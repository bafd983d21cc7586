"""`ram-hf tag INDEX`: what pictures give, without a picture."""

import copy
import json
import shutil

import pytest

from ram_hf.cli import main
from tests.conftest import RAM_TINY

from .hostile import photograph, save_photographs

LABELS = "dog, red car, tree"


@pytest.fixture
def index(tmp_path, monkeypatch, calibrated_folder):
    """Five photographs and a broken file, indexed; the model's folder."""
    monkeypatch.chdir(tmp_path)
    save_photographs(tmp_path / "photos", 5)
    (tmp_path / "photos" / "0009.jpg").write_bytes(b"nothing")
    words = ["index", "photos", "--output", "index", "--model", str(calibrated_folder), "--workers", "0"]
    assert main(words) == 0
    return calibrated_folder


def tag(*words, labels=LABELS):
    return main(["tag", *map(str, words), "--labels", labels, "--batch-size", "2", "--workers", "0"])


def rows(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_gives_what_pictures_give(index, tmp_path, capsys):
    assert tag("photos", "--model", index, "--output", "of-files.jsonl") == 0
    shutil.rmtree(tmp_path / "photos")
    assert tag("index", "--output", "of-index.jsonl", "--strict") == 1
    assert "5 pictures tagged, 1 failed\n  photos/0009.jpg: Cannot read" in capsys.readouterr().err
    expected, found = rows(tmp_path / "of-files.jsonl"), rows(tmp_path / "of-index.jsonl")
    assert [row["path"] for row in found] == [row["path"] for row in expected]
    assert [row["error"] for row in found] == [row["error"] for row in expected]
    for row, of_file in zip(found, expected, strict=True):
        scores = {each["label"]: each["score"] for each in of_file["tags"]}
        assert len(row["tags"]) == len(scores)
        assert {each["label"]: each["score"] for each in row["tags"]} == pytest.approx(scores, abs=3e-3)


def test_table_resume_and_vocabulary(index, tmp_path, capsys):
    capsys.readouterr()
    assert tag("index", "--top-k", 1) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [
        f"photos/000{number}.jpg" for number in range(5)
    ]
    assert tag("index", "--output", "whole.jsonl") == 0
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "half.jsonl").write_text("".join(lines[:3]))
    assert tag("index", "--output", "half.jsonl", "--resume") == 0
    assert (tmp_path / "half.jsonl").read_text() == "".join(lines)
    (tmp_path / "labels.yaml").write_text("labels: {dog: {display: Hund}}\n")
    assert main(["tag", "index", "--labels-file", "labels.yaml", "--output", "hund.jsonl"]) == 0
    assert rows(tmp_path / "hund.jsonl")[0]["tags"][0]["label"] == "Hund"


def test_beside_files_only_where_they_are_what_was_indexed(index, tmp_path):
    photograph(50, 50, seed=9).save(tmp_path / "photos" / "0001.jpg")
    (tmp_path / "photos" / "0002.jpg").unlink()
    assert tag("index", "--sidecar", "txt", "--overlay", "drawn", "--output", "tags.jsonl") == 0
    assert sorted(path.name for path in (tmp_path / "photos").glob("*.txt")) == ["0000.txt", "0003.txt", "0004.txt"]
    assert len(list((tmp_path / "drawn").rglob("*.jpg"))) == 3
    errors = [row["error"] for row in rows(tmp_path / "tags.jsonl")]
    assert errors[1:3] == ["the file has changed since it was indexed", "the file has gone since it was indexed"]


def test_refused(index, tmp_path, capsys, calibrated_model, tiny_processor):
    uncalibrated = copy.deepcopy(calibrated_model)
    uncalibrated.config.calibration = None
    uncalibrated.save_pretrained(tmp_path / "uncalibrated")
    tiny_processor.save_pretrained(tmp_path / "uncalibrated")
    words = ["index", "photos", "--output", "small", "--without-patches", "--model", str(index), "--workers", "0"]
    assert main(words) == 0
    for words, error in [
        (["index", "photos"], "'index' is an index, which is tagged by itself"),
        (["index", "--exclude", "*.png"], "`--exclude` is about files"),
        (["index", "--strict-pictures"], "`--strict-pictures` is about files"),
        (["index", "--dtype", "bfloat16"], "`--dtype` is about files"),
        (["index", "--model", "uncalibrated"], "This model is not calibrated"),
        (["index", "--model", RAM_TINY], f"and {str(RAM_TINY)!r} computes other features"),
        (["small"], "The index has no patches, of which this model's probabilities are made. `ram-hf search`"),
    ]:
        assert tag(*words) == 1
        assert error in capsys.readouterr().err


def test_without_patches_where_the_calibration_does_not_weigh_them(index, tmp_path, calibrated_model, tiny_processor):
    model = copy.deepcopy(calibrated_model)
    model.config.calibration = {**model.config.calibration, "evidence_weights": [0.4, 0.0]}
    model.save_pretrained(tmp_path / "global")
    tiny_processor.save_pretrained(tmp_path / "global")
    words = ["index", "photos", "--output", "small", "--without-patches", "--model", "global", "--workers", "0"]
    assert main(words) == 0
    for name in ("small", "index"):
        assert tag(name, "--model", "global", "--output", f"{name}.jsonl") == 0
    small, whole = rows(tmp_path / "small.jsonl"), rows(tmp_path / "index.jsonl")
    for row, expected in zip(small, whole, strict=True):
        scores = {each["label"]: each["score"] for each in expected["tags"]}
        assert {each["label"]: each["score"] for each in row["tags"]} == pytest.approx(scores, abs=1e-4)
