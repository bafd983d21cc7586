"""The benchmarks on photographs, on drawings in files of the same columns."""

import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks import photo_ablation as ablation
from benchmarks import photographs as benchmark
from benchmarks.photo_sets import open_sets
from ram_hf import RamModel
from ram_hf.data.label_set import LabelSet
from ram_hf.data.sources import DatasetSpec
from ram_hf.evaluation.dataset import evaluate_on_dataset
from ram_hf.model.images import read_image
from tests.pretraining.drawn_photographs import draw

ROWS = 48
# As COCO calls them, and in brackets as the other files do: apple, leaf, remote (remote control).
WORDS = {
    "exact": ["apple", "leaf"],
    "seen": ["apple", "sea"],
    "unseen": ["leaf", "sand", "remote control"],
    "coco80": ["apple", "leaf", "remote"],
    "coco80_names_elsewhere": {"remote": "remote control"},
}


def scenes(names: list[str], rng: np.random.Generator) -> dict[str, list]:
    labels = [sorted(rng.choice(names, size=rng.integers(1, 3), replace=False).tolist()) for _ in range(ROWS)]
    drawn = {"remote": "sand", "remote control": "sand"}
    return {
        "image": [draw([drawn.get(name, name) for name in present], rng) for present in labels],
        "labels": labels,
        "labels_exact": [[name for name in present if name in WORDS["exact"]] for present in labels],
    }


def coco80(rng: np.random.Generator) -> dict[str, list]:
    table = scenes(WORDS["coco80"], rng)
    del table["labels_exact"]
    corners = rng.integers(0, 20, size=(ROWS, 2)).tolist()
    boxes = [
        [{"label": name, "x0": x, "y0": y, "x1": x + 18.0, "y1": y + 20.0} for name in present]
        for present, (x, y) in zip(table["labels"], corners, strict=True)
    ]
    return {**table, "boxes": boxes}


def objects(rng: np.random.Generator) -> dict[str, list]:
    labels = [[name] for name in ["apple", "leaf", "sea", "sand"] * (ROWS // 4)]
    # Of each 16 rows the last one is held back.
    source = ["tiny-imagenet-200/train" if row < 32 else "mini-imagenet/train" for row in range(ROWS)]
    return {"image": [draw(present, rng) for present in labels], "labels": labels, "source": source}


@pytest.fixture
def folder(tmp_path):
    """The files that are judged by, and the words."""
    rng = np.random.default_rng(0)
    tables = {
        "dev-coco": scenes(["apple", "leaf", "sea", "sand", "remote control"], rng),
        "dev-coco80": coco80(rng),
        "dev-objects": objects(rng),
    }
    for name, table in tables.items():
        pq.write_table(pa.table(table), tmp_path / f"{name}.parquet")
    (tmp_path / "labels.json").write_text(json.dumps(WORDS))
    return tmp_path


@pytest.fixture
def training_folder(tmp_path):
    """The files that are trained on, alone."""
    rng = np.random.default_rng(1)
    pq.write_table(pa.table(scenes(["apple", "leaf", "sea", "sand"], rng)), tmp_path / "train-coco.parquet")
    pq.write_table(pa.table(objects(rng)), tmp_path / "train-imagenet.parquet")
    (tmp_path / "labels.json").write_text(json.dumps(WORDS))
    return tmp_path


def test_what_is_judged(folder):
    coco, complete, objects = open_sets(folder, is_held_back=False)
    assert [len(each.images) for each in (coco, complete, objects)] == [ROWS] * 3
    assert coco.rankings == {
        "exact": ["apple", "leaf"],
        "exact unseen": ["leaf"],
        "unseen": ["leaf", "sand", "remote control"],
        "all": ["apple", "sea", "leaf", "sand", "remote control"],
    }
    table = pq.read_table(folder / "dev-coco.parquet").to_pydict()
    assert coco.targets["exact"].tolist() == [["apple" in names, "leaf" in names] for names in table["labels_exact"]]
    assert complete.rankings == {"all": ["apple", "leaf", "remote control"], "new": ["leaf", "remote control"]}
    for names, marks, boxes in zip(
        pq.read_table(folder / "dev-coco80.parquet")["labels"].to_pylist(),
        complete.targets["all"],
        complete.boxes,
        strict=True,
    ):
        assert marks.tolist() == [name in names for name in ("apple", "leaf", "remote")]
        assert set(boxes) == {WORDS["coco80_names_elsewhere"].get(name, name) for name in names}
    assert objects.rankings == {"all": ["apple", "leaf", "sand", "sea"]}


def test_rows_held_back_are_of_training_files_alone(training_folder):
    coco, objects = open_sets(
        training_folder, is_held_back=True
    )  # no class of COCO's has 5 positives among three rows
    table = pq.read_table(training_folder / "train-coco.parquet").to_pydict()
    assert coco.images == [table["image"][row] for row in (15, 31, 47)]
    images = pq.read_table(training_folder / "train-imagenet.parquet")["image"].to_pylist()
    assert objects.images == [images[15], images[31]]  # the third is none of tiny-imagenet's
    assert objects.targets["all"].tolist() == [[1], [1]]


def test_the_numbers_are_those_of_the_evaluation(folder, tiny_model, tiny_processor):
    complete = open_sets(folder, is_held_back=False)[1]
    complete.boxes = [
        {("remote" if n == "remote control" else n): b for n, b in each.items()} for each in complete.boxes
    ]
    complete.rankings["all"][2] = "remote"
    found = benchmark.numbers(complete, benchmark.look(tiny_model, tiny_processor, complete))
    dataset, reader = DatasetSpec(
        folder / "dev-coco80.parquet", "test", label_column="labels", boxes_column="boxes"
    ).open()
    labels = LabelSet(tuple(WORDS["coco80"]))
    report = evaluate_on_dataset(tiny_model, tiny_processor, dataset, reader, label_set=labels).settings["plain"]
    assert found["mAP, 3 classes"] == pytest.approx(report.mean_average_precision, abs=1e-9)
    assert found["CF1@3"] == pytest.approx(report.top_k[3].class_f1)
    assert found["pointing: plan"] == report.pointing["transport_plan"].accuracy
    assert found["pointing: similarity"] == report.pointing["similarity"].accuracy
    assert 0 < found["pointing: plan"] < 1


def test_the_row_of_a_clip_is_its_softmax(folder, tiny_model, tiny_processor):
    objects = open_sets(folder, is_held_back=False)[2]
    rows = benchmark.rows_of(tiny_model, tiny_processor, objects)
    images = [read_image(data) for data in objects.images[:5]]
    inputs = tiny_processor(images=images, labels=objects.rankings["all"])
    with torch.inference_mode():
        wanted = tiny_model.clip(**inputs).logits_per_image.softmax(dim=-1).numpy()
    np.testing.assert_allclose(rows[benchmark.CLIP].score["all"][:5], wanted, atol=1e-5)
    assert np.abs(rows[benchmark.RAM].score["all"][:5] - wanted).max() > 1e-3
    of_a_clip = benchmark.clip_rows(RamModel.from_clip(tiny_model.clip), tiny_processor, objects)
    for row, looked in of_a_clip.items():
        np.testing.assert_array_equal(looked.score["all"], rows[row].score["all"])


def test_the_spread_is_that_of_resamples(folder):
    objects = open_sets(folder, is_held_back=False)[2]
    right = np.arange(ROWS) % 4 != 0  # three in four
    scores = np.where(right[:, None], objects.targets["all"], 1 - objects.targets["all"]) + np.arange(4) * 1e-3
    looked = benchmark.Looked({"all": scores}, {}, None)
    value, resampled = benchmark.spread(objects, objects.columns[0], looked)
    assert value == 0.75
    assert resampled.std() == pytest.approx(np.sqrt(0.75 * 0.25 / ROWS), rel=0.2)
    same = dict.fromkeys((benchmark.RAM, benchmark.CLIP, benchmark.UNTRAINED), looked)
    assert "| m: RAM above its CLIP | +0.0 ± 0.0 |" in benchmark.to_table(objects, {"m": same})


def test_it_runs(folder, tiny_model, tiny_processor, tmp_path, monkeypatch, capsys):
    for model, name in ((tiny_model, "ram"), (tiny_model.clip, "clip")):
        model.save_pretrained(tmp_path / name)
        tiny_processor.save_pretrained(tmp_path / name)
    monkeypatch.setattr(benchmark, "RESAMPLES", 3)
    names = [str(tmp_path / name) for name in ("ram", "clip")]
    monkeypatch.setattr(sys, "argv", ["photographs", *names, "--photographs", str(folder), "--per-label"])
    benchmark.main()
    printed = capsys.readouterr().out
    assert [printed.count(f"\n| {names[0]}: {row} | ") for row in (benchmark.RAM, "RAM above its CLIP")] == [3, 3]
    assert [printed.count(f"\n| {names[1]}: {row} | ") for row in (benchmark.CLIP, benchmark.UNTRAINED)] == [3, 3]
    assert "| remote control | " in printed


def test_parts_of_the_method_are_trained_once_and_judged(training_folder, tiny_model, tiny_processor, monkeypatch):
    work, clip, config = (training_folder / name for name in ("work", "clip", "ram.yaml"))
    tiny_model.clip.save_pretrained(clip)
    tiny_processor.save_pretrained(clip)
    options = "output_dir: nowhere\nmodel: nowhere\ndataset: nowhere\nseen_labels: nowhere.txt\nlabel_column: labels\n"
    options += "max_steps: 9\nschedule_steps: 9\nwarmup_steps: 0\nper_device_batch_size: 8\nnum_workers: 0\n"
    config.write_text(options + "report_to: none\nadapter_learning_rate: 0.01\nram_config: {teacher_weight: 0.1}\n")
    words = ["--clip", clip, "--photographs", training_folder, "--config", config, "--work", work, "--held-back"]
    words += ["--steps", "2", "--seeds", "0", "1", "--variants", "without-lla", "nouns-left-out"]
    monkeypatch.setattr(sys, "argv", ["photo_ablation", *map(str, words)])
    ablation.main()
    found = json.loads((work / "results-held-back.json").read_text())
    assert list(found) == [
        "clip",
        *(f"{name}-{seed}" for seed in (0, 1) for name in ("without-lla", "nouns-left-out")),
    ]
    assert all(0 <= value <= 1 for values in found["nouns-left-out-1"].values() for value in values.values())
    table = (work / "table.md").read_text()
    assert "| without LLA (its convolutions stay zero) | 2 | " in table
    assert "| CLIP (softmax) | - | " in table

    without_lla = RamModel.from_pretrained(work / "models" / "without-lla-0")
    assert not any(layer.adapter.output_conv.weight.any() for layer in without_lla.ladder.values())
    assert without_lla.config.teacher_weight == 0.1
    exact_alone = RamModel.from_pretrained(work / "models" / "nouns-left-out-0")
    assert exact_alone.config.reference_labels == ["apple"]
    assert all(layer.adapter.output_conv.weight.any() for layer in exact_alone.ladder.values())

    monkeypatch.setattr(ablation, "train_changed", None)  # nothing is done twice
    monkeypatch.setattr(ablation, "look", None)
    ablation.main()
    assert (work / "table.md").read_text() == table
