"""What a vocabulary asks a model, and what it reports of the answer."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ram_hf.tagging.vocabulary import Label, Vocabulary
from ram_hf.tagging.vocabulary_checks import VocabularyError

DOGS = Vocabulary(
    (
        Label("dog", "Hund", match=("dog", "hound"), parents=("animal",), threshold=0.4),
        Label("chihuahua", parents=("dog",)),
        Label("puppy"),
        Label("animal", "Tier", match=(), parents=("living thing",)),
        Label("tree", parents=("living thing", "plant")),
    ),
    background=("wall",),
    exclude=("living thing",),
    replace=(("puppy", "dog"),),
    force=("holiday2024",),
)


def shown(vocabulary, scores, **options) -> list[tuple[str, float]]:
    return [tag[:2] for tag in vocabulary.report(scores, **options)]


def test_the_model_is_asked_for_names_to_match_and_for_the_background():
    assert DOGS.candidates == (("dog", "hound"), ("chihuahua",), ("puppy",), ("tree",), ("wall",))
    assert Vocabulary.of(["dog", "red car"]).candidates == (("dog",), ("red car",))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.5, 0.1, 0.1, 0.1, 0.9], {"Hund": 0.5, "Tier": 0.5}),
        ([0.3, 0.1, 0.1, 0.1, 0.9], {}),
        ([0.1, 0.3, 0.1, 0.1, 0.9], {"chihuahua": 0.3, "Hund": 0.3, "Tier": 0.3}),
        ([0.6, 0.3, 0.1, 0.1, 0.9], {"Hund": 0.6, "Tier": 0.6, "chihuahua": 0.3}),
        ([0.1, 0.1, 0.3, 0.25, 0.0], {"Hund": 0.3, "Tier": 0.3, "tree": 0.25, "plant": 0.25}),
    ],
    ids=["own threshold", "below it", "implied", "found and implied", "replaced"],
)
def test_report(scores, expected):
    assert shown(DOGS, scores, threshold=0.2) == [("holiday2024", 1.0), *expected.items()]


def test_thresholds_of_a_label_then_of_the_vocabulary_then_of_the_run():
    labels = (Label("dog", threshold=0.5), Label("cat"))
    assert shown(Vocabulary(labels, threshold=0.2), [0.4, 0.3], threshold=0.9) == [("cat", 0.3)]
    assert shown(Vocabulary(labels), [0.6, 0.3], threshold=0.9) == [("dog", 0.6)]
    assert shown(Vocabulary(labels), [0.4, 0.3]) == [("cat", 0.3)]


def test_top_k_counts_what_is_found():
    assert [name for name, _ in shown(DOGS, [0.5, 0.1, 0.6, 0.3, 0.9], top_k=2)] == [
        "holiday2024",
        *("Hund", "Tier", "tree", "plant"),
    ]
    excluded = Vocabulary((Label("pug", parents=("dog",)), Label("cat"), Label("owl")), exclude=("pug",))
    assert shown(excluded, [0.6, 0.3, 0.1], top_k=1) == [("dog", 0.6), ("cat", 0.3)]
    assert shown(Vocabulary.of(["owl", "cat"]), [0.5, 0.5], top_k=1) == [("cat", 0.5)]


def test_columns_say_where_a_tag_was_found():
    assert [(tag.label, tag.column) for tag in DOGS.report([0.1, 0.3, 0.1, 0.25, 0.9], threshold=0.2)] == [
        ("holiday2024", None),
        *(("chihuahua", 1), ("Hund", 1), ("Tier", 1), ("tree", 3), ("plant", 3)),
    ]


def test_places_in_a_tree_follow_first_parents():
    assert DOGS.levels_above("chihuahua") == ("Tier", "Hund")
    assert DOGS.levels_above("tree") == ()  # below an excluded one
    assert DOGS.levels_above("plant") == DOGS.levels_above("holiday2024") == ()
    turned = Vocabulary((Label("dog", parents=("animal",)),), replace=(("animal", "dog"),))
    assert turned.levels_above("dog") == ()
    assert shown(turned, [0.5]) == [("dog", 0.5)]


def test_what_outputs_can_hold():
    assert set(DOGS.reported) == {"holiday2024", "Hund", "Tier", "chihuahua", "tree", "plant"}
    assert not DOGS.is_plain
    assert Vocabulary.of(["dog", "cat"]).is_plain
    assert DOGS.lacking_beside(["Hund", "holiday2024"]) == ["Tier"]
    assert DOGS.lacking_beside(["plant"]) == ["holiday2024"]
    assert DOGS.least_score("Hund", 0.2) == 0.2
    assert DOGS.least_score("holiday2024", 0.2) == 1
    assert dataclasses.replace(DOGS, replace=()).least_score("Hund", 0.5) == 0.4
    assert DOGS.most_tags(1) == 4
    assert DOGS.most_tags(None) == 6


@pytest.mark.parametrize("scores", [[0.1] * 4, [[0.1] * 5], [0.1, 0.1, 0.1, 0.1, float("nan")]])
def test_scores_that_are_none_are_refused(scores):
    with pytest.raises(ValueError, match=r"There are 5 columns, and scores of|not finite"):
        DOGS.report(scores)


@pytest.mark.parametrize(
    ("fields", "message", "place"),
    [
        ({"labels": ()}, "There is no label", ("labels",)),
        ({"labels": (Label("a"), Label("a"))}, "The label 'a' comes twice", ("labels", "a")),
        ({"labels": (Label(" "),)}, "A name is empty: ' '", ("labels", " ")),
        ({"labels": (Label("a", threshold=2.0),)}, "from 0 to 1, got 2.0", ("labels", "a", "threshold")),
        ({"labels": (Label("a"),), "separator": ""}, "The separator is empty", ("separator",)),
        ({"labels": (Label("a", match=()),)}, "nothing is looked for", ("labels",)),
        ({"labels": (Label("a"),), "exclude": ("a",)}, "Every label is excluded", ("exclude",)),
    ],
)
def test_contradictions_name_their_place(fields, message, place):
    with pytest.raises(VocabularyError, match=message) as raised:
        Vocabulary(**fields)
    assert raised.value.place == place


NAMES = [f"label {number}" for number in range(6)]
OTHERS = ["animal", "thing"]


@st.composite
def vocabularies(draw) -> Vocabulary:
    """Labels that may imply later ones and others, some excluded, replaced or forced."""
    labels = []
    for number, name in enumerate(NAMES):
        above = [*NAMES[number + 1 :], *OTHERS]
        labels.append(
            Label(
                name,
                display=draw(st.sampled_from([None, f"shown {number}"])),
                match=draw(st.sampled_from([None, (name, f"synonym {number}")] + [()] * (number > 0))),
                parents=tuple(draw(st.lists(st.sampled_from(above), unique=True, max_size=3))),
            )
        )
    excluded = draw(st.lists(st.sampled_from([*NAMES[1:], *OTHERS]), unique=True, max_size=3))
    replace = draw(st.sampled_from([(), ((NAMES[1], NAMES[0]),), (("animal", "thing"), (NAMES[2], "animal"))]))
    to_resolve = dict(replace) if {"thing", "animal"} & set(excluded) else {}
    free = [name for name in [*NAMES, *OTHERS, "holiday"] if name not in excluded and name not in to_resolve]
    return Vocabulary(
        tuple(labels),
        background=("wall", "sky"),
        exclude=tuple(excluded),
        replace=replace,
        force=tuple(draw(st.lists(st.sampled_from(free), unique=True, max_size=2))),
        threshold=draw(st.sampled_from([None, 0.5])),
    )


@given(vocabularies(), st.data())
def test_invariants_of_reports(vocabulary, data):
    scores = np.array(data.draw(st.lists(st.floats(0, 1), min_size=8, max_size=8)))[: len(vocabulary.candidates)]
    top_k = data.draw(st.sampled_from([None, 1, 3]))
    tags = vocabulary.report(scores, top_k=top_k)
    names = [tag.label for tag in tags]
    replaced = dict(vocabulary.replace)
    shown_as = {label.name: label.shown for label in vocabulary.labels}

    assert len(set(names)) == len(names) <= vocabulary.most_tags(top_k)  # each name once, a parent too
    assert not {"wall", "sky"} & set(names)
    assert not {shown_as.get(name, name) for name in vocabulary.exclude} & set(names)
    for name in vocabulary.force:
        while name in replaced:
            name = replaced[name]
        assert shown_as.get(name, name) in names
    assert set(names) <= set(vocabulary.reported)
    assert vocabulary.lacking_beside(names) == []
    for tag in tags:
        assert tag.score == (1 if tag.column is None else scores[tag.column])
        assert tag.column is None or tag.score >= vocabulary.least_score(tag.label, None)
    found = [tag.score for tag in tags if tag.column is not None]
    assert found == sorted(found, reverse=True)


@given(vocabularies(), st.data())
def test_the_order_of_labels_changes_nothing(vocabulary, data):
    by_name = dict(zip(vocabulary.candidates, _scores(vocabulary, data), strict=True))
    top_k = data.draw(st.sampled_from([None, 1, 3]))
    other = dataclasses.replace(vocabulary, labels=tuple(data.draw(st.permutations(vocabulary.labels))))
    assert shown(vocabulary, [by_name[names] for names in vocabulary.candidates], top_k=top_k) == shown(
        other, [by_name[names] for names in other.candidates], top_k=top_k
    )


def _scores(vocabulary, data) -> list[float]:
    size = len(vocabulary.candidates)
    return data.draw(st.lists(st.sampled_from([0.1, 0.5, 0.6]), min_size=size, max_size=size))  # with equal ones
