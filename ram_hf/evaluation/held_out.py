"""Evidence for labels that are left out of the reference in turn, as labels are that nobody trained on."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..model.modeling_ram import RamModel
from ..model.reference_labels import is_same_label
from .calibration import FoldEvidence


class Reference(NamedTuple):
    """Reference labels: names, and their features (R, D)."""

    names: list[str]
    features: Tensor


def deal_labels(num_labels: int, *, num_folds: int, seed: int) -> list[list[int]]:
    """Indices of the labels of each fold, by chance; fewer folds where there are fewer labels."""
    order = np.random.default_rng(seed).permutation(num_labels)
    return [sorted(order[fold::num_folds].tolist()) for fold in range(min(num_folds, num_labels))]


def without(reference: Reference, label_features: Tensor) -> Reference:
    """The reference without labels that are one to the model with one of some others, given by features (L, D).

    Raises:
        ValueError: when nothing is left.
    """
    others = F.normalize(label_features.float(), dim=-1)
    same = is_same_label(F.normalize(reference.features.float(), dim=-1), others).any(dim=1)
    kept = torch.nonzero(~same)[:, 0].tolist()
    if not kept:
        raise ValueError(
            f"With a part of the labels left out none of the {len(reference.names)} reference labels is left: take "
            "more labels, or other reference labels."
        )
    return Reference([reference.names[index] for index in kept], reference.features[kept])


@torch.no_grad()
def collect_evidence(
    model: RamModel,
    batches: Iterable[tuple[int, Mapping[str, Any]]],
    *,
    label_names: Sequence[str],
    label_features: Tensor,
    reference: Reference,
    folds: Sequence[Sequence[int]],
) -> list[FoldEvidence]:
    """Read each image once for each fold, with the fold's labels left out of the reference.

    Folds that leave out the same reference labels, most often none, share one reading.

    Args:
        model: in evaluation mode; its reference labels are another's afterwards.
        batches: numbered, with `pixel_values` (B, 3, H, W) and `labels` (B, L); see `evaluation_batches`.
        label_names: all L labels.
        label_features: their features, shape (L, D).
        reference: in its full length.
        folds: indices of the labels of each fold.

    Raises:
        ValueError: when a fold leaves no reference label, or no batch comes.
    """
    reduced = [without(reference, label_features[list(fold)]) for fold in folds]
    shared: dict[tuple[str, ...], list[int]] = {}
    for number, kept in enumerate(reduced):
        shared.setdefault(tuple(kept.names), []).append(number)
    found: list[list[FoldEvidence]] = [[] for _ in folds]
    for _, batch in batches:
        pixel_values = batch["pixel_values"].to(model.device, model.dtype)
        for numbers in shared.values():
            model.set_reference_labels(*reduced[numbers[0]])
            features = model.encode_images(pixel_values)
            for number in numbers:
                labels = list(folds[number])
                output = model.score_stored(features, label_features[labels])
                found[number].append(
                    FoldEvidence(
                        [label_names[index] for index in labels],
                        _array(output.global_logits),
                        _array(output.local_logits),
                        _array(features.statistics),
                        batch["labels"][:, labels].numpy().astype(np.int8),
                    )
                )
    if not found[0]:
        raise ValueError("There is nothing to calibrate by: no image came, or none of them could be read.")
    return [_joined(parts) for parts in found]


def _array(values: Tensor) -> NDArray[np.float32]:
    return values.float().cpu().numpy()


def _joined(parts: Sequence[FoldEvidence]) -> FoldEvidence:
    names, *columns = zip(*parts, strict=True)
    return FoldEvidence(names[0], *(np.concatenate(column) for column in columns))


__all__ = ["Reference", "collect_evidence", "deal_labels", "without"]
