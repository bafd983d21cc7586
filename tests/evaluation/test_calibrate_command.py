"""`ram-hf calibrate`: what it writes, where, and what it leaves as it was."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from ram_hf import COMMON_NOUNS, RamModel, RamProcessor, cli
from ram_hf.evaluation.calibration import fit_calibration
from ram_hf.evaluation.held_out import Reference, collect_evidence, deal_labels
from tests.conftest import make_config

ROOT = Path(__file__).parents[2]
FEATURES = datasets.Features({"image": datasets.Image(), "labels": datasets.List(datasets.Value("string"))})
LABELS = ["red", "green", "blue", "dark", "bright", "wide", "tall"]


def write_rows(folder: Path, num_images: int = 60, broken: int | None = None) -> Path:
    """Flat images named by their colour, brightness and shape."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(num_images):
        channel, bright, wide = int(rng.integers(3)), bool(rng.integers(2)), bool(rng.integers(2))
        pixels = rng.integers(0, 60, (20, 30, 3) if wide else (30, 20, 3), dtype=np.uint8)
        pixels[..., channel] += 180 if bright else 60
        Image.fromarray(pixels).save(folder / "image.png")
        data = b"no image" if number == broken else (folder / "image.png").read_bytes()
        labels = [LABELS[channel], "bright" if bright else "dark", "wide" if wide else "tall"]
        rows.append({"image": {"bytes": data, "path": f"{number}.png"}, "labels": labels})
    (folder / "image.png").unlink()
    datasets.Dataset.from_list(rows, features=FEATURES).to_parquet(folder / "train-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "rows")


@pytest.fixture(scope="module")
def labels_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("labels") / "labels.txt"
    file.write_text("".join(f"{label}\n" for label in LABELS))
    return file


@pytest.fixture
def folder(tmp_path, tiny_model, tiny_processor) -> Path:
    folder = tmp_path / "model"
    tiny_model.save_pretrained(folder)
    tiny_processor.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps({"seen_labels": ["red", "green", "a house"]}))
    (folder / "NOTICE").write_text("Of others.")
    return folder


@pytest.fixture
def run(rows, labels_file, capsys):
    """Calibrates, and returns status, standard output and what was said besides."""

    def calibrate(model, *options, data=rows, labels=labels_file):
        chosen = [] if labels is None else ["--labels", str(labels)]
        options = [*chosen, "--num-workers", "1", "--quiet", *map(str, options)]
        status = cli.main(["calibrate", str(model), str(data), *options])
        return status, *capsys.readouterr()

    return calibrate


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_folder_becomes_one_with_probabilities(run, folder):
    before = contents(folder)
    status, told, said = run(folder)
    assert status == 0, said
    assert "60 images, 7 labels in 5 folds, 180 of them present; 3 reference labels." in told
    model, processor = RamModel.from_pretrained(folder), RamProcessor.from_pretrained(folder)
    assert model.is_calibrated
    assert model.config.reference_labels == ["red", "green", "a house"]  # of its training
    with torch.no_grad():
        expected = model.get_label_features(**processor(labels=["red", "green", "a house"]))
    assert torch.equal(model.reference.features, expected)
    calibration = model.config.calibration
    assert (calibration["num_labels"], calibration["labels_per_image"]) == (7, pytest.approx(3))
    report = json.loads((folder / "calibration.json").read_text())
    assert report["calibrated"] == {"images": 60, "labels": 7, "positives": 180}
    assert report["threshold"] == calibration["threshold"]
    assert (folder / "calibration.png").read_bytes().startswith(b"\x89PNG")
    now = contents(folder)
    assert {name: now[name] for name in ("training.json", "NOTICE")} == {
        name: before[name] for name in ("training.json", "NOTICE")
    }
    assert not [name for name in now if "unfinished" in name or "lock" in name]


def test_the_numbers_are_fitted_on_labels_left_out(run, folder, rows):
    """The same put together by hand, in one batch, with the trained labels as the reference."""
    model, processor = RamModel.from_pretrained(folder), RamProcessor.from_pretrained(folder)
    assert run(folder, "--seed", 3, "--folds", 4)[0] == 0
    table = datasets.load_dataset("parquet", data_files=str(rows / "*.parquet"), split="train")
    truth = torch.tensor([[label in row["labels"] for label in LABELS] for row in table]).float()
    reference = ["red", "green", "a house"]
    with torch.no_grad():
        features = model.get_label_features(**processor(labels=[*LABELS, *reference]))
    evidence = collect_evidence(
        model,
        [(0, {**processor(images=[row["image"].convert("RGB") for row in table]), "labels": truth})],
        label_names=LABELS,
        label_features=features[:7],
        reference=Reference(reference, features[7:]),
        folds=deal_labels(7, num_folds=4, seed=3),
    )
    expected = fit_calibration(evidence).calibration.to_dict()
    found = RamModel.from_pretrained(folder).config.calibration
    for name in ("evidence_weights", "statistics_weights", "bias", "threshold", "labels_per_image"):
        assert found[name] == pytest.approx(expected[name], rel=1e-2), name


def test_the_same_again_gives_the_same_bytes_elsewhere_too(run, folder, tmp_path):
    for name in ("one", "two"):
        assert run(folder, "--output", tmp_path / name)[0] == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert (tmp_path / "one" / "NOTICE").read_text() == "Of others."
    assert "calibration.json" not in contents(folder)
    run(folder, "--output", tmp_path / "three", "--seed", 1)
    assert contents(tmp_path / "three")["config.json"] != contents(tmp_path / "one")["config.json"]


def test_its_own_reference_stays_and_another_can_be_given(run, folder, tmp_path):
    assert run(folder)[0] == 0
    first = contents(folder)
    assert run(folder)[0] == 0
    for name in ("config.json", "model.safetensors", "calibration.json"):
        assert contents(folder)[name] == first[name]
    (tmp_path / "reference.txt").write_text("sky\nmouse\n")
    assert run(folder, "--reference", tmp_path / "reference.txt")[0] == 0
    assert RamModel.from_pretrained(folder).config.reference_labels == ["sky", "mouse"]


def test_sentences_that_are_given_become_the_models_own(run, folder):
    assert run(folder)[0] == 0
    by_default = RamModel.from_pretrained(folder).config.calibration
    assert run(folder, "--prompt-template", "openai-7")[0] == 0
    model, processor = RamModel.from_pretrained(folder), RamProcessor.from_pretrained(folder)
    assert processor.label_template == ["openai-7"]
    assert model.config.calibration != by_default
    with torch.no_grad():
        inputs = processor(labels=["red", "green", "a house"], label_template="openai-7")
        assert torch.equal(model.reference.features, model.get_label_features(**inputs))  # encoded anew
    first = contents(folder)
    assert run(folder)[0] == 0
    assert contents(folder) == first


def test_a_clip_is_read_with_common_nouns_and_written_elsewhere(run, tiny_model, tiny_processor, tmp_path):
    tiny_model.clip.save_pretrained(tmp_path / "clip")
    tiny_processor.save_pretrained(tmp_path / "clip")
    status, _, said = run(tmp_path / "clip")
    assert status == 1
    assert "holds a CLIP, which would be lost in its place: name a folder with `--output`" in said
    assert run(tmp_path / "clip", "--output", tmp_path / "ram")[0] == 0
    model = RamModel.from_pretrained(tmp_path / "ram")
    assert model.is_calibrated
    assert tuple(model.config.reference_labels) == COMMON_NOUNS


@pytest.mark.parametrize("fields", [{}, {"ladder_layers": None}])
def test_so_is_a_training_free_model_that_was_saved(run, tiny_model, tiny_processor, tmp_path, fields):
    """Also one with adapters, which add nothing before they are trained."""
    RamModel.from_clip(tiny_model.clip, config=fields).save_pretrained(tmp_path / "free")
    tiny_processor.save_pretrained(tmp_path / "free")
    assert run(tmp_path / "free")[0] == 0
    assert tuple(RamModel.from_pretrained(tmp_path / "free").config.reference_labels) == COMMON_NOUNS


def test_adapters_alone_stay_alone(run, tiny_model, tiny_processor, tmp_path, monkeypatch):
    clip = tiny_model.clip
    monkeypatch.setattr("ram_hf.model.adapters.load_clip", lambda name, **options: (clip, None))
    torch.manual_seed(0)
    model = RamModel(make_config(base_model_name_or_path="somebody/clip"), clip=clip)
    model.save_pretrained(tmp_path / "adapters", adapters_only=True)
    tiny_processor.save_pretrained(tmp_path / "adapters")
    size = (tmp_path / "adapters" / "model.safetensors").stat().st_size
    assert run(tmp_path / "adapters")[0] == 0
    config = json.loads((tmp_path / "adapters" / "config.json").read_text())
    assert config["base_model_fingerprint"]
    assert config["calibration"]
    assert (tmp_path / "adapters" / "model.safetensors").stat().st_size < size + 7 * 48 * 4 + 500
    assert RamModel.from_pretrained(tmp_path / "adapters").is_calibrated


def test_evaluate_judges_the_probabilities(run, folder, rows, labels_file, tmp_path, capsys):
    options = ["--seen", str(labels_file), "--split", "train", "--num-workers", "1"]
    plain, calibrated = (tmp_path / name for name in ("plain.json", "calibrated.json"))
    assert cli.main(["evaluate", str(folder), str(rows), *options, "--json", str(plain)]) == 0
    run(folder)
    assert cli.main(["evaluate", str(folder), str(rows), *options, "--json", str(calibrated)]) == 0
    assert "probability/ECE" in capsys.readouterr().out
    plain, calibrated = (json.loads(file.read_text())["plain"] for file in (plain, calibrated))
    found = calibrated.pop("probabilities")
    assert calibrated == plain
    assert found["threshold"] == RamModel.from_pretrained(folder).config.calibration["threshold"]


def test_broken_images_stop_it_or_are_counted(run, folder, tmp_path):
    data = write_rows(tmp_path / "broken", broken=7)
    before = contents(folder)
    status, told, said = run(folder, data=data)
    assert (status, told) == (1, "")
    assert "Cannot prepare row 7" in said
    assert contents(folder) == before
    status, told, _ = run(folder, "--skip-broken", data=data)
    assert status == 0
    assert "59 images" in told
    assert "1 more images could not be read and were passed over." in told


def written(tmp_path, text: str) -> Path:
    (tmp_path / "other.txt").write_text(text)
    return tmp_path / "other.txt"


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (None, (), "The labels of this dataset are free strings: name a label file with `--labels`."),
        ("red\n", (), "labels in all, and at least 100 are needed"),
        ("red\ngreen\nmauve\nblue\ndark\nbright\ntall\n", ("--max-images", 20), "labels in all, and at least 100"),
        ("red\nbright\ndark\nwide\ntall\nmauve\n", ("--folds", 6), "('mauve') are in none of 60"),
        ("Red\nGreen\n", (), "There is nothing to calibrate by: none of 60 images has one of the labels 'Red'"),
        ("red\nbright\n", ("--split", "test"), "has no split 'test'"),
        ("red\nbright\n", ("--reference", "nowhere.txt"), "There is no label file 'nowhere.txt'"),
        ("red\nbright\n", ("--label-column", "names"), "There is no label column 'names'"),
    ],
)
def test_too_little_is_told_and_nothing_written(run, folder, tmp_path, labels, options, message):
    before = contents(folder)
    status, told, said = run(folder, *options, labels=labels and written(tmp_path, labels))
    assert (status, told) == (1, "")
    assert message in said.splitlines()[-1]
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("ram-photo", (), "'ram-photo' is no folder that could be written to: name one with `--output FOLDER`."),
        ("ram-photo", ("--output", "{used}"), "exists and is not an empty folder"),
        ("{used}", (), "holds no `config.json`"),
        ("ram-photo", ("--output", "{new}", "--label-columns", "red", "--label-separator", "|"), "no effect with"),
    ],
)
def test_what_cannot_be_is_said_at_once(run, tmp_path, model, options, message):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    places = {"used": tmp_path / "used", "new": tmp_path / "new"}
    status, told, said = run(model.format(**places), *(option.format(**places) for option in options))
    assert (status, told) == (1, "")
    assert message in said
    assert not (tmp_path / "new").exists()


def test_a_full_disk_leaves_the_model_as_it_was(run, folder, monkeypatch):
    before = contents(folder)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    monkeypatch.setattr(RamProcessor, "save_pretrained", full)
    status, told, said = run(folder)
    assert (status, told) == (1, "")
    assert "No space left" in said
    assert contents(folder) == before


@pytest.mark.slow
def test_an_interrupted_run_leaves_the_model_as_it_was(folder, labels_file, tmp_path):
    data = write_rows(tmp_path / "many", num_images=3000)
    before = contents(folder)
    command = [sys.executable, "-m", "ram_hf", "calibrate", str(folder), str(data), "--labels", str(labels_file)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, "--batch-size", "4"], env=environment, stderr=subprocess.PIPE, text=True)
    said = ""
    end = time.monotonic() + 120
    while "12 pictures" not in said and time.monotonic() < end:
        said += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, said + rest
    assert "interrupted" in rest
    assert contents(folder) == before
    shutil.rmtree(data)
