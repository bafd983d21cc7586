"""The numbers of a calibration: what is refused, and what they mean."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError

from ram_hf import RamConfig
from ram_hf.model.calibration import Calibration, shift_odds
from tests.conftest import make_config

VALUES = {
    "evidence_weights": [1.0, 2.0],
    "statistics_weights": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5],
    "bias": -3.0,
    "threshold": 0.4,
    "precision_thresholds": {"0.9": 0.8},
    "label_thresholds": {"dog": 0.2},
    "labels_per_image": 3.0,
    "num_labels": 30,
}


def test_comes_back_from_a_saved_configuration(tmp_path):
    config = make_config(reference_labels=["dog"], calibration=VALUES)
    config.save_pretrained(tmp_path)
    loaded = RamConfig.from_pretrained(tmp_path)
    assert loaded.reference_labels == ["dog"]
    assert Calibration.from_dict(loaded.calibration) == Calibration.from_dict(VALUES)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("bias", float("nan"), "bias` must be a finite number, got nan"),
        ("bias", "3", "bias` must be a finite number, got '3'"),
        ("evidence_weights", [1.0], r"evidence_weights` must be 2 finite numbers, got \[1.0\]"),
        ("statistics_weights", [float("inf")] * 6, "must be 6 finite numbers"),
        ("threshold", 40, "threshold` must be a probability from 0 to 1, got 40"),
        ("precision_thresholds", {"0.9": -1}, r"precision_thresholds\['0.9'\]` must be a probability"),
        ("label_thresholds", [0.5], "label_thresholds` must map names to probabilities"),
        ("labels_per_image", 30, "above 0 and below `num_labels`, got 30 of 30"),
        ("num_labels", None, "got 3.0 of None"),
        ("treshold", 0.5, "`calibration` holds 'treshold'. Did you mean 'threshold'"),
    ],
)
def test_a_wrong_value_is_named(name, value, error):
    with pytest.raises(StrictDataclassClassValidationError, match=error):
        make_config(reference_labels=["dog"], calibration={**VALUES, name: value})


def test_a_missing_value_is_named():
    without = {name: value for name, value in VALUES.items() if name != "bias"}
    with pytest.raises(StrictDataclassClassValidationError, match="lacks 'bias'"):
        make_config(reference_labels=["dog"], calibration=without)
    with pytest.raises(StrictDataclassClassValidationError, match="belongs to `reference_labels`, and there are none"):
        make_config(calibration=VALUES)


def test_thresholds_by_name_by_number_and_by_label():
    calibration = Calibration.from_dict(VALUES)
    assert calibration.thresholds_of(["cat", "dog"]) == [0.4, 0.2]
    assert calibration.thresholds_of(["cat", "dog"], 0.5) == [0.5, 0.5]
    assert calibration.thresholds_of(["cat", "dog"], "best-f1") == [0.4, 0.4]
    assert calibration.thresholds_of(["cat", "dog"], "precision=0.9") == [0.8, 0.8]
    with pytest.raises(ValueError, match=r"no threshold 'best'.*'best-f1'"):
        calibration.thresholds_of(["cat"], "best")


def test_a_changed_prior_is_bayes_rule():
    """Images of which each label is in a tenth, and then in a half: the likelihoods stay what they are."""
    calibration = Calibration.from_dict(VALUES)
    likelihood_present, likelihood_absent = torch.tensor([0.2, 0.9, 0.5]), torch.tensor([0.1, 0.01, 0.8])

    def posterior(prior):
        present = prior * likelihood_present
        return present / (present + (1 - prior) * likelihood_absent)

    shift = calibration.prior_shift(15, 30)
    torch.testing.assert_close(shift_odds(posterior(0.1), shift), posterior(0.5))
    for wrong in (0, 30, float("nan")):
        with pytest.raises(ValueError, match=r"below the number of labels \(30\)"):
            calibration.prior_shift(wrong, 30)
    untold = Calibration.from_dict({**VALUES, "labels_per_image": None, "num_labels": None})
    with pytest.raises(ValueError, match="does not tell"):
        untold.prior_shift(2, 30)
