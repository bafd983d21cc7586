"""The list of common nouns: what anybody would take for names of things, each once."""

import re

from ram_hf import COMMON_NOUNS
from ram_hf.data.label_set import LabelSet


def test_names_of_things_each_once():
    assert 700 <= len(COMMON_NOUNS) <= 1000
    LabelSet(COMMON_NOUNS)  # refuses what comes twice
    assert all(re.fullmatch(r"[a-z][a-z'-]*( [a-z'-]+)?", name) for name in COMMON_NOUNS)
    assert {"dog", "tree", "car", "cup", "traffic light"} <= set(COMMON_NOUNS[:300])


def test_no_plural_beside_its_singular():
    names = set(COMMON_NOUNS)
    assert not [name for name in names for ending in ("s", "es") if name + ending in names]
    assert not [name for name in names if name.endswith("y") and f"{name[:-1]}ies" in names]
