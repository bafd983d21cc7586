"""`ram-hf adapt`: what it writes and says, what it refuses, and how a stopped run goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import pipeline

from ram_hf import RamModel, RamProcessor, cli
from ram_hf.tagging import adapt_command
from tests.conftest import LABELS
from tests.fork_server import tree

from .hostile import photograph, save_photographs

STATE = ".ram_hf-adapt.safetensors"
NUM_PICTURES, NUM_FAILED = 11, 1


@pytest.fixture
def folder(tmp_path) -> Path:
    save_photographs(tmp_path / "photos", NUM_PICTURES - 1, size=(40, 30))
    (tmp_path / "photos" / "below").mkdir()
    photograph(40, 30, seed=50).save(tmp_path / "photos" / "below" / "last.png")
    (tmp_path / "photos" / "0003.jpg").write_bytes(b"")  # cannot be read
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    return tmp_path


@pytest.fixture
def adapt(folder, model_folder, capsys):
    """Adapts, and returns status, standard output and what was said besides."""

    def run(*options, model=model_folder, photos="photos", labels=("--labels-file", folder / "labels.txt"), to="out"):
        words = ["adapt", model, folder / photos, *labels, "--output", folder / to, "--batch-size", 4, "--workers", 0]
        status = cli.main([*map(str, words), *map(str, options)])
        return status, *capsys.readouterr()

    return run


def test_the_model_that_is_written_knows_its_labels_by_their_looks(adapt, folder, model_folder):
    status, told, said = adapt("--patches-per-label", 12)
    assert status == 0, said
    model, processor = RamModel.from_pretrained(folder / "out"), RamProcessor.from_pretrained(folder / "out")
    assert model.config.adapted_labels == LABELS

    plain = RamModel.from_pretrained(model_folder)
    paths = [*sorted((folder / "photos").glob("*.jpg")), folder / "photos" / "below" / "last.png"]
    images = [Image.open(path).convert("RGB") for path in paths if path.stat().st_size]
    with torch.no_grad():
        features = plain.get_label_features(**processor(labels=LABELS))
        batches = [processor(images=images)["pixel_values"]]
        counts = plain.adapt(batches, features, LABELS, patches_per_label=12)
    assert told.splitlines() == [f"{name}\t{count}" for name, count in zip(LABELS, counts.tolist(), strict=True)]
    for name, tensor in plain.visual_classifier.state_dict().items():
        found = model.visual_classifier.state_dict()[name]
        torch.testing.assert_close(found, tensor, rtol=1e-3, atol=1e-3, msg=name)

    without = [name for name, count in zip(LABELS, counts.tolist(), strict=True) if not count]
    lines = said.splitlines()
    assert lines[0] == "10 pictures read, 1 failed"
    assert lines[1].endswith("0003.jpg: the file is empty")
    assert lines[2] == f"{4 - len(without)} of 4 labels got patches, {counts.sum()} in all."
    assert (f"Without a patch, known by their words: {', '.join(without)}." in lines) == bool(without)
    assert not [name for name in os.listdir(folder / "out") if name.startswith(".")]


def test_pipeline_tag_and_evaluate_take_it(adapt, folder, model_folder, capsys):
    assert adapt()[0] == 0
    photos = [str(folder / "photos" / name) for name in ("0000.jpg", "0001.jpg")]
    labels = [*LABELS, "a house"]
    model, processor = RamModel.from_pretrained(folder / "out"), RamProcessor.from_pretrained(folder / "out")
    with torch.no_grad():
        features = model.get_label_features(**processor(labels=labels))
        pixels = processor(images=[Image.open(photo) for photo in photos])["pixel_values"]
        scores = model(pixels, label_features=features).scores
        by_words = RamModel.from_pretrained(model_folder)(pixels, label_features=features).scores
    assert not torch.allclose(scores, by_words, atol=1e-4)
    tagger = pipeline("zero-shot-multi-label-tagging", model=str(folder / "out"))
    for tags, expected in zip(tagger(photos, candidate_labels=labels), scores, strict=True):
        found = {tag["label"]: tag["score"] for tag in tags}
        torch.testing.assert_close(torch.tensor([found[name] for name in labels]), expected, rtol=1e-3, atol=1e-5)

    options = ["--labels", ",".join(labels), "--output", str(folder / "tags.jsonl"), "--workers", "0", "--top-k", "9"]
    assert cli.main(["tag", *photos, "--model", str(folder / "out"), *options]) == 0
    assert "4 of the 5 labels are known by their looks" in capsys.readouterr().err
    rows = [json.loads(line) for line in (folder / "tags.jsonl").read_text().splitlines()]
    for row, expected in zip(rows, scores, strict=True):
        found = {tag["label"]: tag["score"] for tag in row["tags"]}
        torch.testing.assert_close(torch.tensor([found[name] for name in labels]), expected, rtol=1e-2, atol=1e-4)


def test_sentences_that_are_given_become_the_models_own(adapt, folder, capsys):
    status, _, said = adapt("--prompt-template", "{label}, seen at night")
    assert status == 0, said
    assert RamProcessor.from_pretrained(folder / "out").label_template == ["{label}, seen at night"]
    options = ["--labels", ",".join(LABELS), "--model", str(folder / "out"), "--workers", "0"]
    assert cli.main(["tag", str(folder / "photos" / "0000.jpg"), *options]) == 0
    assert "4 of the 4 labels are known by their looks" in capsys.readouterr().err


def test_reference_labels_are_put_into_these_sentences_too(adapt, folder, calibrated_folder):
    before = RamModel.from_pretrained(calibrated_folder)
    assert adapt("--prompt-template", "{label}, seen at night", model=calibrated_folder)[0] == 0
    model, processor = RamModel.from_pretrained(folder / "out"), RamProcessor.from_pretrained(folder / "out")
    names = model.config.reference_labels
    assert names == before.config.reference_labels
    with torch.no_grad():
        assert torch.equal(model.reference.features, model.get_label_features(processor(labels=names)["input_ids"]))
    assert not torch.equal(model.reference.features, before.reference.features)


def test_a_clip_becomes_a_training_free_model_that_is_adapted(adapt, folder, tiny_model, tiny_processor):
    for part in (tiny_model.clip, tiny_processor):
        part.save_pretrained(folder / "clip")
    (folder / "clip" / "NOTICE").write_text("Of others.")
    status, _, said = adapt(model=folder / "clip")
    assert status == 0, said
    model = RamModel.from_pretrained(folder / "out")
    assert model.config.aggregation == "max"
    assert model.visual_classifier is not None
    assert (folder / "out" / "NOTICE").read_text() == "Of others."


def test_probabilities_of_words_are_dropped_and_told(adapt, folder, calibrated_folder):
    status, _, said = adapt(model=calibrated_folder)
    assert status == 0, said
    assert "Its probabilities were of words alone: `ram-hf calibrate` fits them again." in said
    model = RamModel.from_pretrained(folder / "out")
    assert not model.is_calibrated
    assert model.reference is not None


def test_labels_of_a_vocabulary_are_known_by_all_their_names(adapt, folder):
    (folder / "labels.yaml").write_text("labels:\n  dog: {match: [dog, hound]}\n  tree:\nbackground: [sky]\n")
    status, told, said = adapt(labels=("--labels-file", folder / "labels.yaml"))
    assert status == 0, said
    assert [line.split("\t")[0] for line in told.splitlines()] == ["dog", "tree", "sky"]
    model, processor = RamModel.from_pretrained(folder / "out"), RamProcessor.from_pretrained(folder / "out")
    with torch.no_grad():
        names = F.normalize(model.get_label_features(**processor(labels=["dog", "hound"])), dim=1)
    assert model.is_adapted_to(names.mean(0, keepdim=True)).item()
    assert not model.is_adapted_to(names).any()


def stop_after(monkeypatch, batches: int):
    """Interrupt in the middle of so many batches, as Ctrl-C does."""
    from ram_hf.tagging.patch_reader import PatchReader

    add, calls = PatchReader.add, []

    def interrupted(self, pixels):
        calls.append(pixels)
        if len(calls) == batches:
            os.kill(os.getpid(), signal.SIGINT)
        add(self, pixels)

    monkeypatch.setattr(PatchReader, "add", interrupted)
    return calls


def test_a_stopped_run_goes_on_and_reads_nothing_twice(adapt, folder, monkeypatch):
    assert adapt(to="whole")[0] == 0
    with monkeypatch.context() as patched:
        stop_after(patched, 1)
        status, _, said = adapt()
    assert status == 130
    assert "Interrupted with 7 pictures left; the same command goes on." in said
    assert os.listdir(folder / "out") == [STATE]
    with monkeypatch.context() as patched:
        calls = stop_after(patched, 99)
        status, _, said = adapt()
    assert status == 0, said
    assert "10 pictures read, 1 failed" in said
    assert sum(map(len, calls)) == 7
    assert tree(folder / "out") == tree(folder / "whole")


def test_another_run_does_not_go_on_from_it(adapt, folder, monkeypatch, calibrated_folder):
    with monkeypatch.context() as patched:
        stop_after(patched, 1)
        assert adapt()[0] == 130
    before = tree(folder / "out")
    for change in (
        {"model": calibrated_folder},
        {"labels": ("--labels", "dog, cat")},
    ):
        status, _, said = adapt(**change)
        assert status == 1
        assert "holds the state of a run with another model, other labels or other options" in said
    assert adapt("--patches-per-label", 3)[0] == 1
    assert tree(folder / "out") == before
    (folder / "out" / STATE).write_bytes(b"damaged")
    status, _, said = adapt()
    assert status == 1
    assert "cannot be read" in said
    assert "remove it to begin again" in said


def test_state_is_saved_from_time_to_time(adapt, folder, monkeypatch):
    monkeypatch.setattr(adapt_command, "_SECONDS_BETWEEN_SAVES", -1)
    saved = []
    save = adapt_command._save
    monkeypatch.setattr(adapt_command, "_save", lambda *args: (save(*args), saved.append(tree(folder / "out"))))
    assert adapt()[0] == 0
    assert len(saved) == 4  # after each of three batches, and at the end
    assert all(list(files) == [STATE, ".ram_hf.lock"] or STATE in files for files in saved)


def test_pictures_that_came_since_are_read_too(adapt, folder, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(patched, 1)
        assert adapt()[0] == 130
    photograph(40, 30, seed=77).save(folder / "photos" / "0000a.jpg")
    (folder / "photos" / "0001.jpg").unlink()
    status, _, said = adapt()
    assert status == 0
    assert "11 pictures read, 1 failed" in said


def test_what_is_wrong_is_told_before_the_model_is_loaded(adapt, folder, monkeypatch):
    monkeypatch.setattr("ram_hf.tagging.loading.load_quietly", lambda name: pytest.fail("loaded"))
    (folder / "empty").mkdir()
    (folder / "empty.txt").write_text("# no label\n")
    (folder / "full").mkdir()
    (folder / "full" / "diary.txt").write_text("mine")
    cases = (
        ({"photos": "empty"}, "There is no picture in"),
        ({"photos": "nowhere"}, "is not there"),
        ({"photos": "labels.txt"}, "is not a folder"),
        ({"labels": ("--labels-file", folder / "empty.txt")}, "empty.txt"),
        ({"labels": ("--labels-file", folder / "none.txt")}, "none.txt"),
        ({"labels": ("--labels", "dog")}, "labels that it tells apart: give more than one"),
        ({"to": "full"}, "holds other things, 'diary.txt' for one: choose a new folder"),
        ({"to": "labels.txt"}, "is not a folder"),
    )
    for change, message in cases:
        status, told, said = adapt(**change)
        assert (status, told) == (1, "")
        assert message in said
    assert os.listdir(folder / "full") == ["diary.txt"]
    assert not (folder / "out").exists()


def test_pictures_that_cannot_be_read_are_refused(adapt, folder):
    (folder / "broken").mkdir()
    for number in range(2):
        (folder / "broken" / f"{number}.png").write_bytes(b"nothing")
    status, _, said = adapt(photos="broken")
    assert status == 1
    assert "None of the 2 pictures can be read" in said
    assert "0.png" in said
    assert not (folder / "out").exists()


@pytest.fixture
def processes():
    """Those that a test starts; none outlives it."""
    started: list[subprocess.Popen] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_real_process_interrupted_and_killed_ends_in_the_bytes_of_an_undisturbed_one(
    folder, model_folder, processes
):
    # It saves after each batch, and waits in the fifth for a word of ours.
    (folder / "slow.py").write_text(
        "import itertools, os, sys, time\nfrom ram_hf.tagging import adapt_command, patch_reader\n"
        "adapt_command._SECONDS_BETWEEN_SAVES = -1\nadd, numbers = patch_reader.PatchReader.add, itertools.count(1)\n"
        "def slowly(*args):\n    holds = next(numbers) == 5\n    while holds and not os.path.exists('go'):\n"
        "        time.sleep(0.01)\n    return add(*args)\n"
        "patch_reader.PatchReader.add = slowly\n"
        "if __name__ == '__main__':\n    from ram_hf.cli import main\n    sys.exit(main())\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    state = folder / "out" / STATE

    def start(output: str) -> subprocess.Popen:
        words = ["adapt", str(model_folder), "photos", "--labels-file", "labels.txt", "--output", output]
        process = subprocess.Popen(
            [sys.executable, "slow.py", *words, "--batch-size", "1", "--workers", "0"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    def wait_for_state(process: subprocess.Popen, changed_since: int = 0) -> int:
        deadline = time.monotonic() + 600
        while not state.exists() or state.stat().st_mtime_ns <= changed_since:
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        return state.stat().st_mtime_ns

    (folder / "go").touch()
    whole = start("whole")
    told, said = whole.communicate(timeout=600)
    assert whole.returncode == 0, said

    (folder / "go").unlink()
    first = start("out")
    wait_for_state(first)
    first.send_signal(signal.SIGINT)
    time.sleep(0.1)
    (folder / "go").touch()
    _, said = first.communicate(timeout=300)
    assert first.returncode == 130
    assert "Traceback" not in said
    assert "pictures left; the same command goes on" in said

    (folder / "go").unlink()
    second = start("out")
    wait_for_state(second, state.stat().st_mtime_ns)
    second.kill()
    second.communicate(timeout=300)
    assert state.exists()

    (folder / "go").touch()
    third = start("out")
    told_again, said = third.communicate(timeout=600)
    assert third.returncode == 0, said
    assert told_again == told
    assert tree(folder / "out") == tree(folder / "whole")
