"""`ram-hf tag --labels-file labels.yaml` into each of its outputs."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ram_hf.cli import main

from .hostile import save_photographs
from .test_xmp import words_of

LABELS = """\
separator: "; "
labels:
  dog: {display: Hund, match: [dog, hound], parents: [animal]}
  animal: {display: Tier, match: []}
  tree: {display: "Baum, groß"}
  house:
background: [wall]
exclude: [house]
force: [holiday]
"""
SHOWN = ["holiday", "Hund", "Tier", "Baum, groß"]


@pytest.fixture
def tag(tmp_path, monkeypatch, model_folder):
    """Run the command on two photographs with a vocabulary; returns its exit status."""
    monkeypatch.chdir(tmp_path)
    save_photographs(tmp_path / "photos", 2)

    def run(*arguments, labels=LABELS):
        Path("labels.yaml").write_text(labels, encoding="utf-8")
        return main(["tag", "photos", "--labels-file", "labels.yaml", "--model", str(model_folder), *arguments])

    return run


def test_rows_of_every_format_hold_names_to_show_and_what_they_imply(tag):
    for ending in ("jsonl", "csv", "parquet"):
        assert tag("--output", f"tags.{ending}") == 0
    rows = [json.loads(line) for line in Path("tags.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 2
    for row in rows:
        assert sorted(tag["label"] for tag in row["tags"]) == sorted(SHOWN)
        scores = {tag["label"]: tag["score"] for tag in row["tags"]}
        assert scores["holiday"] == 1
        assert scores["Hund"] == scores["Tier"]
    with open("tags.csv", encoding="utf-8", newline="") as file:
        assert [json.loads(row["tags"]) for row in csv.DictReader(file)] == [row["tags"] for row in rows]
    assert pq.read_table("tags.parquet").to_pylist() == rows


def test_captions_and_keywords(tag):
    assert tag("--sidecar", "txt") == 0
    assert sorted(Path("photos/0000.txt").read_text(encoding="utf-8").strip().split("; ")) == sorted(SHOWN)
    assert tag("--sidecar", "xmp") == 0
    words = words_of(Path("photos/0001.jpg.xmp").read_bytes())
    assert sorted(words["subject"]) == sorted(SHOWN)
    assert sorted(words["hierarchicalSubject"]) == ["Baum, groß", "Tier|Hund", "holiday"]
    assert sorted(words["TagsList"]) == ["Baum, groß", "Tier/Hund", "holiday"]


def test_a_separator_within_a_label(tag, capsys):
    assert tag("--sidecar", "txt", labels=LABELS.replace("; ", ", ")) == 1
    assert "The label 'Baum, groß' holds a comma, which separates labels in a .txt file" in capsys.readouterr().err


def test_drawn_tags(tag, monkeypatch):
    drawn = []
    monkeypatch.setattr("ram_hf.visualize.draw_tags", lambda image, tags: drawn.append(tags) or image)
    assert tag("--overlay", "drawn") == 0
    by_label = {tag["label"]: tag for tag in drawn[0]}
    assert set(by_label) == set(SHOWN)
    assert "heat_map" not in by_label["holiday"]
    assert by_label["Tier"]["box"] == by_label["Hund"]["box"]


def test_drawn_tags_with_a_forced_one_are_a_picture(tag):
    assert tag("--overlay", "drawn") == 0
    assert len(list(Path("drawn").rglob("*.jpg"))) == 2


def test_thresholds(tag, capsys):
    labels = "threshold: 0.99\nlabels: {dog: {threshold: 0.01}, tree: }\n"
    assert tag("--threshold", "0.5", labels=labels) == 0
    shown = capsys.readouterr()
    assert {line.split("\t")[1] for line in shown.out.splitlines()} == {"dog"}
    assert "`--threshold 0.5` changes nothing: 'labels.yaml' says all thresholds." in shown.err
    many = "".join(f"  label {number}: {{threshold: 0}}\n" for number in range(9))
    assert tag(labels=f"labels:\n{many}") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 * 9


def test_what_changes_nothing_is_told(tag, capsys):
    assert tag("--top-k", "9", labels="labels: [dog, tree]\nexclude: [treee]\n") == 0
    assert capsys.readouterr().err.splitlines()[:2] == [
        "labels.yaml:2: 'treee' is no label and no parent: it changes nothing. Did you mean 'tree'?",
        "`--top-k 9` is more than there are labels, 2.",
    ]


CHANGES = {
    "name to show": ("Hund", "Dackel"),
    "parent": ("parents: [animal]", "parents: [animal, pet]"),
    "forced": ("holiday", "work"),
    "excluded": ("exclude: [house]", "exclude: [tree]"),
    "replaced": ("force:", "replace: {animal: creature}\nforce:"),
    "threshold": ("house:\n", "house:\nthreshold: 0.999\n"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "output", [("--output", "tags.jsonl"), ("--output", "tags.csv"), ("--sidecar", "xmp"), ("--overlay", "drawn")]
)
def test_going_on_with_another_vocabulary_is_refused(tag, capsys, change, output):
    assert tag(*output) == 0
    assert tag(*output, "--resume") == 0
    capsys.readouterr()
    assert tag(*output, "--resume", labels=LABELS.replace(*CHANGES[change])) == 1
    assert "with the options" in capsys.readouterr().err


@pytest.mark.parametrize("change", [("hound", "puppy"), ("wall", "sky")])
@pytest.mark.parametrize("output", [("--sidecar", "xmp"), ("--overlay", "drawn")])
def test_other_names_for_the_model_are_noticed_where_files_are_marked(tag, capsys, change, output):
    assert tag(*output) == 0
    assert tag(*output, "--resume", labels=LABELS.replace(*change)) == 1
    assert "with the options" in capsys.readouterr().err


def test_captions_of_another_vocabulary_are_told(tag, capsys):
    assert tag("--sidecar", "txt") == 0
    capsys.readouterr()
    assert tag("--sidecar", "txt", "--resume", labels=LABELS.replace("Hund", "Dackel")) == 0
    assert "0000.txt has words that are not of this run; it stays" in capsys.readouterr().err
