"""Several sentences around a label: sets by name, lists, and what the model makes of them."""

import pytest
import torch
import torch.nn.functional as F

from ram_hf import RamProcessor
from ram_hf.model.mean_direction import mean_direction
from ram_hf.model.prompt_sets import PROMPT_SETS
from ram_hf.model.prompt_templates import read_templates
from tests.conftest import LABELS

TWO = ["a drawing of a {label}.", "{}, seen at night"]


def test_the_sets_are_those_of_clip():
    assert {name: len(sentences) for name, sentences in PROMPT_SETS.items()} == {
        "photo": 1,
        "openai-7": 7,
        "openai-80": 80,
    }
    for sentences in PROMPT_SETS.values():
        assert read_templates(list(sentences)) == sentences  # no sentence comes twice, each has one place
        assert all(sentence.count("{label}") == 1 for sentence in sentences)
    assert set(PROMPT_SETS["openai-7"]) <= set(PROMPT_SETS["openai-80"])
    assert PROMPT_SETS["openai-80"][0] == "a bad photo of a {label}."
    assert PROMPT_SETS["openai-80"][-1] == "a tattoo of the {label}."


def test_a_list_may_hold_sentences_and_sets_and_each_sentence_counts_once():
    assert read_templates("photo") == read_templates(["photo"]) == ("A photo of a {label}.",)
    assert read_templates(["openai-7", TWO[0], "itap of a {label}."]) == (*PROMPT_SETS["openai-7"], TWO[0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "`label_template` must hold at least one sentence with {label}, got none"),
        ((), "must hold at least one sentence"),
        ("openai80", "the name of a set, or a list of these; got 'openai80'. Did you mean 'openai-80'?"),
        ("imagenet", "got 'imagenet'. There are 'photo', 'openai-7', 'openai-80'."),
        ([TWO[0], "a photo"], "must be a sentence with {label} .* got 'a photo'"),
        ([TWO[0], "{label} {other}"], "got '{label} {other}'.$"),
        ([TWO[0], None], "got None.$"),
        ([TWO], "must be a sentence"),
    ],
)
def test_what_is_no_template_is_named(tiny_processor, given, message):
    with pytest.raises(ValueError, match=message):
        tiny_processor(labels="dog", label_template=given)
    with pytest.raises(ValueError, match=message):
        RamProcessor(tiny_processor.image_processor, tiny_processor.tokenizer, label_template=given)


def test_the_sentences_of_a_label_stand_together(tiny_processor):
    inputs = tiny_processor(labels=LABELS, label_template=TWO)
    sentences = [sentence.replace("{label}", name).replace("{}", name) for name in LABELS for sentence in TWO]
    expected = tiny_processor(text=sentences)
    for name, value in expected.items():
        assert inputs[name].shape[:2] == (len(LABELS), len(TWO))
        assert torch.equal(inputs[name].flatten(0, 1), value)
    lists = tiny_processor(labels=LABELS, label_template=TWO, return_tensors=None)
    assert lists["input_ids"] == inputs["input_ids"].tolist()


def test_one_template_in_a_list_is_that_template(tiny_processor):
    expected = tiny_processor(labels=LABELS)["input_ids"]
    for template in ("photo", ["photo"]):
        assert torch.equal(tiny_processor(labels=LABELS, label_template=template)["input_ids"], expected)


def test_tokens_are_counted_of_the_longest_sentence(tiny_processor):
    each = [tiny_processor.count_tokens(LABELS, label_template=sentence) for sentence in TWO]
    assert tiny_processor.count_tokens(LABELS, label_template=TWO) == list(map(max, *each))


def test_the_label_that_is_too_long_is_named(tiny_processor):
    for long in ("x" * 80, "x" * 10**6):
        with pytest.raises(ValueError, match=r"Label 1 .* with its template .*: 'xxx"):
            tiny_processor(labels=["dog", long, "cat"], label_template=TWO)


def test_features_are_the_mean_of_directions(tiny_model, tiny_processor):
    with torch.no_grad():
        features = tiny_model.get_label_features(**tiny_processor(labels=LABELS, label_template=TWO))
        each = [
            tiny_model.get_label_features(**tiny_processor(labels=LABELS, label_template=sentence)) for sentence in TWO
        ]
    expected = F.normalize(sum(F.normalize(one, dim=-1) for one in each), dim=-1)
    torch.testing.assert_close(F.normalize(features, dim=-1), expected, atol=1e-6, rtol=1e-5)
    lengths = sum(one.norm(dim=-1) for one in each) / len(TWO)
    torch.testing.assert_close(features.norm(dim=-1), lengths, atol=1e-5, rtol=1e-5)


def test_a_labels_features_do_not_depend_on_the_others_by_a_bit(tiny_model, tiny_processor):
    with torch.no_grad():
        together = tiny_model.get_label_features(**tiny_processor(labels=LABELS, label_template="openai-7"))
        for index, label in enumerate(LABELS):
            alone = tiny_model.get_label_features(**tiny_processor(labels=label, label_template="openai-7"))
            assert torch.equal(alone[0], together[index])


def test_features_are_remembered_and_told_from_those_of_other_templates(tiny_model, tiny_processor, monkeypatch):
    encoded = []
    encode = type(tiny_model.label_encoder)._encode_in_pieces
    monkeypatch.setattr(
        type(tiny_model.label_encoder), "_encode_in_pieces", lambda *args: encoded.append(1) or encode(*args)
    )
    with torch.no_grad():
        several = tiny_processor(labels=LABELS, label_template=TWO)
        first = tiny_model.get_label_features(**several)
        assert torch.equal(first, tiny_model.get_label_features(**several))
        assert len(encoded) == 1
        # The same sentences as labels of their own: the same ids in another shape.
        flat = {name: value.flatten(0, 1) for name, value in several.items()}
        assert tiny_model.get_label_features(**flat).shape[0] == len(LABELS) * len(TWO)
        assert len(encoded) == 2


def test_training_reaches_the_prompts_through_every_sentence(tiny_model, tiny_processor, pixel_values):
    tiny_model.train()
    inputs = tiny_processor(labels=LABELS, label_template=TWO)
    targets = torch.eye(len(LABELS))[: len(pixel_values)]
    losses = [tiny_model(pixel_values, **inputs, labels=targets).loss for _ in range(2)]
    assert torch.equal(*losses)  # what is remembered below the prompts is that of these sentences
    losses[0].backward()
    assert all(layer.tokens.grad.abs().sum() > 0 for layer in tiny_model.prompts.values())


def test_tokens_of_several_templates_cannot_be_had(tiny_model, tiny_processor, pixel_values):
    inputs = tiny_processor(labels=LABELS, label_template=TWO)
    with pytest.raises(ValueError, match=r"must have shape \(labels, tokens\) with at least one label, got \(4, 2, "):
        tiny_model(pixel_values, **inputs, output_hidden_states=True)
    with pytest.raises(ValueError, match=r"or \(labels, templates, tokens\)"):
        tiny_model.get_label_features(torch.zeros(1, 2, 3, 4, dtype=torch.long))


@pytest.mark.parametrize("template", ["openai-7", TWO])
def test_a_saved_processor_keeps_what_it_was_given(tiny_processor, tmp_path, template):
    processor = RamProcessor(tiny_processor.image_processor, tiny_processor.tokenizer, label_template=template)
    processor.save_pretrained(tmp_path)
    loaded = RamProcessor.from_pretrained(tmp_path)
    assert loaded.label_template == template
    assert torch.equal(loaded(labels=LABELS)["input_ids"], processor(labels=LABELS)["input_ids"])


def test_the_mean_of_one_direction_is_itself():
    features = torch.randn(3, 1, 8, generator=torch.Generator().manual_seed(0)) * 5
    torch.testing.assert_close(mean_direction(features), features[:, 0])
    assert mean_direction(features.half()).dtype == torch.float16
