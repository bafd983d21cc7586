"""Label lists as people write them."""

import pytest

from ram_hf.tagging.label_lists import read_vocabulary
from ram_hf.tagging.paths import printable


def names_of(*arguments) -> list[str]:
    return [label.name for label in read_vocabulary(*arguments).vocabulary.labels]


FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


@pytest.mark.parametrize(
    "label", ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0915\u094d\u200d\u0937", FAMILY]
)
def test_joiners_stay(label, tmp_path):
    assert names_of(f"dog, {label}", None) == ["dog", label]
    (tmp_path / "labels.txt").write_text(f"{label}\n", encoding="utf-8")
    assert names_of(None, tmp_path / "labels.txt") == [label]
    assert printable(label) == label


@pytest.mark.parametrize("space", ["\u00a0", "\u3000", "\u202f", "\t"])
def test_every_kind_of_space_is_a_space(space):
    assert names_of(f"red{space}car, dog", None) == ["red car", "dog"]


@pytest.mark.parametrize("char", ["\x00", "\x1b", "\x85", "\u2028", "\u2029", "\ud800", "\uffff"])
def test_control_characters_are_refused(char):
    with pytest.raises(ValueError, match="A label holds a control character"):
        names_of(f"a{char}b", None)


def test_labels_that_are_one_to_the_tokenizer_are_merged_with_a_word():
    vocabulary, notes = read_vocabulary("owl, Owl, OWL, red  car, red car, cafe\u0301, caf\u00e9, owls", None)
    assert [label.name for label in vocabulary.labels] == ["owl", "red  car", "caf\u00e9", "owls"]
    assert notes == [
        "The label 'Owl' is 'owl' to the model: they are one.",
        "The label 'OWL' is 'owl' to the model: they are one.",
        "The label 'red car' is 'red  car' to the model: they are one.",
    ]
