"""Which number `ram-hf tag` reports, and from which value on."""

import copy
import json

import pytest
import torch

from ram_hf import RamConfig
from ram_hf.cli import main
from ram_hf.tagging.outputs import DEFAULT_TOP_K, TagOptions
from ram_hf.tagging.scoring import choose_scoring
from ram_hf.tagging.vocabulary import Label, Vocabulary
from tests.conftest import LABELS, make_config

from .hostile import save_photographs

CALIBRATION = {
    "evidence_weights": [0.4, 0.02],
    "statistics_weights": [-0.2, 0.5, 0.4, -0.01, 0.004, 0.008],
    "bias": -0.5,
    "threshold": 0.3,
    "precision_thresholds": {"0.9": 0.8},
    "label_thresholds": {"dog": 0.2},
    "labels_per_image": 2.0,
    "num_labels": 10,
}
NOTHING = {"score": None, "threshold": None, "expected_labels": None}


@pytest.fixture(scope="module")
def calibrated() -> RamConfig:
    return make_config(reference_labels=["sea", "wood"], calibration=CALIBRATION)


def thresholds(scoring) -> list[float | None]:
    own = [label.threshold for label in scoring.vocabulary.matched]
    general = scoring.vocabulary.threshold if scoring.vocabulary.threshold is not None else scoring.threshold
    return [general if each is None else each for each in own]


@pytest.mark.parametrize(
    ("vocabulary", "threshold", "expected"),
    [
        (Vocabulary.of(["dog", "cat"]), None, [0.2, 0.3]),  # the label's own that calibration found, the best for F1
        (Vocabulary.of(["dog", "cat"]), 0.5, [0.5, 0.5]),
        (Vocabulary.of(["dog", "cat"]), "precision=0.9", [0.8, 0.8]),
        (Vocabulary.of(["dog", "cat"]), "best-f1", [0.3, 0.3]),
        (Vocabulary((Label("dog", threshold=0.7), Label("cat"))), None, [0.7, 0.3]),
        (Vocabulary((Label("dog", match=("dog", "hound")), Label("cat"))), None, [0.3, 0.3]),  # another column
        (Vocabulary((Label("dog"), Label("cat")), threshold=0.6), None, [0.6, 0.6]),
    ],
)
def test_a_calibrated_model_has_probabilities_and_their_thresholds(calibrated, vocabulary, threshold, expected):
    scoring = choose_scoring(calibrated, vocabulary, **{**NOTHING, "threshold": threshold})
    assert scoring.score == "probability"
    assert thresholds(scoring) == expected
    assert TagOptions.of(scoring, None).top_k is None


def test_the_papers_score_has_no_threshold_but_a_number_of_tags(calibrated):
    vocabulary = Vocabulary.of(["dog", "cat"])
    for config, options in ((calibrated, {**NOTHING, "score": "paper"}), (make_config(), NOTHING), (None, NOTHING)):
        scoring = choose_scoring(config, vocabulary, **options)
        assert scoring == ("paper", vocabulary, None, None)
        assert TagOptions.of(scoring, None).top_k == DEFAULT_TOP_K


@pytest.mark.parametrize(
    ("is_calibrated", "options", "error"),
    [
        (False, {"score": "probability"}, "`--score probability` is about probabilities, and this model is not cal"),
        (False, {"threshold": "best-f1"}, "`--threshold best-f1` is about probabilities, and this model"),
        (
            True,
            {"score": "paper", "expected_labels": 2.0},
            "about probabilities, and with `--score paper` there are",
        ),
        (True, {"threshold": "precision=0.8"}, "no threshold 'precision=0.8'. Did you mean 'precision=0.9'"),
        (True, {"expected_labels": 2.0}, r"below the number of labels \(2\), got 2.0"),
    ],
)
def test_what_the_model_does_not_have_is_told(calibrated, is_calibrated, options, error):
    with pytest.raises(ValueError, match=error):
        choose_scoring(calibrated if is_calibrated else None, Vocabulary.of(["a", "b"]), **{**NOTHING, **options})


@pytest.fixture(scope="module")
def calibrated_folder(tmp_path_factory, _shared_tiny_model, tiny_processor):
    model = copy.deepcopy(_shared_tiny_model)
    with torch.no_grad():
        features = model.get_label_features(**tiny_processor(labels=["sea", "wood"]))
    model.set_reference_labels(["sea", "wood"], features)
    model.config.calibration = dict(CALIBRATION)
    folder = tmp_path_factory.mktemp("calibrated")
    model.save_pretrained(folder)
    tiny_processor.save_pretrained(folder)
    return folder


@pytest.fixture
def tag(tmp_path, monkeypatch, calibrated_folder):
    """Tags of the one picture, by label."""
    monkeypatch.chdir(tmp_path)
    save_photographs(tmp_path / "photos", 1)

    def run(labels, *more, status=0) -> dict[str, float]:
        arguments = ["tag", "photos", "--labels", ",".join(labels), "--model", str(calibrated_folder)]
        (tmp_path / "tags.jsonl").unlink(missing_ok=True)
        assert main([*arguments, "--output", "tags.jsonl", *map(str, more)]) == status
        if status:
            return {}
        (row,) = map(json.loads, (tmp_path / "tags.jsonl").read_text(encoding="utf-8").splitlines())
        return {tag["label"]: tag["score"] for tag in row["tags"]}

    return run


def test_a_label_has_its_probability_whatever_else_is_looked_for(tag, capsys):
    together = tag(LABELS, "--threshold", 0)
    assert together.keys() == set(LABELS)
    for label in LABELS:
        assert tag([label], "--threshold", 0) == {label: together[label]}
    assert "calibrate" not in capsys.readouterr().err
    assert sum(tag(LABELS, "--score", "paper").values()) == pytest.approx(1)


def test_nothing_there_gives_no_tag(tag):
    found = tag(LABELS, "--threshold", 0)
    assert tag(LABELS) == {label: score for label, score in found.items() if score >= (0.2 if label == "dog" else 0.3)}
    assert tag(LABELS, "--threshold", "precision=0.9") == {
        label: score for label, score in found.items() if score >= 0.8
    }
    assert tag(LABELS, "--threshold", 1) == {}


def test_expected_labels_move_all_odds_alike(tag):
    before, after = tag(LABELS, "--threshold", 0), tag(LABELS, "--threshold", 0, "--expected-labels-per-image", 2)
    for label, probability in before.items():
        odds = after[label] / (1 - after[label]) * (1 - probability) / probability
        assert odds == pytest.approx(4, rel=1e-2)  # a half of the labels, where it was a fifth


def test_errors_and_what_changes_nothing(tag, calibrated_folder, tmp_path, capsys):
    tag(LABELS, "--threshold", "precision=0.5", status=1)
    assert "no threshold 'precision=0.5'" in capsys.readouterr().err
    tag(LABELS, "--expected-labels-per-image", 0, status=2)
    assert "must be a number above 0, got '0'" in capsys.readouterr().err
    (tmp_path / "labels.yaml").write_text("labels: [dog]\nbackground: [wall]\n")
    assert main(["tag", "photos", "--labels-file", "labels.yaml", "--model", str(calibrated_folder)]) == 0
    assert "`background` changes nothing: probabilities do not compete" in capsys.readouterr().err


def test_an_output_with_other_numbers_is_not_gone_on_with(calibrated):
    vocabulary = Vocabulary.of(["dog", "cat"])
    marks = [
        TagOptions.of(choose_scoring(calibrated, vocabulary, **{**NOTHING, "threshold": 0.3, **options}), None).mark
        for options in ({}, {"score": "paper"}, {"expected_labels": 1.0})
    ]
    assert len(set(marks)) == 3
