"""Ranking of an index by labels: as the model judges the pictures themselves."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ram_hf.cli import main
from ram_hf.tagging.feature_encoder import FeatureEncoder
from ram_hf.tagging.index import ImageIndex, IndexDescription, IndexedImage, IndexWriter, StoredFeatures
from ram_hf.tagging.search import LabelSearch
from ram_hf.tagging.sketches import sketch_images
from ram_hf.tagging.stored_scores import score_stored

from .hostile import photograph

NUM_IMAGES, BROKEN = 12, 7
LABELS = ["dog", "red car"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(NUM_IMAGES):
        photograph(60, 40, seed=number).save(folder / f"{number:02}.png")
    (folder / f"{BROKEN:02}.png").write_bytes(b"nothing")
    return folder


@pytest.fixture(scope="module")
def indexes(photographs, tmp_path_factory, calibrated_folder):
    """With patches, and without."""
    folder = tmp_path_factory.mktemp("indexes")
    for name, more in (("patches", []), ("small", ["--without-patches"])):
        words = ["index", photographs, "--output", folder / name, "--model", calibrated_folder, "--workers", 0, *more]
        assert main(list(map(str, words))) == 0
    return {name: ImageIndex(folder / name) for name in ("patches", "small")}


@pytest.fixture
def computed(photographs, calibrated_model, tiny_processor):
    """What the model says of the pictures, but for the broken one."""
    numbers = [number for number in range(NUM_IMAGES) if number != BROKEN]
    images = [str(photographs / f"{number:02}.png") for number in numbers]
    with torch.no_grad():
        features = calibrated_model.encode_images(tiny_processor(images=images)["pixel_values"])
        labels = calibrated_model.get_label_features(**tiny_processor(labels=LABELS))
        return numbers, calibrated_model.score_stored(features, labels)


def check(hits, numbers, values, tolerance):
    expected = dict(zip(numbers, values.tolist(), strict=True))
    assert sorted(hit.number for hit in hits) == numbers
    assert [hit.value for hit in hits] == sorted((hit.value for hit in hits), reverse=True)
    for number, value in hits:
        assert value == pytest.approx(expected[number], abs=tolerance)


def test_probabilities_of_one_and_of_two_labels(indexes, calibrated_model, tiny_processor, computed):
    search = LabelSearch(indexes["patches"], calibrated_model, tiny_processor)
    numbers, output = computed
    assert search.gives_probabilities
    assert output.probabilities.std(dim=0).min() > 0.01  # there is something to rank
    check(search.best(search.encode(["dog"]), 99), numbers, output.probabilities[:, 0], 3e-3)
    check(search.best(search.encode(LABELS), 99), numbers, output.probabilities.prod(dim=1), 3e-3)
    assert search.best(search.encode(["dog"]), 3) == search.best(search.encode(["dog"]), 99)[:3]
    assert search.best(search.encode(["dog"], template="{label}!"), 3) != search.best(search.encode(["dog"]), 3)


def test_few_are_looked_at_in_full(indexes, calibrated_model, tiny_processor, computed):
    numbers, output = computed
    search = LabelSearch(indexes["patches"], calibrated_model, tiny_processor, looked_at=4)
    whole = dict(zip(numbers, output.probabilities[:, 0].tolist(), strict=True))
    hits = search.best(search.encode(["dog"]), 4)
    assert len(hits) == 4
    assert all(value == pytest.approx(whole[number], abs=3e-3) for number, value in hits)
    assert len(search.best(search.encode(["dog"]), 9)) == 9  # no fewer than are asked for


def test_a_single_patch_decides_what_is_looked_at(calibrated_model, tiny_processor, tmp_path):
    """Of two hundred images three have a patch of the label: found though ten alone are looked at in full."""
    model = copy.deepcopy(calibrated_model)
    model.config.calibration = {**model.config.calibration, "evidence_weights": [0.0, 0.02]}
    encoder = FeatureEncoder(model, tiny_processor)
    with torch.no_grad():
        label = F.normalize(model.get_label_features(**tiny_processor(labels=["dog"])), dim=-1)[0]
    generator = torch.Generator().manual_seed(0)
    patches = F.normalize(torch.randn(200, 16, 48, generator=generator), dim=-1)
    shown = [20, 90, 170]
    patches[shown, 5] = label
    whole = F.normalize(torch.randn(200, 48, generator=generator), dim=-1)
    features = StoredFeatures(
        whole.half().numpy(),
        np.zeros((200, 6), "f4"),
        patches.half().numpy(),
        np.zeros((200, 16), "f4"),
        np.full((200, 16), 5, "f4"),
        sketch_images(whole, patches, torch.from_numpy(encoder.basis), 16).numpy(),
    )
    description = IndexDescription("some", "abc", 48, 16, ("/photos",), complete=True)
    description.write(tmp_path, encoder.basis)
    writer = IndexWriter(tmp_path, description, shard_size=64)
    writer.add([IndexedImage(0, f"{number}.jpg", 1, 1, 1, 1) for number in range(200)], features)
    writer.flush()
    search = LabelSearch(ImageIndex(tmp_path), model, tiny_processor, looked_at=10)
    assert sorted(hit.number for hit in search.best(search.encode(["dog"]), 3)) == shown


def test_a_model_that_is_not_calibrated(indexes, calibrated_model, tiny_processor, computed):
    model = copy.deepcopy(calibrated_model)
    model.config.calibration = None
    numbers, output = computed
    search = LabelSearch(indexes["patches"], model, tiny_processor)
    assert not search.gives_probabilities
    assert "not calibrated" in search.ranking
    logits = (output.global_logits + output.local_logits)[:, 1]
    check(search.best(search.encode(["red car"]), 99), numbers, logits, float(logits.abs().max()) * 5e-3)


def test_without_patches(indexes, calibrated_model, tiny_processor, computed):
    numbers, output = computed
    search = LabelSearch(indexes["small"], calibrated_model, tiny_processor)
    assert not search.gives_probabilities
    assert "no patches" in search.ranking
    check(search.best(search.encode(["dog"]), 99), numbers, output.global_logits[:, 0], 0.02)
    model = copy.deepcopy(calibrated_model)
    model.config.calibration = {**model.config.calibration, "evidence_weights": [0.4, 0.0]}
    with torch.no_grad():
        features = ImageIndex(indexes["patches"].folder).features(np.array(numbers))
        search = LabelSearch(indexes["small"], model, tiny_processor)
        expected = score_stored(model, features, search.encode(["dog"])).probabilities[:, 0]
    assert search.gives_probabilities  # of evidence that the index has
    check(search.best(search.encode(["dog"]), 99), numbers, expected, 1e-4)
