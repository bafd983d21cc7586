"""Captions are English, name what they must, and nothing else."""

import json

import numpy as np
import pytest

from ram_hf.scenes import captions
from ram_hf.scenes.captions import is_plural, with_article, write_caption
from ram_hf.scenes.draws import Draws

THINGS = [("dog", "hound"), ("apple", "red apple"), ("skis", "pair of skis"), ("glass of milk", "milk"), ("urn",)]


@pytest.fixture
def draws() -> Draws:
    return Draws(np.random.default_rng(0))


def named(caption: str, names: tuple[str, ...]) -> bool:
    return any(name in caption for name in names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dog", "a dog"),
        ("apple", "an apple"),
        ("unicorn", "a unicorn"),
        ("uniform", "a uniform"),
        ("uninteresting stone", "an uninteresting stone"),
        ("umbrella", "an umbrella"),
        ("urn", "an urn"),
        ("urinal", "a urinal"),
        ("underground train", "an underground train"),
        ("hourglass", "an hourglass"),
        ("house", "a house"),
        ("ewe", "a ewe"),
        ("european badger", "a european badger"),
        ("eight ball", "an eight ball"),
        ("one-humped camel", "a one-humped camel"),
        ("onion", "an onion"),
        ("xmas tree", "a xmas tree"),
        ("bus", "a bus"),
        ("wine glass", "a wine glass"),
        ("octopus", "an octopus"),
        ("rhinoceros", "a rhinoceros"),
        ("iris", "an iris"),
        ("bunch of grapes", "a bunch of grapes"),
        ("cup of coffee", "a cup of coffee"),
        ("building with columns", "a building with columns"),
        ("skis", "some skis"),
        ("mice", "some mice"),
        ("comedy and tragedy masks", "some comedy and tragedy masks"),
        ("fork and knife", "a fork and knife"),
        ("red wine", "some red wine"),
        ("statue of liberty", "the statue of liberty"),
        ("planet earth", "planet earth"),
    ],
)
def test_articles(name, expected):
    assert with_article(name) == expected


def test_verbs_follow_the_number(draws):
    captions = {write_caption([("jeans",)], draws) for _ in range(300)}
    assert {"there are jeans", "there are some jeans", "look at these jeans"} <= captions
    assert not any(" is " in caption or "a jeans" in caption for caption in captions)
    captions = {write_caption([("owl",)], draws) for _ in range(300)}
    assert {"there is an owl", "an owl", "my owl", "look at this owl"} <= captions


def test_all_names_everything_in_any_order(draws):
    captions = [write_caption(THINGS, draws, mode="all") for _ in range(200)]
    assert all(named(caption, names) for caption in captions for names in THINGS)
    assert len(set(captions)) > 190
    assert 60 < sum(caption.find("urn") < caption.find("apple") for caption in captions) < 140


def test_salient_names_the_first_and_sometimes_the_second(draws):
    captions = [write_caption(THINGS, draws, mode="salient") for _ in range(1000)]
    assert all(named(caption, THINGS[0]) for caption in captions)
    assert np.mean([named(caption, THINGS[1]) for caption in captions]) == pytest.approx(0.2, abs=0.04)
    assert not any(named(caption, names) for caption in captions for names in THINGS[2:])


def test_labels_and_synonyms_are_both_used(draws):
    share = np.mean(["hound" in write_caption([("dog", "hound")], draws) for _ in range(1000)])
    assert share == pytest.approx(0.25, abs=0.05)


def test_every_template_fills(draws):
    for count, templates in ((1, captions._ONE), (2, captions._TWO), (4, captions._MANY)):
        written = {write_caption([(f"thing{n}",) for n in range(count)], draws) for _ in range(400)}
        assert len(written) >= len(set(templates))
        assert not any("{" in caption or "  " in caption for caption in written)


def test_wrong_arguments(draws):
    with pytest.raises(ValueError, match="at least one thing"):
        write_caption([], draws)
    with pytest.raises(ValueError, match="`mode` must be 'salient' or 'all', got 'some'"):
        write_caption(THINGS, draws, mode="some")


@pytest.mark.shared
def test_reference_names_read_well(shared_dir):
    concepts = json.loads((shared_dir / "scenes" / "concepts.json").read_text(encoding="utf-8"))
    names = [name for concept in concepts for name in (concept["label"], *concept["synonyms"])]
    plural = {name for name in names if is_plural(name)}
    assert {"cattle", "grapes", "scissors", "jeans", "bananas", "geese", "salad greens"} <= plural
    assert not {"cactus", "mattress", "citrus", "praying mantis", "pair of skis", "drum with sticks"} & plural
    for name in names:
        phrase = with_article(name)
        assert not phrase.startswith("a ") or phrase[2] not in "aio" or phrase[2:5] == "one", phrase
