"""What `make` would run: the stages of the two models, each in words that `ram-hf` takes."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from ram_hf.cli import make_parser
from ram_hf.model.bundled import DEFAULT_MODEL

ROOT = Path(__file__).parents[1]
STAGES = ["photographs", "teacher", "clip-on-photographs", "multi-labels", "train", "calibrate", "bundle"]


def dry_run(*words: str) -> subprocess.CompletedProcess[str]:
    """`make --dry-run` where nothing is done yet; what a `make` that runs the tests was told is not for it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--dry-run", "VENV=nowhere", "RUN=nowhere/run", "PHOTO_RUN=nowhere/photo", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def commands(*words: str) -> list[list[str]]:
    done = dry_run(*words)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("nowhere/bin/ram-hf ")]


def stage(words: list[str]) -> str:
    return words[1] if words[0] == "pretrain" else words[0]


@pytest.mark.parametrize("sources", ["all", "open"])
def test_ram_photo_goes_from_photographs_to_a_bundle(sources):
    found = commands("ram-photo", f"SOURCES={sources}", "PHOTOS=photos")
    assert [stage(words) for words in found] == STAGES
    by_stage = {stage(words): words for words in found}
    opened = sources == "open"
    assert by_stage["bundle"][-1] == ("nowhere/photo/bundle" if opened else f"ram_hf/bundled/{DEFAULT_MODEL}")
    assert by_stage["multi-labels"][2] == ("photos/train-open.parquet" if opened else "photos/train-coco.parquet")
    if opened:
        assert by_stage["photographs"][2:-2] == ["photos/train-open.parquet"]


def test_ram_tiny_is_written_where_it_lies():
    assert commands("ram-tiny")[-1] == ["pretrain", "bundle", "nowhere/run/ram", "examples/ram-tiny"]


@pytest.mark.parametrize("words", [["demo"], ["ram-tiny"], ["ram-photo"], ["ram-photo", "SOURCES=open"]])
def test_commands_are_understood(words, tmp_path):
    for name in ("coco", "open"):
        (tmp_path / f"train-{name}.parquet").touch()
    for name, *rest in commands(*words, f"PHOTOS={tmp_path}"):
        config = getattr(make_parser(name).parse_args(rest), "config", None)
        assert config is None or (ROOT / config).is_file()


def test_other_sources_are_refused():
    done = dry_run("ram-photo", "SOURCES=most")
    assert done.returncode != 0
    assert "SOURCES is 'all' or 'open', not 'most'" in done.stderr
