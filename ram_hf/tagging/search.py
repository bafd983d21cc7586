"""The images of an index that show what a text says."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.calibration import Calibration
from ..model.modeling_ram import RamModel
from ..model.processing_ram import RamProcessor
from .index import ImageIndex, read_basis
from .sketches import sketched_similarity
from .stored_scores import global_logits, needs_patches, score_stored

LOOKED_AT = 3000  # images that are looked at in full: the best by what is known of all
# What the nearest memory holds; far larger pieces cost the system new pages each time.
_SKETCHES_AT_ONCE, _FULL_AT_ONCE = 256, 100


class Hit(NamedTuple):
    """An image of an index by its number, and its probability or score."""

    number: int
    value: float


class LabelSearch:
    """Ranks the images of an index by labels.

    All images are judged by their sketches (in an index without patches by all that there is); the best `LOOKED_AT`
    of them are then judged in full, as [`RamModel.score_stored`] does. So an index of no more images is searched
    exactly.

    Args:
        index: the index.
        model: that by which it was made.
        processor: its processor.
        looked_at: how many images are judged in full.
    """

    def __init__(self, index: ImageIndex, model: RamModel, processor: RamProcessor, *, looked_at: int = LOOKED_AT):
        self._index, self._model, self._processor, self._looked_at = index, model, processor, looked_at
        self._calibration: Calibration | None = None
        if model.is_calibrated and (index.has_patches or not needs_patches(model)):
            self._calibration = model.calibration
        self._basis = torch.from_numpy(read_basis(index.folder, index.description))
        self._global_temperature = float(model.temperatures.global_temperature.detach())
        self._local_temperature = float(model.temperatures.local_temperature.detach())

    @property
    def gives_probabilities(self) -> bool:
        """Whether values are probabilities; they are logits otherwise."""
        return self._calibration is not None

    @property
    def ranking(self) -> str:
        """What images are ranked by, in a few words."""
        if self.gives_probabilities:
            return "probability"
        if self._index.has_patches:
            return "the sum of global and local logit (the model is not calibrated)"
        return "the global logit alone (the index has no patches)"

    @torch.inference_mode()
    def encode(self, labels: Sequence[str], *, template: str | Sequence[str] | None = None) -> Tensor:
        """Label features, shape (L, D)."""
        return self._model.get_label_features(**self._processor(labels=list(labels), label_template=template))

    @torch.inference_mode()
    def best(self, label_features: Tensor, top: int) -> list[Hit]:
        """The images that show all of the labels, best first; ties in the order of the index.

        The probability of several labels is their product.

        Args:
            label_features: from [`encode`], shape (L, D).
            top: how many images at most.
        """
        rough = self._rough_values(label_features)
        rough[torch.from_numpy(self._index.is_broken())] = -torch.inf
        num_readable = int(rough.isfinite().sum())
        num_chosen = min(max(self._looked_at, top), num_readable)
        if not num_chosen:
            return []
        chosen = rough.topk(num_chosen).indices.sort().values
        values = self._values(chosen.numpy(), label_features) if self._index.has_patches else rough[chosen]
        order = values.sort(descending=True, stable=True).indices[:top]
        found = [Hit(int(chosen[each]), float(values[each])) for each in order]
        if self.gives_probabilities:
            found = [Hit(number, float(np.exp(value))) for number, value in found]
        return found

    def _rough_values(self, label_features: Tensor) -> Tensor:
        """What is known of all images without their patches, (images,): of the kind of [`_values`]."""
        index = self._index
        if not index.has_patches or not len(index):
            logits = global_logits(self._model, torch.from_numpy(index.image_embeds()), label_features)
            return self._joined(logits, torch.zeros_like(logits), torch.from_numpy(index.statistics()))
        label_embeds = F.normalize(label_features.float(), dim=-1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that what is mapped cannot be written to
            parts = [
                sketched_similarity(some, label_embeds, self._basis)
                for part in index.sketches()
                for some in torch.from_numpy(part).split(_SKETCHES_AT_ONCE)
            ]
        of_whole, of_patch = map(torch.cat, zip(*parts, strict=True))
        of_whole, of_patch = of_whole / self._global_temperature, of_patch / self._local_temperature
        return self._joined(of_whole, of_patch, torch.from_numpy(index.statistics()))

    def _values(self, numbers: np.ndarray, label_features: Tensor) -> Tensor:
        """The logarithm of the probability of images, or their logits, (images,)."""
        values = []
        for start in range(0, len(numbers), _FULL_AT_ONCE):
            stored = self._index.features(numbers[start : start + _FULL_AT_ONCE])
            output = score_stored(self._model, stored, label_features, labels_at_once=label_features.shape[0])
            statistics = torch.from_numpy(stored.statistics)
            values.append(self._joined(output.global_logits, output.local_logits, statistics))
        return torch.cat(values)

    def _joined(self, global_logits: Tensor, local_logits: Tensor, statistics: Tensor) -> Tensor:
        if self._calibration is None:
            return (global_logits + local_logits).sum(dim=1)
        probabilities = self._calibration.probabilities(global_logits, local_logits, statistics)
        return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log().sum(dim=1)


__all__ = ["LOOKED_AT", "Hit", "LabelSearch"]
