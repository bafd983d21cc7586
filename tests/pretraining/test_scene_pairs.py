"""Batches of captioned scenes, on drawings made on the spot."""

import pytest
import torch
from torch.utils.data import DataLoader

from ram_hf.pretraining.scene_pairs import ScenePairs, train_tokenizer
from ram_hf.scenes.renderer import SceneRenderer
from tests.scene_source import write_bare_source

TEMPLATE = "A photo of a {label}."


@pytest.fixture(scope="module")
def renderer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "source"
    write_bare_source(folder)
    return SceneRenderer(folder, size=32)


@pytest.fixture(scope="module")
def tokenizer(renderer):
    return train_tokenizer(renderer, vocab_size=600, captions=500)


def make_pairs(renderer, tokenizer, **options):
    defaults = {"label_template": TEMPLATE, "batch_size": 6, "text_length": 24}
    return ScenePairs(renderer, tokenizer, **{**defaults, **options})


def test_a_batch_holds_pictures_captions_and_a_sentence_for_each_label(renderer, tokenizer):
    labels = [concept.label for concept in renderer.parts.concepts]
    batch = make_pairs(renderer, tokenizer).batch(0)
    assert batch.pixels.shape == (6, 3, 32, 32)
    assert batch.pixels.dtype == torch.uint8
    assert batch.input_ids.shape == (6 + len(labels), 24)
    assert batch.named.sum(dim=1).tolist() == [1] * 6  # single objects
    names = {concept.label: concept.names for concept in renderer.parts.concepts}
    for ids, named in zip(batch.input_ids, batch.named, strict=False):
        caption = tokenizer.decode(ids, skip_special_tokens=True)
        label = labels[int(named.argmax())]
        assert any(name.lower() in caption for name in names[label]), (caption, label)


def test_scenes_name_one_thing_or_two(renderer, tokenizer):
    pairs = make_pairs(renderer, tokenizer, scene_share=1.0, objects=(3, 3), batch_size=60)
    counts = pairs.batch(0).named.sum(dim=1)
    assert set(counts.tolist()) == {1, 2}
    assert counts.eq(1).sum() > counts.eq(2).sum()


def test_batches_follow_from_seed_and_index_whatever_the_workers(renderer, tokenizer):
    alone = [make_pairs(renderer, tokenizer, start=3).batch(index) for index in range(3, 7)]
    loader = DataLoader(make_pairs(renderer, tokenizer, start=3), batch_size=None, num_workers=2)
    for expected, batch, _ in zip(alone, loader, range(4), strict=False):
        assert torch.equal(expected.pixels, batch.pixels)
        assert torch.equal(expected.input_ids, batch.input_ids)
        assert torch.equal(expected.named, batch.named)
    assert not torch.equal(alone[0].pixels, make_pairs(renderer, tokenizer, seed=1).batch(3).pixels)


@pytest.mark.parametrize("text", ["a red apple", "Ω犬, naïve! ñ", "xylophone 123"])
def test_the_tokenizer_can_spell_anything(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert ids.count(tokenizer.eos_token_id) == 1  # nothing in the text reads as its end
    assert "".join(tokenizer.decode(ids, skip_special_tokens=True).split()) == "".join(text.lower().split())
    assert tokenizer.eos_token_id == len(tokenizer) - 1


def test_the_tokenizer_survives_saving(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = type(tokenizer).from_pretrained(tmp_path)
    assert loaded("an apple and a dog")["input_ids"] == tokenizer("an apple and a dog")["input_ids"]


def test_a_vocabulary_without_all_bytes_is_refused(renderer):
    with pytest.raises(ValueError, match="`vocab_size` must be at least 514"):
        train_tokenizer(renderer, vocab_size=300)
