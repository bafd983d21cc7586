"""What the model asks of a GPU: nothing, but once for a label list that it has not seen."""

import numpy as np
import pytest
import torch

from tests.host_syncs import counted_host_syncs, reading_is_not_free


@pytest.mark.parametrize("with_plan", [False, True])
def test_inference_with_features_asks_nothing(tiny_model, pixel_values, label_inputs, with_plan):
    with torch.inference_mode():
        features = tiny_model.get_label_features(**label_inputs)
        expected = tiny_model(pixel_values, label_features=features).scores
        with reading_is_not_free(), counted_host_syncs() as syncs:
            output = tiny_model(pixel_values, label_features=features, output_transport_plan=with_plan)
    assert syncs == []
    torch.testing.assert_close(output.scores, expected, rtol=0, atol=0)  # whoever has stopped is held still


def test_inference_asks_once_for_a_new_label_list(tiny_model, pixel_values, label_inputs):
    """For a known one it compares each layer's prompts, which can be written without a trace: features ask nothing."""
    with torch.no_grad(), reading_is_not_free(), counted_host_syncs() as syncs:
        tiny_model(pixel_values, **label_inputs)
        first = list(syncs)
        tiny_model(pixel_values, **label_inputs)
    assert first == ["tolist"]
    assert syncs[1:] == ["aten._local_scalar_dense.default"]


def test_probabilities_ask_nothing(tiny_model, pixel_values, label_inputs):
    calibration = {"evidence_weights": [0.1, 0.01], "statistics_weights": [0.0] * 6, "bias": 0.0, "threshold": 0.5}
    with torch.no_grad():
        features = tiny_model.get_label_features(**label_inputs)
        tiny_model.set_reference_labels([str(index) for index in range(len(features))], features)
        tiny_model.config.calibration = calibration
        with reading_is_not_free(), counted_host_syncs() as syncs:
            stored = tiny_model.encode_images(pixel_values)
            tiny_model.score_stored(stored, features)
    assert syncs == []


@pytest.mark.parametrize("unknown", [False, True])
def test_a_training_step_asks_nothing_once_it_knows_the_labels(tiny_model, pixel_values, label_inputs, unknown):
    labels = torch.eye(3, 4)
    labels[0, 1] = -1 if unknown else 0
    tiny_model.train()
    with reading_is_not_free():
        tiny_model(pixel_values, **label_inputs, labels=labels)
        with counted_host_syncs() as syncs:
            tiny_model(pixel_values, **label_inputs, labels=labels).loss.backward()
    assert syncs == []
    assert tiny_model.ladder["4"].adapter.output_conv.weight.grad is not None


def test_the_counter_counts():
    value = torch.arange(3.0)
    with counted_host_syncs() as syncs:
        value.sum().item()
        bool(value.isfinite().all())
        torch.equal(value, value.clone())
        value[value > 1]
        value.nonzero()
        value.cpu().tolist()
        np.asarray(value.numpy())
    assert len(syncs) == 8
