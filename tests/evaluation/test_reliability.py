"""Reliability, Brier score and thresholds against other people's numbers and plain loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, f1_score, precision_score
from torchmetrics.functional.classification import binary_calibration_error

from ram_hf.evaluation.reliability import (
    best_f1_threshold,
    brier_score,
    expected_calibration_error,
    f1_at,
    precision_threshold,
    reliability,
)


@pytest.fixture
def drawn():
    """Probabilities that say too much, and some entries that nobody has looked at."""
    rng = np.random.default_rng(0)
    probabilities = rng.beta(0.3, 1.0, (200, 40)).astype(np.float32)
    targets = (rng.random((200, 40)) < probabilities**1.5).astype(np.int8)
    targets[rng.random((200, 40)) < 0.1] = -1
    return probabilities, targets


def test_bins_hold_the_same_number_and_say_what_is_true(drawn):
    probabilities, targets = drawn
    bins = reliability(probabilities, targets)
    kept = (targets != -1) & (probabilities > 0.05)
    assert len(bins) == 15
    assert sum(each.num_entries for each in bins) == kept.sum()
    assert max(each.num_entries for each in bins) - min(each.num_entries for each in bins) <= 1
    pairs = sorted(zip(probabilities[kept].tolist(), targets[kept].tolist(), strict=True), key=lambda pair: pair[0])
    total, start = 0.0, 0
    for each in bins:
        part = pairs[start : start + each.num_entries]
        start += each.num_entries
        said, true = (np.mean(column) for column in zip(*part, strict=True))
        assert (each.mean_probability, each.share_present) == pytest.approx((said, true))
        assert (each.lowest, each.highest) == (part[0][0], part[-1][0])
        total += each.num_entries / len(pairs) * abs(said - true)
    assert expected_calibration_error(bins) == pytest.approx(total)
    assert total > 0.05


def test_as_torchmetrics_where_bins_of_both_kinds_agree():
    """torchmetrics' bins are as wide as each other; of numbers spread evenly they also hold as many."""
    probabilities = (torch.arange(1500) + 0.5) / 1500
    targets = (torch.rand(1500, generator=torch.Generator().manual_seed(0)) < probabilities**2).int()
    expected = binary_calibration_error(probabilities.float(), targets, n_bins=15, norm="l1")
    found = expected_calibration_error(reliability(probabilities.numpy(), targets.numpy(), above=0.0))
    assert found == pytest.approx(expected.item(), abs=1e-5)


def test_brier_and_f1_as_in_sklearn(drawn):
    probabilities, targets = drawn
    known = targets != -1
    assert brier_score(*drawn) == pytest.approx(brier_score_loss(targets[known], probabilities[known]))
    for threshold in (0.1, 0.5, 0.99):
        expected = f1_score(targets[known], probabilities[known] >= threshold)
        assert f1_at(*drawn, threshold) == pytest.approx(expected)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from([-1, 0, 1])), min_size=1, max_size=60))
def test_no_other_threshold_is_better(pairs):
    probabilities, targets = np.array([p for p, _ in pairs]) / 20, np.array([t for _, t in pairs])
    if not (targets == 1).any():
        with pytest.raises(ValueError, match="Not one label is present"):
            best_f1_threshold(probabilities, targets)
        return
    best = best_f1_threshold(probabilities, targets)
    values = {threshold: f1_at(probabilities, targets, threshold) for threshold in np.arange(0, 21) / 20}
    assert f1_at(probabilities, targets, best) == max(values.values())
    assert best >= max(t for t, value in values.items() if value == max(values.values())) - 1 / 20 - 1e-9


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9])
def test_the_lowest_threshold_of_a_precision(drawn, share):
    probabilities, targets = drawn
    probabilities, targets = probabilities[targets != -1], targets[targets != -1]
    found = precision_threshold(*drawn, share)
    assert precision_score(targets, probabilities >= found) >= share
    assert all(targets[probabilities >= each].mean() < share for each in probabilities[probabilities < found])


def test_a_precision_that_is_never_reached_has_no_threshold():
    probabilities = np.linspace(0, 1, 100)
    assert precision_threshold(probabilities, np.tile([0, 1], 50), 0.9) is None
    few = np.where(np.arange(100) >= 95, 1, 0)  # five of five: chance
    assert precision_threshold(probabilities, few, 0.95) is None


def test_nothing_said_is_no_error():
    bins = reliability([0.01, 0.02], [0, 1])
    assert (bins, expected_calibration_error(bins)) == ([], None)


@pytest.mark.parametrize(
    ("probabilities", "targets", "message"),
    [
        ([0.5, 1.5], [0, 1], "between 0 and 1, got 1.5"),
        ([0.5, float("nan")], [0, 1], "between 0 and 1, got nan"),
        ([0.5], [2], "got 2"),
        ([0.5, 0.5], [1], "2 `probabilities` and 1 `targets`"),
        ([0.5], [-1], "Not one of the `targets` is known"),
    ],
)
def test_nonsense_is_refused(probabilities, targets, message):
    with pytest.raises(ValueError, match=message):
        brier_score(probabilities, targets)
