import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score
from torchmetrics.functional.classification import multilabel_average_precision, multilabel_f1_score

from ram_hf.evaluation import ranking
from ram_hf.evaluation.ranking import (
    average_precision,
    check_scores_and_targets,
    mean_average_precision,
    top_k_mask,
    top_k_metrics,
)
from ram_hf.evaluation.report import EvaluationReport, evaluate_scores


@st.composite
def problems(draw, *, targets=(0, 1)):
    """Scores and targets; scores on a coarse grid have many ties."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 7)))
    coarse = st.integers(-3, 3).map(float)
    fine = st.floats(-10, 10, width=32)
    scores = draw(hnp.arrays(np.float32, shape, elements=draw(st.sampled_from([coarse, fine]))))
    return scores, draw(hnp.arrays(np.int64, shape, elements=st.sampled_from(targets)))


# --- average precision -----------------------------------------------------------------------------------------------


def test_average_precision_by_hand():
    # Ranks of the positives: 1 and 3 of 4 -> (1/1 + 2/3) / 2; 2 of 4 -> 1/2.
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.9], [0.1, 0.3]])
    targets = np.array([[1, 0], [0, 0], [1, 0], [0, 1]])
    np.testing.assert_allclose(average_precision(scores, targets), [5 / 6, 1 / 2], rtol=1e-15)


def test_equal_scores_are_taken_together():
    # All equal: precision is the share of positives, whatever the order of the images.
    scores = np.full((4, 1), 0.5)
    for positive in range(4):
        targets = np.zeros((4, 1))
        targets[positive] = 1
        assert average_precision(scores, targets)[0] == 0.25


@given(problems())
@settings(max_examples=150, deadline=None)
def test_average_precision_is_scikit_learns(problem):
    scores, targets = problem
    found = average_precision(scores, targets)
    for label in range(scores.shape[1]):
        if targets[:, label].any():
            np.testing.assert_allclose(
                found[label], average_precision_score(targets[:, label], scores[:, label]), rtol=1e-12
            )
        else:
            assert np.isnan(found[label])


def test_mean_average_precision_is_that_of_scikit_learn_and_torchmetrics():
    generator = np.random.default_rng(0)
    scores = generator.random((200, 30)).round(2).astype(np.float32)
    targets = (generator.random((200, 30)) < 0.1).astype(np.int64)
    result = mean_average_precision(scores, targets)
    assert result.left_out == []
    np.testing.assert_allclose(result.mean, average_precision_score(targets, scores, average="macro"), rtol=1e-12)
    theirs = multilabel_average_precision(torch.from_numpy(scores), torch.from_numpy(targets), num_labels=30)
    np.testing.assert_allclose(result.mean, float(theirs), rtol=1e-5)


def test_labels_without_positives_are_left_out_and_reported():
    result = mean_average_precision([[0.1, 0.2, 0.3], [0.2, 0.1, 0.3]], [[1, 0, 1], [0, 0, -1]])
    assert result.left_out == [1]
    assert result.mean == (0.5 + 1) / 2
    assert math.isnan(result.per_label[1])
    assert math.isnan(mean_average_precision([[0.1]], [[0]]).mean)


@given(problems(targets=(-1, 0, 1)))
@settings(max_examples=60, deadline=None)
def test_unknown_targets_are_as_images_that_are_not_there(problem):
    scores, targets = problem
    found = average_precision(scores, targets)
    for label in range(scores.shape[1]):
        known = targets[:, label] != -1
        if known.any():
            alone = average_precision(scores[known, label : label + 1], targets[known, label : label + 1])
            np.testing.assert_allclose(found[label], alone[0], rtol=1e-12)
        else:
            assert np.isnan(found[label])


def test_average_precision_in_pieces(monkeypatch):
    generator = np.random.default_rng(0)
    scores, targets = generator.random((20, 7)), generator.random((20, 7)) < 0.3
    whole = average_precision(scores, targets)
    sizes = []
    of_rows = ranking._average_precision_of_rows
    monkeypatch.setattr(
        ranking, "_average_precision_of_rows", lambda *rows: (sizes.append(len(rows[0])), of_rows(*rows))[1]
    )
    for entries, expected in ((40, [2, 2, 2, 1]), (39, [1] * 7), (1, [1] * 7)):
        sizes.clear()
        monkeypatch.setattr(ranking, "_ENTRIES_AT_ONCE", entries)
        np.testing.assert_array_equal(average_precision(scores, targets), whole)
        assert sizes == expected


@pytest.mark.filterwarnings("error")
def test_a_label_without_positives_divides_nothing_by_zero():
    assert np.isnan(average_precision([[0.1, 0.2]], [[0, 1]])[0])
    assert math.isnan(mean_average_precision([[0.1, 0.2]], [[0, 0]]).mean)


def test_scores_keep_their_precision_and_integers_become_floats():
    for given_dtype, kept in ((np.float16, np.float16), (np.float32, np.float32), (np.int64, np.float64)):
        scores, targets = check_scores_and_targets(np.array([[1, 2]], dtype=given_dtype), [[True, False]])
        assert (scores.dtype, targets.dtype) == (kept, np.int8)


@given(problems(targets=(-1, 0, 1)), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_images_changes_nothing(problem, random):
    """Ties are common on a coarse grid: a sort that orders them by place must not show."""
    scores, targets = problem
    order = random.sample(range(len(scores)), len(scores))
    np.testing.assert_allclose(
        average_precision(scores[order], targets[order]), average_precision(scores, targets), rtol=1e-12
    )


# --- top k -----------------------------------------------------------------------------------------------------------


def test_top_k_takes_the_lower_index_of_equal_scores():
    mask = top_k_mask([[0.5, 0.7, 0.5, 0.5], [0, 0, 0, 0]], k=2)
    np.testing.assert_array_equal(mask, [[True, True, False, False], [True, True, False, False]])


@given(problems())
@settings(max_examples=60, deadline=None)
def test_top_k_mask_is_the_head_of_a_stable_sort(problem):
    scores, _ = problem
    for k in range(1, scores.shape[1] + 1):
        expected = np.zeros(scores.shape, dtype=bool)
        np.put_along_axis(expected, np.argsort(-scores, axis=1, kind="stable")[:, :k], True, axis=1)
        np.testing.assert_array_equal(top_k_mask(scores, k=k), expected)


def test_top_k_metrics_by_hand():
    # Predicted: image 0 labels 0, 1; image 1 labels 0, 2. Label 2 has no positive, label 3 is never predicted.
    scores = [[0.9, 0.8, 0.1, 0.0], [0.9, 0.1, 0.8, 0.0]]
    targets = [[1, 1, 0, 1], [0, 1, 0, 1]]
    metrics = top_k_metrics(scores, targets, k=2)
    assert metrics.overall_precision == 2 / 4
    assert metrics.overall_recall == 2 / 5
    assert metrics.overall_f1 == pytest.approx(2 * 0.5 * 0.4 / 0.9)
    assert metrics.class_precision == pytest.approx((1 / 2 + 1 / 1 + 0) / 3)
    assert metrics.class_recall == pytest.approx((1 / 1 + 1 / 2 + 0) / 3)
    assert metrics.class_f1 == pytest.approx(0.5)
    assert list(metrics.named(2)) == ["OP@2", "OR@2", "OF1@2", "CP@2", "CR@2", "CF1@2"]


@given(problems(), st.data())
@settings(max_examples=100, deadline=None)
def test_top_k_metrics_are_scikit_learns_on_the_binarised_top_k(problem, data):
    scores, targets = problem
    k = data.draw(st.integers(1, scores.shape[1]))
    metrics, predicted, held = top_k_metrics(scores, targets, k=k), top_k_mask(scores, k=k), targets.any(axis=0)
    overall = [
        score(targets.ravel(), predicted.ravel(), zero_division=0)
        for score in (precision_score, recall_score, f1_score)
    ]
    np.testing.assert_allclose(metrics[:3], overall, rtol=1e-12)
    for ours, score in ((metrics.class_precision, precision_score), (metrics.class_recall, recall_score)):
        per_class = [score(targets[:, label], predicted[:, label], zero_division=0) for label in np.flatnonzero(held)]
        np.testing.assert_allclose(ours, np.mean(per_class) if per_class else 0.0, rtol=1e-12)


def test_overall_f1_is_torchmetrics_micro_f1():
    generator = np.random.default_rng(1)
    scores, targets = generator.random((100, 20)), (generator.random((100, 20)) < 0.2).astype(np.int64)
    predicted = torch.from_numpy(top_k_mask(scores, k=5).astype(np.int64))
    theirs = multilabel_f1_score(predicted, torch.from_numpy(targets), num_labels=20, average="micro")
    np.testing.assert_allclose(top_k_metrics(scores, targets, k=5).overall_f1, float(theirs), rtol=1e-6)


def test_unknown_targets_keep_their_place_but_are_not_counted():
    # Of the two predicted labels one is unknown: the third label does not move up.
    metrics = top_k_metrics([[0.9, 0.8, 0.7]], [[-1, 1, 1]], k=2)
    assert (metrics.overall_precision, metrics.overall_recall) == (1.0, 0.5)


def test_images_without_positives_count():
    metrics = top_k_metrics([[0.9, 0.1], [0.9, 0.1]], [[1, 0], [0, 0]], k=1)
    assert (metrics.overall_precision, metrics.overall_recall) == (0.5, 1.0)


def test_without_any_positive_everything_is_zero():
    assert top_k_metrics([[0.1, 0.2]], [[0, 0]], k=1) == (0, 0, 0, 0, 0, 0)


# --- the public border -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", [average_precision, lambda scores, targets: top_k_metrics(scores, targets, k=1)])
@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        ([[0.1, float("nan")]], [[0, 1]], "1 NaN or infinite values, the first one .nan. for image 0 and label 1"),
        ([[0.1, float("inf")]], [[0, 1]], "NaN or infinite"),
        ([[0.1, 0.2, 0.3], [0.4, float("nan"), -float("inf")]], [[0] * 3] * 2, "2 NaN .*nan. for image 1 and label 1"),
        ([0.1, 0.2], [0, 1], r"shape \(images, labels\) .* got \(2,\)"),
        (np.zeros((0, 3)), np.zeros((0, 3)), r"at least one of each, got \(0, 3\)"),
        ([[0.1, 0.2]], [[0], [1]], r"the shape of `scores`, \(1, 2\), got \(2, 1\)"),
        ([[0.1, 0.2]], [[0, 2]], "must be 1 .* got 2"),
        ([[0.1, 0.2]], [[0, 0.5]], "must be 1 .* got 0.5"),
    ],
)
def test_what_cannot_be_ranked_is_refused(measure, scores, targets, message):
    with pytest.raises(ValueError, match=message):
        measure(scores, targets)


@pytest.mark.parametrize("k", [0, 3])
def test_k_out_of_range_is_refused(k):
    with pytest.raises(ValueError, match=rf"between 1 and the number of labels \(2\), got {k}"):
        top_k_metrics([[0.1, 0.2]], [[0, 1]], k=k)


def test_inputs_are_left_alone():
    scores, targets = np.array([[0.1, 0.2]]), np.array([[0, 1]])
    top_k_metrics(scores, targets, k=2)
    mean_average_precision(scores, targets)
    np.testing.assert_array_equal(scores, [[0.1, 0.2]])


def test_1600_images_and_1000_labels_take_less_than_two_seconds():
    generator = np.random.default_rng(0)
    scores, targets = generator.random((1600, 1000), dtype=np.float32), generator.random((1600, 1000)) < 0.02
    start = time.perf_counter()
    mean_average_precision(scores, targets)
    top_k_metrics(scores, targets, k=5)
    assert time.perf_counter() - start < 2  # 0.15 s on an idle core


def test_a_report_without_any_metric_is_still_a_table():
    report = EvaluationReport(
        {"plain": evaluate_scores(np.ones((2, 2)), np.zeros((2, 2)), label_names=["a", "b"], ks=[])}
    )
    assert not report.metrics()
    table = report.to_table(per_label=True)
    assert "2 images hold none of them; 2 labels without a positive image left out of the means (a, b)" in table
