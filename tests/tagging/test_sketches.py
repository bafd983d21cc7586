"""Sketches of patches: near what they stand for."""

import pytest
import torch
import torch.nn.functional as F

from ram_hf.tagging.sketches import sketch_basis, sketch_images, sketched_similarity


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_exact_where_nothing_is_left_out():
    """As many vectors as patches, as many directions as there are: but for the rounding to int8."""
    patches, labels = unit(3, 5, 8), unit(4, 8, seed=1)
    basis = sketch_basis(unit(20, 8, seed=2), 8)
    torch.testing.assert_close(basis @ basis.T, torch.eye(8), rtol=0, atol=1e-5)
    whole = unit(3, 8, seed=3)
    sketches = sketch_images(whole, patches, basis, 5)
    assert (sketches.dtype, sketches.shape) == (torch.int8, (3, 6, 8))
    of_whole, found = sketched_similarity(sketches, labels, basis)
    torch.testing.assert_close(of_whole, whole @ labels.T, rtol=0, atol=0.02)
    torch.testing.assert_close(found, (patches @ labels.T).amax(dim=1), rtol=0, atol=0.02)


def test_patches_that_are_alike_become_one():
    centres, labels = unit(2, 4, 32), unit(6, 32, seed=1)
    patches = centres.repeat_interleave(8, dim=1) + 0.01 * torch.randn(2, 32, 32)
    basis = sketch_basis(labels, 6)  # the labels' own directions are enough for them
    sketches = sketch_images(unit(2, 32), F.normalize(patches, dim=-1), basis, 4)
    _, found = sketched_similarity(sketches, labels, basis)
    torch.testing.assert_close(found, (centres @ labels.T).amax(dim=1), rtol=0, atol=0.05)


def test_more_directions_than_reference_labels():
    basis = sketch_basis(unit(2, 8), 5)
    torch.testing.assert_close(basis @ basis.T, torch.eye(5), rtol=0, atol=1e-5)
    inside = unit(2, 8) @ basis[:2].T
    assert inside.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
