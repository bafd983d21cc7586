"""Probabilities: each label by itself, whatever else is asked for, now or from stored features."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ram_hf import RamModel

from ..conftest import LABELS

REFERENCE = ["cat", "house", "dog", "river", "blue", "a bicycle by the river"]
CALIBRATION = {
    # Of the size that keeps the logits of random weights, whose local temperature is small, within the unit.
    "evidence_weights": [0.4, 0.02],
    "statistics_weights": [-0.2, 0.5, 0.4, -0.01, 0.004, 0.008],
    "bias": -0.5,
    "threshold": 0.3,
}
WORDS = [*LABELS, *REFERENCE, "x", "a very much longer label than all of the others here", "mare"]


@pytest.fixture
def model(tiny_model, tiny_processor):
    with torch.no_grad():
        features = tiny_model.get_label_features(**tiny_processor(labels=REFERENCE))
    tiny_model.set_reference_labels(REFERENCE, features)
    tiny_model.config.calibration = dict(CALIBRATION)
    return tiny_model


def probabilities(model, processor, pixel_values, labels):
    with torch.no_grad():
        return model(pixel_values, **processor(labels=labels)).probabilities


def test_matches_the_equations_written_plainly(model, tiny_processor, pixel_values):
    """In float64, label by label, with Sinkhorn's iteration written out."""
    config = model.config
    with torch.no_grad():
        features = model.encode_images(pixel_values)
        labels = model.get_label_features(**tiny_processor(labels=LABELS))
        output = model.score_stored(features, labels, output_transport_plan=True)
        alpha = model.clip.logit_scale.exp().double()
        global_temperature = model.temperatures.global_temperature.double()
        local_temperature = model.temperatures.local_temperature.double()
        reference = F.normalize(model.reference.features.double(), dim=-1)
        candidates = F.normalize(labels.double(), dim=-1)
    for image in range(3):
        patches, whole = features.patch_embeds[image].double(), features.image_embeds[image].double()
        to_reference = patches @ reference.T
        marginal = (to_reference.amax(1) / config.patch_marginal_temperature).softmax(0)
        kernel = ((alpha * to_reference).softmax(1) - 1).div(config.epsilon).exp()
        row, column = torch.ones_like(marginal), torch.ones(len(REFERENCE), dtype=torch.double)
        for _ in range(config.sinkhorn_max_iterations):
            before = row
            row = marginal / (kernel @ column)
            column = 1 / len(REFERENCE) / (kernel.T @ row)
            if (row - before).abs().mean() < config.sinkhorn_tolerance:
                break
        plan = row[:, None] * kernel * column
        global_reference = whole @ reference.T / global_temperature
        local_reference = len(REFERENCE) * (plan * to_reference).sum(0) / local_temperature
        statistics = []
        for logits in (global_reference, local_reference):
            statistics += [logits.exp().sum().log(), logits.mean(), logits.std(correction=0)]
        for index, name in enumerate(LABELS):
            to_label = patches @ candidates[index]
            rivals = (alpha * to_reference).exp().sum(1)
            own = (alpha * to_label).exp()
            cost = 1 - own / (rivals if name in REFERENCE else rivals + own)
            column = row * (-cost / config.epsilon).exp()
            column = column / column.sum()
            evidence = 0.4 * whole @ candidates[index] / global_temperature
            evidence += 0.02 * (column * to_label).sum() / local_temperature
            evidence += sum(w * s for w, s in zip(CALIBRATION["statistics_weights"], statistics, strict=True)) - 0.5
            assert 0.01 < evidence.sigmoid() < 0.99  # else there would be little to see
            torch.testing.assert_close(
                output.probabilities[image, index].double(), evidence.sigmoid(), rtol=1e-4, atol=0
            )
            torch.testing.assert_close(
                output.transport_plan[image, :, index].double(), column / len(LABELS), rtol=1e-4, atol=1e-7
            )


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_probability_depends_on_what_else_is_asked(data):
    """Adding, leaving out, repeating and permuting labels changes nothing, not by a bit."""
    model, processor, pixel_values, alone = data_of_the_property()
    labels = data.draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=150))
    found = probabilities(model, processor, pixel_values, labels)
    for index, label in enumerate(labels):
        assert torch.equal(found[:, index], alone[label]), label


_PROPERTY = []


def data_of_the_property():
    return _PROPERTY[0]


@pytest.fixture(autouse=True)
def _prepare(request):
    """Hypothesis and fixtures of one function do not go together: the model is made once, here."""
    if request.node.name.startswith("test_no_probability") and not _PROPERTY:
        model = request.getfixturevalue("model")
        processor = request.getfixturevalue("tiny_processor")
        pixel_values = request.getfixturevalue("pixel_values")
        alone = {word: probabilities(model, processor, pixel_values, [word])[:, 0] for word in WORDS}
        _PROPERTY.append((model, processor, pixel_values, alone))


def test_an_image_gets_the_same_beside_others(model, tiny_processor, pixel_values):
    together = probabilities(model, tiny_processor, pixel_values, LABELS)
    for index in range(3):
        alone = probabilities(model, tiny_processor, pixel_values[index : index + 1], LABELS)
        torch.testing.assert_close(alone[0], together[index], rtol=1e-4, atol=1e-6)


def test_stored_features_answer_as_the_image_does(model, tiny_processor, pixel_values):
    with torch.no_grad():
        labels = model.get_label_features(**tiny_processor(labels=LABELS))
        features = model.encode_images(pixel_values)
        stored = model.score_stored(features, labels).probabilities
        assert torch.equal(stored, model(pixel_values, label_features=labels).probabilities)
        half = {name: getattr(features, name).half() for name in ("image_embeds", "patch_embeds")}
        rounded = model.score_stored(features._replace(**half), labels).probabilities
    torch.testing.assert_close(rounded, stored, rtol=0.02, atol=1e-3)


def test_saved_with_the_model(model, tiny_processor, pixel_values, tmp_path):
    before = probabilities(model, tiny_processor, pixel_values, LABELS)
    model.save_pretrained(tmp_path)
    loaded = RamModel.from_pretrained(tmp_path)
    assert loaded.config.reference_labels == REFERENCE
    assert torch.equal(probabilities(loaded, tiny_processor, pixel_values, LABELS), before)


def test_scores_and_plan_stay_the_papers(model, tiny_model, tiny_processor, pixel_values):
    with torch.no_grad():
        inputs = tiny_processor(labels=LABELS)
        output = model(pixel_values, **inputs)
        plain = model(pixel_values, **inputs, output_probabilities=False)
    assert plain.probabilities is None
    assert torch.equal(output.scores, plain.scores)
    assert output.probabilities.shape == output.scores.shape


def test_a_model_in_training_gives_none(model, tiny_processor, pixel_values):
    output = model.train()(pixel_values, **tiny_processor(labels=LABELS), labels=torch.eye(3, 4))
    assert output.probabilities is None
    output.loss.backward()


def test_new_reference_labels_drop_the_calibration(model):
    model.set_reference_labels(["one"], torch.randn(1, 48))
    assert model.config.calibration is None
    assert not model.is_calibrated


def test_gradient_reaches_the_pixels(model, tiny_processor, pixel_values):
    pixel_values.requires_grad_()
    model(pixel_values, **tiny_processor(labels=LABELS)).probabilities.sum().backward()
    assert pixel_values.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (["a", "b"], "one for each of the 3 `label_features`, got 2"),
        (["a", "b", "a"], "'a' more than once"),
        ("abc", "got 'abc'"),
    ],
)
def test_wrong_reference_labels_are_refused(tiny_model, names, error):
    with pytest.raises(ValueError, match=error):
        tiny_model.set_reference_labels(names, torch.randn(3, 48))


def test_says_what_is_missing(tiny_model, model, tiny_processor, pixel_values):
    features = model.encode_images(pixel_values)
    labels = model.get_label_features(**tiny_processor(labels=LABELS))
    features = features._replace(statistics=None)
    with pytest.raises(ValueError, match=r"`features.statistics` must have shape \(3, 6\), got None"):
        model.score_stored(features, labels)
    model.config.calibration = None
    with pytest.raises(ValueError, match="not calibrated"):
        model(pixel_values, label_features=labels, output_probabilities=True)
    model.reference = None
    with pytest.raises(ValueError, match="no reference labels"):
        model.encode_images(pixel_values)


def test_half_precision_agrees(model, tiny_processor, pixel_values):
    exact = probabilities(model, tiny_processor, pixel_values, LABELS)
    rounded = probabilities(model.to(torch.bfloat16), tiny_processor, pixel_values.bfloat16(), LABELS)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().max() < 0.1
