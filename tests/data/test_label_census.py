"""Labels that no image has: refused when it is all of them, told when it is some."""

import json
import logging

import numpy as np
import pytest

from ram_hf.data.batches import BatchLoader, Sample
from ram_hf.data.label_census import LabelCensus, Tally, add_tallies, check_tally, prepared_tally
from ram_hf.data.streams import RowStream


@pytest.mark.parametrize(
    ("seen", "others", "message"),
    [
        ("Dog", ["cat", "dog"], r"'Dog' \(did you mean 'dog'\?\)\. They have 'cat', 'dog'\."),
        ("DOG", ["dog"], r"did you mean 'dog'"),
        ("traffic light", [" traffic light "], r"did you mean ' traffic light '"),
        ("traffic_light", ["Traffic Light"], r"did you mean 'Traffic Light'"),
        ("elefant", ["elephant", "cow"], r"did you mean 'elephant'"),
        ("zebra", ["dog"], r"'zebra'\. They have 'dog'\."),
        ("zebra", [], r"They have no label at all\."),
        ("zebra", [f"label {index}" for index in range(30)], r"'label 9', \.\.\."),
    ],
)
def test_nothing_to_learn_is_refused(seen, others, message):
    with pytest.raises(ValueError, match=f"none of 7 images has one of the labels .*{message}"):
        check_tally(Tally(7, {seen: 0}, others))


def test_single_labels_without_an_image_are_told(caplog):
    with caplog.at_level(logging.WARNING):
        check_tally(Tally(7, {"dog": 3, "Cat": 0, "zebra": 0}, ["cat"]))
    assert "2 of 3 labels are on none of 7 images: 'Cat' (did you mean 'cat'?), 'zebra'." in caplog.text
    caplog.clear()
    check_tally(Tally(7, {"dog": 3}, ["cat"]))
    assert not caplog.text


def test_processes_add_up():
    first, second = Tally(3, {"a": 1, "b": 0}, ["x"]), Tally(4, {"a": 0, "b": 2}, ["w", "x"])
    assert add_tallies([first, second]) == Tally(7, {"a": 1, "b": 2}, ["w", "x"])


def test_the_loader_counts_what_it_hands_on(make_numbered):
    def prepare(row, rng) -> Sample:
        labels = np.array([row["number"] == 1, -1], dtype=np.float32)
        return Sample(np.zeros(1, dtype=np.float32), labels, other_labels=(f"other {row['number']}",))

    census = LabelCensus(["one", "unknown"])
    stream = RowStream(make_numbered(3, None), seed=0, shuffle_buffer=0)
    with BatchLoader(stream, prepare, batch_size=3, num_workers=2, census=census) as loader:
        batches = iter(loader)
        next(batches)
        assert census.tally() == Tally(3, {"one": 1, "unknown": 0}, ["other 0", "other 1", "other 2"])
        assert not census.is_complete
        next(batches)
        assert census.is_complete


def test_the_count_of_a_prepared_folder(tmp_path):
    assert prepared_tally(tmp_path, "train", ["Dog"]) is None
    report = {"split": "train", "images": 5, "images_of_label": {"dog": 4, "cat": 1}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert prepared_tally(tmp_path, "train", ["Dog", "cat"]) == Tally(5, {"Dog": 0, "cat": 1}, ["dog"])
    assert prepared_tally(tmp_path, "test", ["Dog"]) is None
    for other in ("[]", "{", '{"split": "train", "images_of_label": 3}'):
        (tmp_path / "report.json").write_text(other)
        assert prepared_tally(tmp_path, "train", ["Dog"]) is None
