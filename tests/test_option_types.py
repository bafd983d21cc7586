"""What options take and refuse; and each command's options, which share these."""

import argparse
import os
import sys

import pytest

from ram_hf import cli
from ram_hf.option_types import (
    path,
    path_or_id,
    refuse_files_among_labels,
    share,
    share_range,
    whole_number,
    whole_number_range,
)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (whole_number(1), "1", 1),
        (whole_number(0), "0", 0),
        (share, "0", 0),
        (share, "1", 1),
        (share, "1e-3", 0.001),
        (whole_number_range, "3", (3, 3)),
        (whole_number_range, "1-6", (1, 6)),
        (share_range, "0.2-0.5", (0.2, 0.5)),
        (share_range, "1", (1, 1)),
        (path_or_id, "openai/clip-vit-base-patch16", "openai/clip-vit-base-patch16"),
    ],
)
def test_what_is_meant(kind, text, value):
    assert kind(text) == value


@pytest.mark.parametrize(
    ("kind", "texts", "message"),
    [
        (whole_number(1), ("0", "-3", "2.5", "many", "", "nan"), "must be a whole number of at least 1, got "),
        (whole_number(0), ("-1", "1e3"), "must be a whole number of at least 0, got "),
        (share, ("nan", "20", "-1", "inf", "0,2", "20%", ""), "must be a number from 0 to 1, got "),
        (whole_number_range, ("6-1", "-3", "a", "1.5-2"), "as in 1-6, the smaller first; got "),
        (share_range, ("0.5-0.2", "nan", "0", "0.2-20", "x-y"), "as in 0.2-0.5, the smaller first; got "),
        (path, ("", " "), "must name something, got "),
        (path_or_id, ("",), "must name something, got "),
    ],
)
def test_what_nobody_means(kind, texts, message):
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError) as raised:
            kind(text)
        assert f"{message}{text!r}" in str(raised.value)


def test_the_home_that_the_shell_did_not_put_in(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert path("~/x/tags.csv") == tmp_path / "x" / "tags.csv"
    assert path_or_id("~/model") == os.path.join(str(tmp_path), "model")
    assert str(path("a~/b")) == os.path.join("a~", "b")


def test_files_among_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.list").touch()
    (tmp_path / "dog").mkdir()  # a folder of dogs is no list of labels
    (tmp_path / "cat").touch()
    refuse_files_among_labels(["dog", "cat", "St. Bernard", "3.5 mm jack", "a/b"], "--labels-file {}")
    for name in ("labels.txt", "gone/LABELS.TXT", "words.list", "./words.list", "-", "labels.csv"):
        with pytest.raises(ValueError, match=r"is the name of a file\. `--labels-file ") as raised:
            refuse_files_among_labels(["dog", name], "--labels-file {}")
        assert f"`--labels-file {name}`" in str(raised.value)


TAG = ["tag", "a.jpg", "--labels", "a"]
TRAIN = ["train", "--model", "a/b", "--dataset", "c", "--output_dir", "d", "--label_column", "labels"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([*TAG, "--threshold", "nan"], "Argument --threshold: must be a number from 0 to 1, got 'nan'."),
        ([*TAG, "--threshold", "20"], "Argument --threshold: must be a number from 0 to 1, got '20'."),
        ([*TAG, "--threshold", "-1"], "Argument --threshold: must be a number from 0 to 1, got '-1'."),
        ([*TAG, "--top-k", "0"], "Argument --top-k: must be a whole number of at least 1, got '0'."),
        ([*TAG, "--top-k=-3"], "Argument --top-k: must be a whole number of at least 1, got '-3'."),
        ([*TAG, "--workers", "-1"], "Argument --workers: must be a whole number of at least 0, got '-1'."),
        ([*TAG, "--output", ""], "Argument --output: must name something, got ''."),
        ([*TAG, "--overlay="], "Argument --overlay: must name something, got ''."),
        ([*TAG, "--labels", "b"], "--labels is given twice."),
        ([*TAG, "--top-k", "1", "--top-k=2"], "--top-k is given twice."),
        (["evaluate", "m", "d", "--batch-size", "0"], "Argument --batch-size: must be a whole number of at least 1"),
        (["evaluate", "m", "d", "--max-images", "-5"], "Argument --max-images: must be a whole number of at least 1"),
        (["evaluate", "m", "d", "--seen", ""], "Argument --seen: must name something"),
        (["evaluate", "m", "d", "--seen", "a", "--seen", "b"], "--seen is given twice."),
        (["prepare", "table", "a", "b", "c", "--shard-size", "0"], "Argument --shard-size: must be a whole number"),
        (["prepare", "table", "a", "b", "c", "--num-workers", "0"], "Argument --num-workers: must be a whole number"),
        (["prepare", "table", "a", "b", "c", "--shard", "5"], "There is no option '--shard'. Did you mean"),
        (["prepare", "rap", "a", "b", "c", "--partition", "-1"], "Argument --partition: must be a whole number"),
        (["scenes", "a", "b", "--images", "0"], "Argument --images: must be a whole number of at least 1, got '0'."),
        (["scenes", "a", "b", "--images", "2", "--objects", "6-1"], "Argument --objects: must be a whole number"),
        (
            ["scenes", "a", "b", "--images", "2", "--texture-share", "nan"],
            "Argument --texture-share: must be a number",
        ),
        (["convert", "", "out"], "Argument CHECKPOINT: must name something"),
        (["pretrain", "clip-on-photographs", "--config", "c", "--total_steps", "-1"], "Argument --total_steps: must"),
        ([*TRAIN, "--max_steps", "5", "--max_steps", "6"], "--max_steps is given twice."),
    ],
)
def test_odd_values_are_told_in_a_line(argv, message, capsys):
    assert cli.main(argv) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"ram-hf: error: {message}")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([*TAG, "--sidecar-name", "stem"], "`--sidecar-name` says how .xmp files are called: it needs"),
        ([*TAG, "--sidecar", "txt", "--sidecar-name", "stem"], "`--sidecar-name` says how .xmp files are called"),
        ([*TAG, "--resume"], "`--resume` needs something to go on with"),
        (["tag", "-", "--labels-file", "-"], "Standard input can hold the names of pictures or the labels, not both"),
        (["tag", "a.jpg", "--labels", "labels.txt"], "The label 'labels.txt' is the name of a file. `--labels-file"),
        (
            ["evaluate", "m", "d", "--label-columns", "a", "b", "--label-separator", ","],
            "`--label-separator` is for one column of strings: it has no effect with `--label-columns`.",
        ),
        (
            ["scenes", "a", "b", "--images", "2", "--stamps", "only", "--styles", "c"],
            "`--styles` are of drawings: they have no effect with `--stamps only`.",
        ),
        (
            ["scenes", "a", "b", "--images", "2", "--backgrounds", "none", "--texture-share", "0.5"],
            "`--texture-share` has no effect with `--backgrounds none`",
        ),
        (
            ["prepare", "table", "a.jsonl", "b", "c", "--separator", ","],
            "`--separator` is for the cells of a .csv file, got 'a.jsonl'.",
        ),
        (
            [*TRAIN, "--max_steps", "5", "--seen_labels", "a.txt", "b.txt"],
            "The label 'a.txt' is the name of a file. `--seen_labels a.txt` reads its labels.",
        ),
        (
            [*TRAIN, "--max_steps", "5", "--seen_labels", "a", "b", "--token_learning_rate", "inf"],
            "must be finite, got inf",
        ),
        (
            [*TRAIN[:-2], "--label_columns", "a", "b", "--label_separator", ",", "--max_steps", "5"],
            "`label_separator` is for `label_column`: it has no effect with `label_columns`.",
        ),
    ],
)
def test_options_that_do_not_go_together_are_told_before_anything_is_done(
    argv, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    if "--label_columns" in argv:
        argv = [*argv, "--seen_labels", "a", "b"]
    assert cli.main(argv) == 1
    told = capsys.readouterr().err
    assert told.startswith("ram-hf: error: ")
    assert message in told
    assert told.count("\n") == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("argv", "room", "names"),
    [
        (
            ["tag", "~/p", "--labels", "a", "--output=~/x.csv", "--overlay=~/o", "--model=~/m"],
            "tagging",
            "output overlay model",
        ),
        (["evaluate", "~/m", "~/d", "--json=~/r.json", "--seen=~/s.txt"], "evaluation", "model dataset json seen"),
        (
            ["prepare", "table", "~/a.csv", "~/i", "~/o", "--labels=~/l.txt"],
            "data",
            "annotations images output_dir labels",
        ),
        (["scenes", "~/s", "~/o", "--images", "1"], "scenes", "source output_dir"),
        (["convert", "~/c.pth", "~/o", "--tokenizer=~/t"], "conversion", "checkpoint out_dir tokenizer"),
        (["pretrain", "bundle", "~/r", "~/f"], "pretraining", "trained folder"),
        (["train", "--config=~/c.yaml"], "training", "config"),
    ],
)
def test_a_tilde_is_the_home_in_every_command(argv, room, names, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    args = cli.make_parser(argv[0]).parse_args(argv[1:])
    assert f"ram_hf.{room}.command" in sys.modules
    for name in names.split():
        assert str(getattr(args, name)).startswith(str(tmp_path)), name
