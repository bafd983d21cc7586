import copy

import pytest
import torch


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, _shared_tiny_model, tiny_processor):
    """A tiny RAM with its processor, as `--model` takes it."""
    folder = tmp_path_factory.mktemp("model")
    _shared_tiny_model.save_pretrained(folder)
    tiny_processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def calibrated_model(_shared_tiny_model, tiny_processor):
    """A tiny RAM with reference labels and a calibration, which give it probabilities."""
    model = copy.deepcopy(_shared_tiny_model)
    names = ["cat", "house", "river", "blue"]
    with torch.no_grad():
        model.set_reference_labels(names, model.get_label_features(**tiny_processor(labels=names)))
    model.config.calibration = {
        # Of the size that keeps the logits of random weights within the unit.
        "evidence_weights": [0.4, 0.02],
        "statistics_weights": [-0.2, 0.5, 0.4, -0.01, 0.004, 0.008],
        "bias": -0.5,
        "threshold": 0.3,
    }
    return model


@pytest.fixture(scope="session")
def calibrated_folder(tmp_path_factory, calibrated_model, tiny_processor):
    """That model with its processor, as `--model` takes it."""
    folder = tmp_path_factory.mktemp("calibrated")
    calibrated_model.save_pretrained(folder)
    tiny_processor.save_pretrained(folder)
    return folder
