"""From squares of pixels to tags, with labels of one and of several names."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ram_hf.model.calibration import Calibration
from ram_hf.model.refine import refine_scores
from ram_hf.tagging.tagger import Tagger, candidate_features
from ram_hf.tagging.vocabulary import Label, Vocabulary

VOCABULARY = Vocabulary(
    (Label("dog", "Hund", match=("dog", "hound"), parents=("animal",)), Label("tree")),
    background=("wall",),
    force=("holiday",),
)


@pytest.fixture
def pixels() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), dtype=np.uint8))


def test_several_names_have_the_mean_of_their_directions(tiny_model, tiny_processor):
    with torch.inference_mode():
        features = candidate_features(tiny_model, tiny_processor, VOCABULARY)
        single = tiny_model.get_label_features(**tiny_processor(labels=["dog", "hound", "tree", "wall"]))
    assert features.shape == (3, 48)
    assert torch.equal(features[1:], single[2:])  # to the last bit
    mean = F.normalize(single[:2], dim=-1).mean(dim=0)
    torch.testing.assert_close(F.normalize(features[0], dim=-1), F.normalize(mean, dim=-1))
    torch.testing.assert_close(features[0].norm(), single[:2].norm(dim=-1).mean())


def test_tags_are_the_report_with_the_heat_of_what_was_found(tiny_model, tiny_processor, pixels):
    tagger = Tagger(tiny_model, tiny_processor, VOCABULARY, threshold=0.0, with_heat_maps=True)
    with torch.inference_mode():
        output = tiny_model(
            tiny_processor.image_processor(pixels, do_resize=False, return_tensors="pt")["pixel_values"],
            label_features=candidate_features(tiny_model, tiny_processor, VOCABULARY),
            output_transport_plan=True,
        )
    for tags, scores, plan in zip(tagger(pixels), output.scores, output.transport_plan, strict=True):
        by_label = {tag["label"]: tag for tag in tags}
        assert next(iter(by_label)) == "holiday"
        assert set(by_label) == {"holiday", "Hund", "animal", "tree"}
        assert by_label["Hund"]["score"] == by_label["animal"]["score"] == pytest.approx(float(scores[0]), rel=1e-5)
        assert "heat_map" not in by_label["holiday"]
        column = (plan[:, 0] / plan[:, 0].max()).reshape(4, 4).numpy()
        np.testing.assert_allclose(by_label["animal"]["heat_map"], column, rtol=1e-4)


def test_the_best_labels_are_judged_again(tiny_model, tiny_processor, calibrated_model, pixels):
    vocabulary = Vocabulary.of(["dog", "tree", "wall", "sun"])
    pixel_values = tiny_processor.image_processor(pixels, do_resize=False, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        features = candidate_features(tiny_model, tiny_processor, vocabulary)
        output = tiny_model(pixel_values, label_features=features, output_transport_plan=True)
        expected = refine_scores(tiny_model, pixel_values, features, output, num_labels=2)
    assert not torch.allclose(expected, output.scores)
    for options in ({}, {"with_heat_maps": True}):
        tagger = Tagger(tiny_model, tiny_processor, vocabulary, refine=2, **options)
        np.testing.assert_allclose(tagger.score(pixels), expected, rtol=1e-4)
    with pytest.raises(ValueError, match="with the paper's score alone"):
        Tagger(calibrated_model, tiny_processor, vocabulary, refine=2)


def test_no_pictures_and_broken_weights(tiny_model, tiny_processor, pixels):
    tagger = Tagger(tiny_model, tiny_processor, Vocabulary.of(["dog", "cat"]))
    assert tagger([]) == []
    tiny_model.temperatures.global_temperature.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        tagger(pixels)


def test_a_calibrated_model_gives_probabilities(tiny_model, tiny_processor, pixels):
    with torch.inference_mode():
        names = ["dog", "cat", "sea"]
        tiny_model.set_reference_labels(names, tiny_model.get_label_features(**tiny_processor(labels=names)))
    tiny_model.config.calibration = Calibration([1.0, 1.0], [0.0] * 6, -1.0, threshold=0.5).to_dict()
    tagger = Tagger(tiny_model, tiny_processor, Vocabulary.of(["tree", "house"]))
    inputs = tiny_processor.image_processor(pixels, do_resize=False, return_tensors="pt")
    with torch.inference_mode():
        output = tiny_model(**inputs, label_features=candidate_features(tiny_model, tiny_processor, tagger.vocabulary))
    np.testing.assert_allclose(tagger.score(pixels), output.probabilities.numpy(), rtol=1e-5)
    assert {tag["label"]: tag["score"] for tag in tagger(pixels)[0]} == pytest.approx(
        dict(zip(["tree", "house"], output.probabilities[0].tolist(), strict=True)), rel=1e-5
    )
