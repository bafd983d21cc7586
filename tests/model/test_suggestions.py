"""What a person who made a typo may have meant."""

from ram_hf.model.suggestions import did_you_mean


def test_the_nearest_name():
    assert did_you_mean("dgo", ["cat", "dog"]) == "Did you mean 'dog'?"


def test_the_first_names_when_none_is_near():
    assert did_you_mean("zzz", ["cat", "dog"]) == "There are 'cat', 'dog'."
    assert did_you_mean("zzz", map(str, range(11))).endswith("'9', ...")
    assert did_you_mean("zzz", map(str, range(10))).endswith("'9'.")
    assert did_you_mean("zzz", []) == "There are none."
