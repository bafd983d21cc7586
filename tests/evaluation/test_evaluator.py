import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from ram_hf.evaluation.evaluator import evaluate_model, evaluation_settings
from ram_hf.evaluation.pointing import PointingGame, pointing_hits
from ram_hf.evaluation.ranking import top_k_metrics
from ram_hf.evaluation.report import evaluate_scores

from .tiny import LABEL_NAMES, UNSEEN, make_batches, make_label_features, make_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the processes that `torch.distributed.run` starts have, so that sums are taken in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    return make_model()


def evaluate(model, batches, **changes):
    arguments = {
        "label_names": LABEL_NAMES,
        "label_features": make_label_features(),
        "settings": evaluation_settings(len(LABEL_NAMES), unseen=UNSEEN),
        "ks": (1, 3),
    }
    return evaluate_model(model, batches, **{**arguments, **changes})


@pytest.fixture(scope="module")
def report(model):
    return evaluate(model, make_batches())


def test_settings():
    assert evaluation_settings(3) == {"plain": [0, 1, 2]}
    assert evaluation_settings(3, unseen=[2, 0]) == {"zsl": [0, 2], "gzsl": [0, 1, 2]}
    for unseen in ([3], [-1], [1, 1]):
        with pytest.raises(ValueError, match=r"`unseen` must hold distinct label indices from 0 to 2"):
            evaluation_settings(3, unseen=unseen)


def test_each_setting_is_scored_on_its_labels_alone(model, report):
    batches, features = make_batches(), make_label_features()
    targets = torch.cat([batch["labels"] for _, batch in batches]).numpy()
    pixel_values = torch.cat([batch["pixel_values"] for _, batch in batches])
    for setting, labels in {"zsl": UNSEEN, "gzsl": range(len(LABEL_NAMES))}.items():
        labels = list(labels)
        with torch.no_grad():
            scores = model(pixel_values, label_features=features[labels]).scores.numpy()
        result = report.settings[setting]
        for column, label in enumerate(labels):
            known = targets[:, label] != -1
            expected = average_precision_score(targets[known, label], scores[known, column])
            assert result.labels[column].average_precision == pytest.approx(expected, rel=1e-6)
            assert result.labels[column].name == LABEL_NAMES[label]
            assert result.labels[column].num_positives == (targets[:, label] == 1).sum()
        assert result.top_k[3] == pytest.approx(top_k_metrics(scores, targets[:, labels], k=3), rel=1e-6)
        assert result.num_images == 19
        assert result.num_images_without_positives == (~(targets[:, labels] == 1).any(axis=1)).sum()
    assert report.settings["zsl"].labels[0].average_precision != report.settings["gzsl"].labels[1].average_precision


def test_pointing_is_played_in_each_setting(model, report):
    features = make_label_features()[UNSEEN]
    names = [LABEL_NAMES[label] for label in UNSEEN]
    plan_game, similarity_game = PointingGame(len(UNSEEN)), PointingGame(len(UNSEEN))
    for _, batch in make_batches():
        with torch.no_grad():
            output = model(batch["pixel_values"], label_features=features, output_transport_plan=True)
        for image, boxes in enumerate(batch["boxes"]):
            rest = {"grid": (4, 4), "size": batch["sizes"][image], "boxes": boxes or {}, "label_names": names}
            plan_game.update(*pointing_hits(output.transport_plan[image], **rest))
            similarity_game.update(*pointing_hits(output.patch_embeds[image] @ output.label_embeds.T, **rest))
    pointing = report.settings["zsl"].pointing
    for name, game in (("transport_plan", plan_game), ("similarity", similarity_game)):
        assert pointing[name].hits == game.hits.sum()
        assert pointing[name].total == game.total.sum() > 0
        assert pointing[name].accuracy == game.accuracy
        assert pointing[name].mean_accuracy == game.mean_accuracy
    assert report.settings["gzsl"].pointing["similarity"].total > pointing["similarity"].total


def test_without_boxes_no_plan_is_asked_for(model, monkeypatch):
    asked = []
    forward = model.forward
    monkeypatch.setattr(
        model,
        "forward",
        lambda *args, **kwargs: asked.append(kwargs["output_transport_plan"]) or forward(*args, **kwargs),
    )
    report = evaluate(model, make_batches(num_batches=2, with_boxes=False), settings=evaluation_settings(6), ks=(2,))
    assert asked == [False, False]
    assert report.settings["plain"].pointing == {}
    assert not any("pointing" in name for name in report.metrics())


def test_order_of_the_batches_does_not_matter(model, report):
    assert evaluate(model, reversed(make_batches())) == report


@pytest.mark.parametrize("gradients", [True, False])
def test_modes_are_put_back(gradients):
    model = make_model().train()
    model.clip.eval()  # a part that its owner keeps in evaluation mode
    before = [module.training for module in model.modules()]
    running = {name: value.clone() for name, value in model.named_buffers()}
    with torch.set_grad_enabled(gradients):
        evaluate(model, make_batches(num_batches=2))
        with pytest.raises(ValueError, match="came twice"):
            evaluate(model, [*make_batches(num_batches=2), make_batches()[0]])
        assert torch.is_grad_enabled() == gradients
    assert [module.training for module in model.modules()] == before
    assert all(torch.equal(value, running[name]) for name, value in model.named_buffers())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(report, tmp_path):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
        "-m", "tests.evaluation.two_processes", str(tmp_path),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]
    expected = json.loads(json.dumps(report.to_dict()))
    for process in range(2):
        assert json.loads((tmp_path / f"report-{process}.json").read_text()) == [2, expected]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_features": torch.zeros(5, 24)}, r"\(labels, width\) for the 6 `label_names`, got \(5, 24\)"),
        ({"settings": {}}, "`settings` is empty"),
        ({"settings": {"zsl": [6, 1, 2]}}, r"`settings\['zsl'\]` must hold distinct label indices from 0 to 5"),
        ({"ks": (0, 3)}, r"`ks` must be numbers from 1 on, got \[0, 3\]"),
        ({"ks": ()}, "`ks` must be"),
        ({"label_names": ["a"] * 6}, r"distinct, but \['a'\] come more than once"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_the_model_runs(changes, message):
    with pytest.raises(ValueError, match=message):
        evaluate(None, [], **changes)


def test_batches_that_do_not_fit_are_refused(model):
    def with_changes(**changes):
        (index, batch), *_ = make_batches()
        return [(index, {key: value for key, value in {**batch, **changes}.items() if value is not None})]

    for changes, message in (
        ({"labels": torch.zeros(4, 3)}, r"all label names\) = \(4, 6\), got \(4, 3\)"),
        ({"labels": torch.full((4, 6), 0.5)}, "must be 1, 0 or -1, got 0.5"),
        ({"labels": torch.full((4, 6), 2)}, "must be 1 .in the image., 0 .not. or -1"),
        ({"sizes": None}, r"each of its 4 images, got 4 and None"),
        ({"boxes": [None]}, r"each of its 4 images, got 1 and 4"),
        ({"boxes": [{"unicorn": [[0, 0, 1, 1]]}, None, None, None]}, r"not in `label_names`: \['unicorn'\]"),
        ({"pixel_values": torch.zeros(4, 3, 32, 32) * torch.nan}, "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(model, with_changes(**changes))
    with pytest.raises(ValueError, match="no image came in `batches`"):
        evaluate(model, [])


# --- the report ------------------------------------------------------------------------------------------------------


def test_report_of_hand_made_scores():
    scores = np.array([[0.9, 0.5, 0.1], [0.2, 0.5, 0.3]])
    report = evaluate_scores(scores, [[1, 0, 0], [0, 0, 0]], label_names=["dog", "cat", "cup"], ks=(1,))
    assert report.mean_average_precision == 1.0
    assert report.left_out_labels == ["cat", "cup"]
    assert report.num_images_without_positives == 1
    assert report.metrics() == {"mAP": 1, "OP@1": 0.5, "OR@1": 1, "OF1@1": 2 / 3, "CP@1": 1, "CR@1": 1, "CF1@1": 1}
    with pytest.raises(ValueError, match="2 `label_names` were given for 3 columns"):
        evaluate_scores(scores, scores > 1, label_names=["dog", "cat"])


def test_report_without_any_positive_is_json():
    report = evaluate_scores([[0.1, 0.2]], [[0, 0]], label_names=["dog", "cat"], ks=(1,))
    assert "mAP" not in report.metrics()
    json.dumps(report.to_dict(), allow_nan=False)


def test_report_in_all_its_forms(report):
    as_dict = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert as_dict["zsl"]["labels"][0]["name"] == "red car"
    assert as_dict["gzsl"]["OF1@3"] == report.metrics()["gzsl/OF1@3"]
    assert as_dict["gzsl"]["pointing"]["similarity"]["total"] > 0
    lines = report.to_table().splitlines()
    assert lines[0].split() == ["in", "percent", "zsl", "gzsl"]
    assert lines[2].split() == ["mAP", *(f"{100 * report.metrics()[f'{name}/mAP']:.2f}" for name in ("zsl", "gzsl"))]
    table = lines[: lines.index("")]
    assert len({len(line) for line in table}) == 1
    assert lines[-1].startswith("gzsl: 19 images; 6 labels")


def calibrated_model():
    model = make_model()
    model.set_reference_labels(["sky", "mouse", "tea"], torch.randn(3, 24, generator=torch.Generator().manual_seed(5)))
    model.config.calibration = {
        "evidence_weights": [0.3, 0.01],
        "statistics_weights": [-0.1, 0.1, 0.1, -0.003, 0.001, 0.002],
        "bias": -0.3,
        "threshold": 0.4,
    }
    return model


def test_probabilities_are_judged_once_for_all_lists(report):
    model, batches, features = calibrated_model(), make_batches(), make_label_features()
    found = evaluate(model, batches)
    targets = torch.cat([batch["labels"] for _, batch in batches]).numpy()
    with torch.no_grad():
        stored = model.encode_images(torch.cat([batch["pixel_values"] for _, batch in batches]))
        probabilities = model.score_stored(stored, features).probabilities.numpy()
    assert 0.05 < probabilities.min() < 0.4 < probabilities.max()
    for setting, labels in {"zsl": UNSEEN, "gzsl": range(len(LABEL_NAMES))}.items():
        labels = list(labels)
        result = found.settings[setting].probabilities
        known = targets[:, labels] != -1
        present, said = targets[:, labels][known], probabilities[:, labels][known]
        assert result.brier == pytest.approx(np.mean((said - present) ** 2), rel=1e-4)
        right = ((said >= 0.4) & (present == 1)).sum()
        assert result.f1 == pytest.approx(2 * right / ((said >= 0.4).sum() + present.sum()))
        assert result.num_reported == pytest.approx((probabilities[:, labels] >= 0.4).sum(axis=1).mean())
        precision = [
            average_precision_score(targets[known, label], probabilities[known, label])
            for label in labels
            for known in [targets[:, label] != -1]
        ]
        assert result.mean_average_precision == pytest.approx(np.mean(precision), rel=1e-5)
    table = found.to_table()
    assert "probability/ECE" in table
    assert "from a probability of 0.400 on" in table
    plain = report.to_dict()
    for setting, content in found.to_dict().items():
        content.pop("probabilities")  # all the rest is that of a model without a calibration
        assert content == plain[setting]


def test_nothing_is_asked_of_a_model_without_a_calibration(model, monkeypatch):
    monkeypatch.setattr(type(model), "encode_images", None)
    assert "probabilities" not in evaluate(model, make_batches(num_batches=2)).to_dict()["gzsl"]
