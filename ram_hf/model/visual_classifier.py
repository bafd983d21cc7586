"""What labels look like, learned from unlabelled images: linear discriminants of patches in the place of words.

Words and patches lie apart in CLIP's space, so that a patch is often nearer to a wrong label's name than to the right
one's. A linear discriminant analysis of the patches that CLIP is surest of tells labels apart where patches lie.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .own_weight import own_weight
from .patch_collection import KeptPatches
from .reference_labels import is_same_label

# Published runs keep 512. By `benchmarks/adapt.py` 16 rank a little better on scenes and 512 on photographs, by half a
# point at most (docs/adapt.md).
PATCHES_PER_LABEL = 64
# What stands in the place of the published D / (n - 1) (arXiv 2605.25821), which makes discriminants fainter the more
# patches are kept: 0.0125 for 512 patches of COCO's 80 labels and a CLIP of width 512, 0.05 for VOC's 20. The larger
# it is, the further photographs fall below CLIP's own softmax; at 0.01 by a tenth of a point (docs/adapt.md).
_SHARPNESS = 0.01
# How the map from words to patches is kept from following chance; 0.1 to 10 rank within half a point of each other, by
# `benchmarks/adapt.py --constants`.
_MAP_RIDGE = 1.0
# A label's mean is drawn to what its words say as if so many patches had been seen there; 1 to 16 rank within a third
# of a point of each other, by the same.
_PATCHES_OF_WORDS = 4.0


class ClassifierTensors(NamedTuple):
    """What a visual classifier holds, for A labels that it was adapted to and joint width D.

    Attributes:
        features: of the labels, as encoded, shape (A, D): by these they are known again.
        means: where a label's patches lie, shape (A, D).
        precision: inverse of the covariance that the labels share, shrunk and scaled, shape (D, D).
        word_map: from a label's L2-normalised words to where its patches must lie, for every other label, shape
            (D, D).
        word_offset: what is added, shape (D,).
    """

    features: Tensor
    means: Tensor
    precision: Tensor
    word_map: Tensor
    word_offset: Tensor


class Discriminants(NamedTuple):
    """Linear functions of a patch h, `w_j h + b_j`, that say how much it shows of each of L labels.

    Attributes:
        weights: shape (L, D).
        biases: shape (L,); None for none.
    """

    weights: Tensor
    biases: Tensor | None


class VisualClassifier(nn.Module):
    """The discriminants of any list of labels, saved with the model in float32.

    Args:
        num_labels: A, the labels that it is adapted to.
        width: joint width D.
    """

    features: Tensor
    means: Tensor
    precision: Tensor
    word_map: Tensor
    word_offset: Tensor

    def __init__(self, num_labels: int, width: int):
        super().__init__()
        shapes = ((num_labels, width), (num_labels, width), (width, width), (width, width), (width,))
        for name, shape in zip(ClassifierTensors._fields, shapes, strict=True):
            self.register_buffer(name, torch.zeros(shape))

    def set(self, tensors: ClassifierTensors) -> None:
        """Take other numbers of the same shapes."""
        for name, tensor in tensors._asdict().items():
            getattr(self, name).copy_(tensor)

    def is_adapted(self, label_embeds: Tensor) -> Tensor:
        """Which labels it was adapted to, (L,), by their L2-normalised features (L, D)."""
        return self._likeness(label_embeds)[0]

    def discriminants(self, label_embeds: Tensor) -> Discriminants:
        """Discriminants of labels, each by its own words alone, whatever others are asked for.

        A label that it was adapted to has its own mean. Any other has the one that its words are mapped to: words
        themselves lie so far from all patches that such a label would never win one.

        Args:
            label_embeds: L2-normalised, shape (L, D).
        """
        with torch.autocast(label_embeds.device.type, enabled=False):
            label_embeds = label_embeds.float()
            is_adapted, index = self._likeness(label_embeds)
            mapped = label_embeds @ self._own("word_map", label_embeds) + self._own("word_offset", label_embeds)
            means = torch.where(is_adapted.unsqueeze(1), self._own("means", label_embeds)[index], mapped)
            return discriminants_of(means, self._own("precision", label_embeds))

    def _likeness(self, label_embeds: Tensor) -> tuple[Tensor, Tensor]:
        """Whether each label is one of its own, and which one is nearest."""
        features = nn.functional.normalize(self._own("features", label_embeds), dim=-1)
        same = is_same_label(label_embeds.float(), features)
        return same.any(dim=1), same.int().argmax(dim=1)

    def _own(self, name: str, beside: Tensor) -> Tensor:
        return own_weight(self, name).to(beside.device).float()


def fit_classifier(kept: KeptPatches, label_features: Tensor) -> ClassifierTensors:
    r"""Linear discriminant analysis of kept patches, after arXiv 2605.25821, in float64.

    With n patches h of probability p, each of one label j: `m_j = sum p h / sum p`, one covariance `S = sum (h - m)(h
    - m)^T / (n - 1)`, shrunk and inverted as `Lambda = c (S + tr(S) / (n - 1) I)^-1`. Here c is a constant. A linear
    map from words to means, by ridge regression toward a multiple of the identity, stands in for labels without
    patches, where the published method keeps the words themselves; and each mean is drawn to it by as much as a few
    patches would.

    Args:
        kept: the patches.
        label_features: of the labels, shape (A, D).

    Raises:
        ValueError: when no patches were kept, or they are all alike.
    """
    features, labels, weights = kept.features.double(), kept.labels, kept.probabilities.double().unsqueeze(1)
    num_labels, width = label_features.shape
    if not len(features):
        raise ValueError("No image came, or none of them could be read: there is nothing to adapt to.")
    words = nn.functional.normalize(label_features.detach().cpu().double(), dim=-1)
    totals = weights.new_zeros(num_labels, 1).index_add_(0, labels, weights)
    sums = weights.new_zeros(num_labels, width).index_add_(0, labels, weights * features)
    is_seen = totals[:, 0] > 0
    means = sums / totals.clamp(min=torch.finfo(totals.dtype).tiny)
    precision = shrunk_precision(features - means[labels])
    word_map, word_offset = _map_words(words[is_seen], means[is_seen])
    means = (sums + _PATCHES_OF_WORDS * (words @ word_map + word_offset)) / (totals + _PATCHES_OF_WORDS)
    found = (label_features.detach().cpu(), means, _SHARPNESS * precision, word_map, word_offset)
    return ClassifierTensors(*(each.float() for each in found))


def shrunk_precision(deviations: Tensor) -> Tensor:
    """Inverse of a covariance that is shrunk toward a multiple of the identity, `(S + tr(S) / (n - 1) I)^-1`.

    Args:
        deviations: of n patches from their means, shape (n, D); `S = deviations^T deviations / (n - 1)`.

    Raises:
        ValueError: when there is no spread.
    """
    scatter = deviations.mT @ deviations
    spread = scatter.trace() / len(deviations)
    if not spread > 1e-12:  # features have length 1
        raise ValueError(
            f"The {len(deviations)} patches that were kept do not differ within their labels, as those of blank "
            "images: labels cannot be told apart by them. Adapt to more images."
        )
    others = max(len(deviations) - 1, 1)
    covariance = scatter / others
    identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    return torch.linalg.inv(covariance + covariance.trace() / others * identity)


def discriminants_of(means: Tensor, precision: Tensor) -> Discriminants:
    """`w_j = Lambda m_j` and `b_j = -m_j^T Lambda m_j / 2`, of means (L, D) and Lambda (D, D)."""
    weights = means @ precision
    return Discriminants(weights, -(weights * means).sum(dim=1) / 2)


def _map_words(words: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression of means (A, D) on words (A, D), around their averages: `means = words @ map + offset`."""
    word_average, mean_average = words.mean(dim=0), means.mean(dim=0)
    words, means = words - word_average, means - mean_average
    # With few labels the multiple of the identity is all that can be learned, and it keeps labels apart.
    identity = torch.eye(words.shape[1], dtype=words.dtype)
    factor = (words * means).sum() / (words * words).sum().clamp(min=_MAP_RIDGE * 1e-6)
    residual = torch.linalg.solve(words.mT @ words + _MAP_RIDGE * identity, words.mT @ (means - factor * words))
    word_map = factor * identity + residual
    return word_map, mean_average - word_average @ word_map


__all__ = [
    "PATCHES_PER_LABEL",
    "ClassifierTensors",
    "Discriminants",
    "VisualClassifier",
    "discriminants_of",
    "fit_classifier",
    "shrunk_precision",
]
