"""The fit of a calibration: against scikit-learn, on probabilities that are known, and what it refuses."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ram_hf.evaluation import calibration
from ram_hf.evaluation.calibration import FoldEvidence, fit_calibration, fit_logistic
from ram_hf.evaluation.reliability import best_f1_threshold, f1_at

WEIGHTS = np.array([1.5, 0.6, -0.8, 0.5, 0.3, -0.4, 0.2, 0.1])
BIAS = -16.5  # so that the features' middle has a probability of some 15 %


def true_probability(fold: FoldEvidence) -> np.ndarray:
    features = calibration._features(fold, slice(None)).astype(np.float64)
    return 1 / (1 + np.exp(-(features @ WEIGHTS + BIAS)))


def drawn_fold(seed: int, *, images: int = 400, labels: int = 12, unknown: float = 0.0) -> FoldEvidence:
    """Targets drawn by known weights, on features of very different sizes."""
    rng = np.random.default_rng(seed)
    names = [f"{seed}-{number}" for number in range(labels)]
    logits = [rng.normal(20, 2, (images, labels)), rng.normal(-5, 3, (images, labels))]
    statistics = rng.normal([25, 19, 2, 4, -5, 3], [1, 1, 0.3, 2, 2, 0.5], (images, 6))
    numbers = (each.astype(np.float32) for each in (*logits, statistics))
    fold = FoldEvidence(names, *numbers, np.zeros((images, labels), dtype=np.int8))
    draw = rng.random((images, labels))
    targets = (draw < true_probability(fold)).astype(np.int8)
    targets[rng.random((images, labels)) < unknown] = -1
    return fold._replace(targets=targets)


def test_the_fit_is_scikit_learns(monkeypatch):
    folds = [drawn_fold(0, unknown=0.2), drawn_fold(1, labels=7)]
    features = np.concatenate([calibration._features(fold, slice(None)).reshape(-1, 8) for fold in folds])
    targets = np.concatenate([fold.targets.ravel() for fold in folds])
    features, targets = features[targets != -1].astype(np.float64), targets[targets != -1]
    mean, deviation = features.mean(0), features.std(0)
    expected = LogisticRegression(C=1e3, tol=1e-10, max_iter=10_000).fit((features - mean) / deviation, targets)
    weights, bias = fit_logistic(folds)
    np.testing.assert_allclose(weights * deviation, expected.coef_[0], rtol=1e-4, atol=1e-5)
    assert bias + weights @ mean == pytest.approx(expected.intercept_[0], rel=1e-4)
    monkeypatch.setattr(calibration, "_ENTRIES_AT_ONCE", 100)  # in parts it is the same
    np.testing.assert_allclose(fit_logistic(folds)[0], weights, rtol=1e-6)


def test_finds_the_weights_that_the_data_were_drawn_by():
    weights, bias = fit_logistic([drawn_fold(seed, images=3000) for seed in range(3)])
    deviation = np.array([2, 3, 1, 1, 0.3, 2, 2, 0.5])
    assert abs((weights - WEIGHTS) * deviation).max() < 0.15
    assert abs(bias - BIAS) < 4  # extrapolated: far from the middle of the features


def test_a_statistic_that_never_changes_and_labels_told_apart_without_error():
    fold = drawn_fold(0)
    fold.statistics[:, 2] = 0.0
    targets = (fold.global_logits > 22).astype(np.int8)
    weights, bias = fit_logistic([fold._replace(targets=targets)])
    assert np.isfinite([*weights, bias]).all()
    right = calibration._probabilities(fold, weights, bias) > 0.5
    assert (right == targets.astype(bool)).mean() > 0.995


def test_what_the_model_makes_of_the_fit():
    """The numbers of the report are those that the model's own arithmetic gives, on labels it did not fit."""
    folds = [drawn_fold(seed, images=2000) for seed in range(4)]
    fit = fit_calibration(folds)
    fresh = drawn_fold(9, images=2000)
    probabilities = fit.calibration.probabilities(
        *(torch.from_numpy(each) for each in (fresh.global_logits, fresh.local_logits, fresh.statistics))
    )
    assert abs(probabilities.numpy() - true_probability(fresh)).max() < 0.05
    assert fit.ece < 0.02
    assert fit.num_images == 2000
    best = f1_at(probabilities, fresh.targets, best_f1_threshold(probabilities, fresh.targets))
    assert f1_at(probabilities, fresh.targets, fit.calibration.threshold) > best - 0.01
    assert fit.f1 == pytest.approx(best, abs=0.03)
    present = np.mean([fold.targets.mean() for fold in folds])
    assert fit.calibration.num_labels == 48
    assert fit.calibration.labels_per_image == pytest.approx(48 * present)


def test_unknown_entries_count_for_nothing():
    folds = [drawn_fold(seed, unknown=0.5) for seed in range(3)]
    fit = fit_calibration(folds)
    wild = [fold._replace(global_logits=np.where(fold.targets == -1, 1e4, fold.global_logits)) for fold in folds]
    assert fit_calibration(wild).calibration.bias == pytest.approx(fit.calibration.bias)
    assert fit.num_known == sum((fold.targets != -1).sum() for fold in folds)
    share = sum((fold.targets == 1).sum() for fold in folds) / fit.num_known
    assert fit.calibration.labels_per_image == pytest.approx(36 * share)


def test_labels_with_examples_enough_have_a_threshold_of_their_own():
    folds = [drawn_fold(seed, images=1000) for seed in range(4)]
    folds[0].targets[:] = 0
    weakest = np.argsort(folds[0].global_logits, axis=0)
    for column, count in enumerate((199, 200, 600)):  # those with the least evidence: nearly all are to be reported
        folds[0].targets[weakest[:count, column], column] = 1
    found = fit_calibration(folds).calibration
    own = found.label_thresholds
    assert not {"0-0", "0-3"} & own.keys()
    assert 0 < own["0-2"] < own["0-1"] < found.threshold  # the more there are, the less the common one counts


def test_a_precision_that_is_never_reached_is_left_out():
    folds = [drawn_fold(seed) for seed in range(2)]
    rng = np.random.default_rng(0)
    folds = [fold._replace(targets=rng.integers(0, 2, fold.targets.shape).astype(np.int8)) for fold in folds]
    assert fit_calibration(folds).calibration.precision_thresholds == {}


def emptied(fold: FoldEvidence) -> FoldEvidence:
    return fold._replace(targets=np.zeros_like(fold.targets))


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([drawn_fold(0, images=3, labels=4), drawn_fold(1, images=3, labels=4)], r"have \d+ labels in all.*100"),
        ([drawn_fold(0), emptied(drawn_fold(1))], r"those of one \('1-0', '1-1', '1-2', ...\) are in none of 400"),
        ([drawn_fold(0)], r"in 1 turn"),
        ([fold._replace(targets=np.ones_like(fold.targets)) for fold in (drawn_fold(0), drawn_fold(1))], "no image"),
    ],
)
def test_too_little_is_refused(folds, message):
    with pytest.raises(ValueError, match=message):
        fit_calibration(folds)
