"""`ram-hf labels check` and `ram-hf tag` with a vocabulary, as processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ram_hf.cli import main

from .hostile import save_photographs

LABELS = """\
labels:
  dog: {display: Hund, match: [dog, hound], parents: [animal]}
  tree:
  car: {threshold: 1}
background: [wall]
exclude: [anmal]
"""


@pytest.fixture
def check(tmp_path, monkeypatch, model_folder, capsys):
    """Run the command in a folder of its own; returns its exit status and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(text, *arguments, file="labels.yaml"):
        Path(file).write_text(text, encoding="utf-8")
        status = main(["labels", "check", file, "--model", str(model_folder), *map(str, arguments)])
        shown = capsys.readouterr()
        return status, shown.out or shown.err

    return run


def test_nothing_to_tell(check, model_folder):
    status, shown = check("# mine\ndog\nthe sea at night\n", "--near", "0.999", file="labels.txt")
    assert shown == f"labels.txt: 2 labels; 2 names for {model_folder}\nNothing to tell.\n"
    assert status == 0


def test_mistakes_are_the_error_of_the_command(check):
    assert check("labels:\n  dog:\n  dog:\n") == (
        1,
        "ram-hf: error: labels.yaml:3: The label 'dog' comes twice. (See line 2.)\n",
    )
    assert "There is no file or folder 'gone'" in check("labels: [dog]", "--images", "gone")[1]


def test_every_kind_of_finding(check, tmp_path):
    save_photographs(tmp_path / "photos", 3)
    (tmp_path / "photos" / "broken.jpg").touch()
    status, shown = check(LABELS, "--near", 0, "--images", "photos", "--threshold", 0, "--show", 2)
    assert status == 1
    first, file, near, never = shown.split("\n\n")
    assert first.startswith("labels.yaml: 3 labels, 1 of background; 5 names for ")
    assert file == (
        "Odd about the file:\n"
        "  labels.yaml:6: 'anmal' is no label and no parent: it changes nothing. Did you mean 'animal'?"
    )
    assert near.startswith("Nearly one to the model, alike by 0 or more (`match` makes them names of one label):\n")
    assert "'dog', 'hound'" not in near  # names of one label
    assert never.startswith("Never found in 3 pictures (threshold 0.0, with the thresholds of the file):\n  'car': at")
    assert never.count("\n") == 2
    assert "'tree'" not in never
    assert ", in photos/000" in never


def test_names_that_are_too_long(check, tmp_path):
    save_photographs(tmp_path, 1)
    status, shown = check(f"labels: [dog, {'long ' * 40}]\n", "--near", 1, "--images", ".")
    assert status == 1
    assert "Longer than the 77 tokens that the model takes, so that `ram-hf tag` refuses them:\n  'long lon" in shown
    assert shown.endswith(" tokens\n")
    assert "Never" not in shown


def test_top_k_is_that_of_tagging(check, tmp_path):
    save_photographs(tmp_path / "photos", 1)
    names = ", ".join(f"label {number}" for number in range(9))
    _, shown = check(f"labels: [{names}]", "--near", 1, "--images", "photos")
    assert "Never found in 1 picture (among the best 5):\n" in shown
    assert shown.count(": at most 0.") == 4
    _, shown = check(f"labels: [{names}]", "--near", 1, "--images", "photos", "--top-k", 8, "--batch-size", 1)
    assert shown.count(": at most 0.") == 1


def test_pictures_that_nobody_can_read(check, tmp_path, capsys):
    (tmp_path / "a.jpg").touch()
    assert main(["labels", "check", "--images", "a.jpg"]) == 2
    capsys.readouterr()
    Path("labels.txt").write_text("dog\n")
    assert main(["labels", "check", "labels.txt", "--images", "a.jpg", "--near", "1"]) == 1
    assert "None of 1 pictures could be read" in capsys.readouterr().err


def test_processes(tmp_path, model_folder):
    """Tag with a vocabulary into every output, resume, and check it."""
    save_photographs(tmp_path / "photos", 2)
    (tmp_path / "labels.yaml").write_text(LABELS.replace("anmal", "tree"), encoding="utf-8")

    def ram_hf(*words) -> subprocess.CompletedProcess:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-m", "ram_hf", *words, "--model", str(model_folder)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    tag = ("tag", "photos", "--labels-file", "labels.yaml", "--threshold", "0")
    tagged = ram_hf(*tag)
    assert tagged.returncode == 0, tagged.stderr
    lines = [line.split("\t") for line in tagged.stdout.splitlines()]
    assert [(path, label) for path, label, _ in lines] == [
        (f"photos/000{index}.jpg", label) for index in range(2) for label in ("Hund", "animal")
    ]
    assert lines[0][2] == lines[1][2]
    checked = ram_hf("labels", "check", "labels.yaml", "--images", "photos", "--near", "1")
    assert checked.returncode == 1
    assert "'car': at most" in checked.stdout
    assert checked.stderr == ""
