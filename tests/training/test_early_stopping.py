"""Runs that stop before their last step, as the metric no longer rises."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ram_hf import RamModel
from ram_hf.training.arguments import RamTrainingArguments
from ram_hf.training.checkpoints import find_newest, load_checkpoint
from ram_hf.training.loop import train


def rows(options) -> list[dict]:
    return [json.loads(line) for line in Path(options["output_dir"], "metrics.jsonl").read_text().splitlines()]


def judged_steps(options) -> list[int]:
    return [row["step"] for row in rows(options) if "zsl/mAP" in row]


@pytest.fixture
def still(options) -> dict:
    """Nothing moves, so no evaluation is better than the first."""
    rates = dict.fromkeys(("adapter_learning_rate", "temperature_learning_rate", "token_learning_rate"), 0.0)
    changes = {"warmup_steps": 0, "eval_split": "train", "eval_steps": 2, "early_stopping_patience": 2}
    return {**options, **rates, **changes, "max_steps": 20, "unseen_labels": ["blue", "green"], "seen_labels": ["red"]}


@pytest.fixture
def metrics(monkeypatch):
    """Puts numbers in the place of the mAP that each evaluation in turn finds; with the steps that were judged."""

    def set_to(*values: float) -> None:
        waiting = iter(values)
        monkeypatch.setattr(
            "ram_hf.evaluation.report.EvaluationReport.metrics", lambda self: {"zsl/mAP": next(waiting)}, raising=True
        )

    return set_to


def found(options) -> dict:
    return load_checkpoint(find_newest(Path(options["output_dir"], "checkpoints"))).facts


def doubled(*values: float) -> list[float]:
    """Each evaluation asks twice: to compare, and to log."""
    return [value for value in values for _ in range(2)]


@pytest.mark.parametrize(
    ("values", "threshold", "stops_at", "best"),
    [
        ((0.5, 0.5, 0.5, 0.9), 0.0, 6, 0.5),
        ((0.5, 0.4, 0.6, 0.5, 0.55, 0.9), 0.0, 10, 0.6),
        ((0.5, 0.505, 0.509, 0.9), 0.01, 6, 0.509),  # the best is kept, however small its rise
        ((0.5, 0.505, 0.52, 0.521, 0.522, 0.9), 0.01, 10, 0.522),
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), 0.0, 20, 1.0),
    ],
)
def test_stops_after_as_many_evaluations_without_a_rise(still, metrics, caplog, values, threshold, stops_at, best):
    metrics(*doubled(*values))
    train(RamTrainingArguments(**{**still, "early_stopping_threshold": threshold}))
    assert judged_steps(still) == list(range(2, stops_at + 1, 2))
    assert ("Stopping at step" in caplog.text) == (stops_at < 20)
    if stops_at < 20:
        assert f"Stopping at step {stops_at}: in 2 evaluations zsl/mAP has not risen" in caplog.text
        assert found(still)["best"] == best


def test_a_stopped_run_leaves_its_model_and_its_best_and_is_done(still):
    still["max_steps"] = 30
    report = train(RamTrainingArguments(**still))
    folder = Path(still["output_dir"])
    assert judged_steps(still) == [2, 4, 6]
    assert RamModel.from_pretrained(folder / "best").config.ladder_tokens == 8
    weights, before = load_file(folder / "model.safetensors"), rows(still)
    again = train(RamTrainingArguments(**still))  # started again it has nothing to do
    assert again.to_dict() == report.to_dict()
    assert rows(still) == before
    assert all(torch.equal(value, weights[name]) for name, value in load_file(folder / "model.safetensors").items())
    train(RamTrainingArguments(**{**still, "early_stopping_patience": 4}))  # with more patience it goes on
    assert judged_steps(still) == [2, 4, 6, 8, 10]


def test_a_run_that_goes_on_counts_on(still):
    train(RamTrainingArguments(**{**still, "max_steps": 5}))  # judged at 2, 4 and, as the last, at 5
    assert found(still)["num_without_rise"] == 1
    train(RamTrainingArguments(**still))
    assert judged_steps(still)[-1] == 6


def test_an_undefined_metric_stops_nothing(still):
    train(RamTrainingArguments(**{**still, "unseen_labels": ["zebra", "horse"], "max_steps": 8}))
    assert [row["step"] for row in rows(still) if "gzsl/mAP" in row] == [2, 4, 6, 8]
