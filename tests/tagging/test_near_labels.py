"""Labels that are nearly one to a model, found among many."""

import torch
from torch.nn import functional as F

from ram_hf.tagging.near_labels import directions, near_pairs


def test_pairs_are_those_of_all_cosines():
    generator = torch.Generator().manual_seed(0)
    vectors = F.normalize(torch.randn(2500, 6, generator=generator), dim=-1)
    owners = [number // 2 for number in range(2500)]
    cosines = vectors @ vectors.T
    expected = {
        (first, second)
        for first, second in (cosines >= 0.98).nonzero().tolist()
        if first < second and owners[first] != owners[second]
    }
    found, number = near_pairs(vectors, owners, at_least=0.98, most=10_000)
    assert {(pair.first, pair.second) for pair in found} == expected
    assert len(found) == len(expected) == number > 100
    assert near_pairs(vectors, owners, at_least=0.98, most=7) == (found[:7], number)
    assert [pair.likeness for pair in found] == sorted((pair.likeness for pair in found), reverse=True)


def test_what_all_texts_share_counts_for_nothing():
    generator = torch.Generator().manual_seed(0)
    own, words, shared = (torch.randn(size, 64, generator=generator) for size in (200, 50, 1))
    raw = F.normalize(own + 3 * shared, dim=-1)
    assert (raw @ raw.T).mean() > 0.85
    units = directions(own + 3 * shared, words + 3 * shared)
    likeness = (units @ units.T).fill_diagonal_(0)
    assert likeness.mean().abs() < 0.1
    assert likeness.max() < 0.8
    torch.testing.assert_close(units.norm(dim=-1), torch.ones(200))
