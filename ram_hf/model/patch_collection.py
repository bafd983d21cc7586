"""The surest patches of each label, out of any number of unlabelled images, in memory that labels alone decide on."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Of CLIP's factor on similarities, for the entropy of a patch: the published 60 (arXiv 2605.25821) is of CLIPs whose
# factor is 100.
_SHARPNESS = 0.6
_PENDING_ENTRIES = 2**22  # of features: how much may wait to be sorted in, 16 MiB, where little is kept itself


class KeptPatches(NamedTuple):
    """Patches that were kept, N in all, label by label, the surest first.

    Attributes:
        features: L2-normalised, float32, shape (N, D).
        labels: index of the label that each is of, shape (N,).
        probabilities: of that label, shape (N,).
        entropies: of the patch's probabilities over all labels, in nats, shape (N,).
    """

    features: Tensor
    labels: Tensor
    probabilities: Tensor
    entropies: Tensor


class PatchCollector:
    """Keeps, for each label, the patches whose best label it is and whose probabilities have the lowest entropy.

    The probabilities are softmax(0.6 a h t^T), with a CLIP's factor on similarities. What is kept does not depend on
    how patches come in batches, nor on their order, but for patches of equal entropy, of which the first ones stay.

    Args:
        label_features: from `RamModel.get_label_features`, shape (L, D).
        logit_scale: CLIP's factor on similarities, a scalar.
        patches_per_label: K, how many are kept for a label at most; K L D numbers are held, and as many again for a
            moment.
        kept: by an earlier collector for the same labels, to go on with.
    """

    def __init__(
        self, label_features: Tensor, logit_scale: Tensor, *, patches_per_label: int, kept: KeptPatches | None = None
    ):
        self._label_embeds = F.normalize(label_features.detach().float(), dim=-1)
        self._scale = _SHARPNESS * logit_scale.float()
        self._most = patches_per_label
        num_labels, width = label_features.shape
        self._kept = kept or KeptPatches(
            torch.zeros(0, width), torch.zeros(0, dtype=torch.long), torch.zeros(0), torch.zeros(0)
        )
        self._pending: list[KeptPatches] = []
        self._num_pending = 0
        self._highest = torch.full((num_labels,), torch.inf)  # entropy that still gets in
        self._sort_in()

    def add(self, patch_features: Tensor) -> None:
        """Take what is sure among the patches of some images.

        Args:
            patch_features: from `RamModel.get_patch_features`, shape (..., D).
        """
        patches = F.normalize(patch_features.detach().reshape(-1, patch_features.shape[-1]).float(), dim=-1)
        with torch.autocast(patches.device.type, enabled=False):
            log_probabilities = (patches @ self._label_embeds.T * self._scale).log_softmax(dim=1)
            entropies = -(log_probabilities.exp() * log_probabilities).sum(dim=1)
            best, labels = log_probabilities.max(dim=1)
        rows = torch.nonzero(entropies < self._highest.to(labels.device)[labels])[:, 0]
        if not len(rows):
            return
        found = (patches[rows], labels[rows], best[rows].exp(), entropies[rows])
        self._pending.append(KeptPatches(*(each.cpu() for each in found)))
        self._num_pending += len(rows)
        if self._num_pending * patches.shape[1] > max(self._kept.features.numel(), _PENDING_ENTRIES):
            self._sort_in()

    def kept(self) -> KeptPatches:
        """What is kept so far; more may be added afterwards."""
        self._sort_in()
        return self._kept

    def _sort_in(self) -> None:
        parts = [self._kept, *self._pending]
        self._pending, self._num_pending = [], 0
        features, labels, probabilities, entropies = (torch.cat(each) for each in zip(*parts, strict=True))
        order = entropies.argsort(stable=True)
        order = order[labels[order].argsort(stable=True)]
        counts = labels.bincount(minlength=len(self._highest))
        ranks = torch.arange(len(order)) - (counts.cumsum(0) - counts)[labels[order]]
        order = order[ranks < self._most]
        self._kept = KeptPatches(features[order], labels[order], probabilities[order], entropies[order])
        ends = counts.clamp(max=self._most).cumsum(0)
        full = counts >= self._most
        self._highest[full] = self._kept.entropies[ends[full] - 1]


__all__ = ["KeptPatches", "PatchCollector"]
