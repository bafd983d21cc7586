"""Weights of the labels' positives: where they come from, and that the loss of a run has them."""

import json
from pathlib import Path

import datasets
import pytest
import torch
from accelerate import Accelerator

from ram_hf.data.label_census import Tally
from ram_hf.data.label_set import LabelSet
from ram_hf.data.sources import DatasetSpec
from ram_hf.training.arguments import RamTrainingArguments
from ram_hf.training.label_weights import balanced_weights, make_label_weights, read_label_weights
from ram_hf.training.loop import train
from tests.training.conftest import parse_arguments, write_config

SEEN = LabelSet(("dog", "red car", "sun"))


def test_balanced_weights_make_every_label_count_alike():
    weights = balanced_weights({"dog": 10, "red car": 1, "sun": 4, "none": 0})
    assert [10 * weights[0], weights[1], 4 * weights[2]] == pytest.approx([5, 5, 5])
    assert weights[3] == 1
    assert balanced_weights({"dog": 0}) == [1]


def test_a_file_of_weights(tmp_path):
    file = tmp_path / "weights.txt"
    file.write_bytes(b"\xef\xbb\xbfsun\t2.5\r\n# a comment\r\n\r\nred car \t 1e-1\r\n")
    assert read_label_weights(file, SEEN) == [1, 0.1, 2.5]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Sun\t2", r"line 1: 'Sun' is no seen label\. Did you mean 'sun'\?"),
        ("sun\t2\nsun\t3", "line 2: the label 'sun' comes twice"),
        ("sun\tmuch", r"line 1: expected a label, a tab and a number, got 'sun\\tmuch'"),
        ("sun", "expected a label, a tab and a number"),
        ("sun 2", "'sun 2' is no seen label"),
        ("sun\t0", "must be finite and above 0, got '0'"),
        ("sun\tnan", "must be finite and above 0, got 'nan'"),
        ("sun\tinf", "must be finite and above 0"),
    ],
)
def test_a_file_of_another_form(tmp_path, line, message):
    (tmp_path / "weights.txt").write_text(line)
    with pytest.raises(ValueError, match=message):
        read_label_weights(tmp_path / "weights.txt", SEEN)
    with pytest.raises(FileNotFoundError, match="may also be 'balanced'"):
        read_label_weights(tmp_path / "balance", SEEN)


def test_what_was_counted_before_is_not_counted_again():
    def count() -> Tally:
        raise AssertionError

    tally = Tally(9, {"dog": 1, "red car": 2, "sun": 3}, [])
    weights, known = make_label_weights("balanced", SEEN, tally, count, Accelerator(cpu=True))
    torch.testing.assert_close(weights, torch.tensor([2, 1, 2 / 3]))
    assert known is tally
    assert make_label_weights(None, SEEN, tally, count, Accelerator(cpu=True)) == (None, tally)
    weights, known = make_label_weights("balanced", SEEN, None, lambda: tally, Accelerator(cpu=True))
    assert weights[1] == 1
    assert known is tally


def test_the_file_of_a_yaml_is_beside_it(options, tmp_path):
    config = write_config({**options, "label_weights": "weights.txt"}, tmp_path / "a.yaml")
    assert parse_arguments(["--config", str(config)]).label_weights == str(tmp_path / "weights.txt")
    config = write_config({**options, "label_weights": "balanced"}, tmp_path / "a.yaml")
    assert parse_arguments(["--config", str(config)]).label_weights == "balanced"


def first_losses(options) -> list[float]:
    train(RamTrainingArguments(**{**options, "max_steps": 2, "resume": False, "augment": False, "shuffle_buffer": 0}))
    lines = Path(options["output_dir"], "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_balanced_run_weighs_by_the_counts_of_its_data(options, corpus_rows, tmp_path, streaming, caplog):
    """The same weights, counted by hand and read from a file, give the same losses; none give others."""
    options["streaming"] = streaming
    counted = {name: sum(name in row for row in corpus_rows["labels"]) for name in options["seen_labels"]}
    mean = sum(counted.values()) / len(counted)
    (tmp_path / "weights.txt").write_text("".join(f"{name}\t{mean / n}\n" for name, n in counted.items()))
    balanced = first_losses({**options, "label_weights": "balanced"})
    assert "counting the labels once" in caplog.text
    assert balanced == pytest.approx(first_losses({**options, "label_weights": str(tmp_path / "weights.txt")}))
    assert balanced != pytest.approx(first_losses(options), rel=1e-3)


def test_counting_finds_labels_that_no_image_has_before_the_first_step(options):
    options = {**options, "seen_labels": ["Red"], "label_weights": "balanced"}
    with pytest.raises(ValueError, match=r"none of 37 images .*did you mean 'red'"):
        train(RamTrainingArguments(**options))
    assert not Path(options["output_dir"], "metrics.jsonl").exists()


def test_other_weights_are_another_run(options):
    train(RamTrainingArguments(**{**options, "max_steps": 1}))
    with pytest.raises(ValueError, match="was trained with `label_weights` None, not 'balanced'"):
        train(RamTrainingArguments(**{**options, "label_weights": "balanced"}))


@pytest.mark.parametrize("streaming", [True, False])
def test_labels_are_read_without_images(tmp_path, streaming):
    rows = {"image": [b"no image"] * 3, "a": [1, 0, -1], "b": [1, 1, 0]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "a.parquet")
    spec = DatasetSpec(tmp_path / "a.parquet", "train", label_columns=["a", "b"], streaming=streaming)
    dataset, reader = spec.open()
    assert list(reader.labels(dataset)) == [["a", "b"], ["b"], []]
