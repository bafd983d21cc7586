"""What CLIP's towers pass through, asked for as of CLIP itself."""

import pytest
import torch

from ram_hf import RamModel
from tests.conftest import make_config

CLOSE = {"atol": 1e-5, "rtol": 1e-4}
LAYERS = {"vision": 5, "text": 4}


@pytest.fixture
def training_free(tiny_model):
    """Without learned tokens, so that both towers are CLIP's own."""
    return RamModel.from_clip(tiny_model.clip)


def features_of(model, tower, pixel_values, label_inputs, **options):
    with torch.no_grad():
        if tower == "vision":
            return model.get_image_features(pixel_values, **options)
        return model.get_text_features(**label_inputs, **options)


def output_of(model, tower, pixel_values, label_inputs, **options):
    with torch.no_grad():
        return getattr(model(pixel_values, **label_inputs, **options), f"{tower}_model_output")


def same(actual, expected):
    assert actual.keys() == expected.keys()
    torch.testing.assert_close(dict(actual), dict(expected), **CLOSE)


@pytest.mark.parametrize("tower", ["vision", "text"])
@pytest.mark.parametrize("options", [{}, {"output_hidden_states": True, "output_attentions": True}])
def test_features_are_clips(training_free, pixel_values, label_inputs, tower, options):
    training_free.set_attn_implementation("eager")  # CLIP has attentions there alone
    ids = label_inputs["input_ids"]
    label_inputs = {"input_ids": torch.nn.functional.pad(ids, (0, 3), value=int(ids[0, -1]))}  # padding stays
    expected = features_of(training_free.clip, tower, pixel_values, label_inputs, **options)
    same(features_of(training_free, tower, pixel_values, label_inputs, **options), expected)
    if options:
        same(output_of(training_free, tower, pixel_values, label_inputs, **options), expected)
        assert len(expected.hidden_states) == len(expected.attentions) + 1 == LAYERS[tower] + 1


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_learned_tokens_stand_first_in_the_attention(tiny_model, pixel_values, label_inputs, tower):
    """With every kernel, as "eager" stands in for those that give no weights."""
    asked = {"output_hidden_states": True, "output_attentions": True}
    output = features_of(tiny_model, tower, pixel_values, label_inputs, **asked)
    tokens = output.last_hidden_state.shape[1]
    learned = {"vision": [0, 0, 8, 8, 8], "text": [0, 4, 4, 4]}[tower]
    assert [weights.shape[-2:] for weights in output.attentions] == [(tokens, extra + tokens) for extra in learned]
    for weights in output.attentions:
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
    same(output_of(tiny_model, tower, pixel_values, label_inputs, **asked), output)
    if tower == "text":
        with torch.no_grad():
            torch.testing.assert_close(output.pooler_output, tiny_model.get_label_features(**label_inputs), **CLOSE)


def test_asking_changes_nothing(tiny_model, pixel_values, label_inputs):
    with torch.no_grad():
        expected = tiny_model(pixel_values, **label_inputs)
        asked = tiny_model(pixel_values, **label_inputs, output_hidden_states=True, output_attentions=True)
    torch.testing.assert_close(asked.scores, expected.scores, atol=3e-5, rtol=1e-4)
    torch.testing.assert_close(asked.patch_embeds, expected.patch_embeds, **CLOSE)
    assert expected.text_model_output is None
    assert expected.vision_model_output.keys() == {"last_hidden_state", "pooler_output"}


@pytest.mark.parametrize("part", ["model", "vision", "text"])
def test_the_configuration_is_honoured(tiny_model, pixel_values, label_inputs, tmp_path, part):
    tiny_model.save_pretrained(tmp_path)
    if part == "model":
        model = RamModel.from_pretrained(
            tmp_path, output_hidden_states=True, output_attentions=True, attn_implementation="eager"
        )
    else:
        model = RamModel.from_pretrained(tmp_path, attn_implementation="eager")
        tower = getattr(model.config, f"{part}_config")
        tower.output_hidden_states = tower.output_attentions = True
    for tower in ("vision", "text"):
        output = output_of(model, tower, pixel_values, label_inputs)
        if part in (tower, "model"):
            assert len(output.hidden_states) == len(output.attentions) + 1 == LAYERS[tower] + 1
            assert features_of(model, tower, pixel_values, label_inputs).keys() == output.keys()
        else:
            assert not output or "hidden_states" not in output
        refused = {"output_hidden_states": False, "output_attentions": False}
        assert "attentions" not in features_of(model, tower, pixel_values, label_inputs, **refused)


@pytest.mark.parametrize("places", [[0, 2, -1], 1, [-9, 99]])
def test_some_hidden_states(tiny_model, pixel_values, label_inputs, places):
    for tower, layers in LAYERS.items():
        every = output_of(tiny_model, tower, pixel_values, label_inputs, output_hidden_states=True).hidden_states
        some = output_of(tiny_model, tower, pixel_values, label_inputs, output_hidden_states=places).hidden_states
        wanted = [places] if isinstance(places, int) else places
        kept = {place % (layers + 1) for place in wanted if -layers - 1 <= place <= layers}
        assert {place for place, states in enumerate(some) if states is not None} == kept
        for place in kept:
            torch.testing.assert_close(some[place], every[place])


def test_labels_that_come_as_features_have_no_states(tiny_model, pixel_values, label_inputs):
    with torch.no_grad():
        features = tiny_model.get_label_features(**label_inputs)
        output = tiny_model(pixel_values, label_features=features, output_hidden_states=True)
    assert output.text_model_output is None
    assert len(output.vision_model_output.hidden_states) == 6


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradients_reach_the_states(pixel_values, label_inputs, use_reentrant):
    model = RamModel(make_config()).train()
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": use_reentrant})
    output = model(pixel_values, **label_inputs, labels=torch.eye(3, 4), output_hidden_states=True)
    states = [output.vision_model_output.hidden_states[3], output.text_model_output.hidden_states[2]]
    for each in states:
        each.retain_grad()
    output.loss.backward()
    assert all(each.grad.abs().sum() > 0 for each in states)


def test_tuples_when_asked(tiny_model, pixel_values, label_inputs):
    with torch.no_grad():
        output = tiny_model(pixel_values, **label_inputs, output_hidden_states=True, return_dict=False)
        image = tiny_model.get_image_features(pixel_values, return_dict=False)
    assert isinstance(output[-1], tuple)
    assert isinstance(output[-2], tuple)
    torch.testing.assert_close(output[-2][:2], image)


def test_what_clips_output_has(tiny_model, pixel_values, label_inputs):
    with torch.no_grad():
        output = tiny_model(pixel_values, **label_inputs)
        of_clip = tiny_model.clip(pixel_values=pixel_values, **label_inputs)
    assert of_clip.keys() - output.keys() == {"text_model_output"}  # where it is asked for
    torch.testing.assert_close(output.logits_per_text, output.logits_per_image.T)
    assert output.text_embeds.shape == of_clip.text_embeds.shape
    assert tiny_model.config.vision_config is tiny_model.config.clip_config.vision_config
    assert tiny_model.config.text_config.vocab_size == len(tiny_model.get_input_embeddings().weight)
