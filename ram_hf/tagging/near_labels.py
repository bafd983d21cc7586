"""Labels that are nearly one to a model, whatever they are to people."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

# What all features of a CLIP have in common, which is much, is told by what these have in common; see `directions`.
# fmt: off
EVERYDAY_WORDS = (
    "apple", "baby", "bicycle", "bird", "boat", "book", "bottle", "bread", "bridge", "building", "bus", "cake",
    "camera", "car", "cat", "chair", "cloud", "computer", "cow", "cup", "dog", "door", "fish", "flower", "fruit",
    "guitar", "hat", "horse", "house", "kitchen", "lamp", "man", "mountain", "night", "painting", "phone", "plant",
    "river", "road", "sand", "shoe", "sky", "snow", "table", "toy", "train", "tree", "wall", "window", "woman",
)
# fmt: on
_ROWS_AT_ONCE = 1024


class NearPair(NamedTuple):
    """Two names that are nearly one.

    Args:
        likeness: cosine of their directions, in [-1, 1].
        first: row of the one.
        second: row of the other, which is larger.
    """

    likeness: float
    first: int
    second: int


def directions(features: Tensor, everyday: Tensor) -> Tensor:
    """Unit vectors of label features without what everyday words share.

    Any two texts are alike to a CLIP, to one model more than to another (arXiv 2203.02053); without their mean, a
    cosine depends less on the model.

    Args:
        features: of labels, shape (L, D).
        everyday: of [`EVERYDAY_WORDS`], shape (W, D).

    Returns:
        Shape (L, D), each row of length 1.
    """
    mean = F.normalize(everyday.float(), dim=-1).mean(dim=0)
    return F.normalize(F.normalize(features.float(), dim=-1) - mean, dim=-1)


def near_pairs(
    unit_vectors: Tensor, owners: Sequence[int], *, at_least: float, most: int
) -> tuple[list[NearPair], int]:
    """Pairs of names of different owners that are alike.

    Ten thousand names are fifty million pairs: they are looked through in pieces.

    Args:
        unit_vectors: of names, shape (L, D).
        owners: for each name a number; names of one owner may be alike.
        at_least: from which cosine on.
        most: how many pairs to return.

    Returns:
        The nearest pairs, the nearest first, and how many there are in all.
    """
    owner = torch.tensor(owners, device=unit_vectors.device)
    pairs: list[NearPair] = []
    number = 0
    for begin in range(0, len(unit_vectors), _ROWS_AT_ONCE):
        rows = unit_vectors[begin : begin + _ROWS_AT_ONCE]
        likeness = rows @ unit_vectors[begin:].T  # (rows, L - begin)
        others = owner[begin : begin + len(rows), None] != owner[None, begin:]
        first, second = ((likeness >= at_least) & others).triu(1).nonzero(as_tuple=True)
        number += len(first)
        cosines, places = likeness[first, second].topk(min(most, len(first)))
        columns = (cosines, first[places] + begin, second[places] + begin)
        pairs += map(NearPair._make, zip(*(column.tolist() for column in columns), strict=True))
    pairs.sort(key=lambda pair: (-pair.likeness, pair.first, pair.second))
    return pairs[:most], number


__all__ = ["EVERYDAY_WORDS", "NearPair", "directions", "near_pairs"]
