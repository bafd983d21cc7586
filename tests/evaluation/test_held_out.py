"""Labels left out of the reference in turn: each is judged as one that the model does not know."""

import numpy as np
import pytest
import torch

from ram_hf.evaluation.held_out import Reference, collect_evidence, deal_labels, without
from ram_hf.model.modeling_ram import RamModel

from .tiny import LABEL_NAMES, make_batches, make_label_features, make_model


@pytest.fixture
def model():
    return make_model()


def reference_of(names, features) -> Reference:
    return Reference(list(names), features)


def collect(model, reference, folds):
    return collect_evidence(
        model,
        make_batches(with_boxes=False),
        label_names=LABEL_NAMES,
        label_features=make_label_features(),
        reference=reference,
        folds=folds,
    )


@pytest.fixture
def readings(monkeypatch):
    """The reference labels that images were read with, one entry a batch."""
    found = []
    encode = RamModel.encode_images
    monkeypatch.setattr(
        RamModel,
        "encode_images",
        lambda model, pixels: found.append(model.config.reference_labels) or encode(model, pixels),
    )
    return found


def test_every_label_is_dealt_once_by_the_seed():
    folds = deal_labels(11, num_folds=3, seed=0)
    assert sorted(label for fold in folds for label in fold) == list(range(11))
    assert [len(fold) for fold in folds] == [4, 4, 3]
    assert folds == deal_labels(11, num_folds=3, seed=0) != deal_labels(11, num_folds=3, seed=1)
    assert deal_labels(2, num_folds=5, seed=0) in ([[0], [1]], [[1], [0]])


def test_evidence_is_that_of_a_reference_without_the_label(model, readings):
    """Label by label, with the reference reduced by hand."""
    features, folds = make_label_features(), [[0, 3], [1, 2, 4, 5]]
    found = collect(model, reference_of(LABEL_NAMES, features), folds)
    pixels = torch.cat([batch["pixel_values"] for _, batch in make_batches(with_boxes=False)])
    targets = torch.cat([batch["labels"] for _, batch in make_batches(with_boxes=False)]).numpy()
    for fold, evidence in zip(folds, found, strict=True):
        others = [label for label in range(6) if label not in fold]
        assert [LABEL_NAMES[label] for label in others] in readings
        model.set_reference_labels([LABEL_NAMES[label] for label in others], features[others])
        with torch.no_grad():
            stored = model.encode_images(pixels)
            expected = model.score_stored(stored, features[fold])
        assert evidence.label_names == [LABEL_NAMES[label] for label in fold]
        np.testing.assert_allclose(evidence.global_logits, expected.global_logits, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(evidence.local_logits, expected.local_logits, rtol=1e-3, atol=1e-2)
        np.testing.assert_allclose(evidence.statistics, stored.statistics, rtol=1e-3, atol=1e-2)
        np.testing.assert_array_equal(evidence.targets, targets[:, fold])


def test_labels_that_are_no_reference_labels_share_a_reading(model, readings):
    others = reference_of(["sky", "mouse", "tea"], torch.randn(3, 24, generator=torch.Generator().manual_seed(5)))
    assert len(collect(model, others, [[0, 1], [2, 3], [4, 5]])) == 3
    assert len(readings) == len(make_batches())
    assert all(names == ["sky", "mouse", "tea"] for names in readings)


def test_a_label_of_another_name_and_the_same_features_is_left_out_too():
    features = make_label_features()
    reference = reference_of(["Dog", "mouse"], torch.stack([3 * features[0], -features[1]]))
    assert without(reference, features[:1]).names == ["mouse"]
    with pytest.raises(ValueError, match="none of the 2 reference labels is left"):
        without(reference, torch.stack([features[0], -features[1]]))


def test_no_image_is_told(model):
    with pytest.raises(ValueError, match="no image came"):
        collect_evidence(
            model,
            [],
            label_names=LABEL_NAMES,
            label_features=make_label_features(),
            reference=reference_of(LABEL_NAMES, make_label_features()),
            folds=[[0], [1]],
        )
