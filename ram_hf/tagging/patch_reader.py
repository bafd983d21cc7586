"""Squares of pixels to the patches that show what labels look like."""

from collections.abc import Sequence

import numpy as np
import torch

from ..model.modeling_ram import RamModel
from ..model.patch_collection import KeptPatches
from ..model.processing_ram import RamProcessor
from .reader import SquareSize
from .tagger import candidate_features
from .vocabulary import Vocabulary


class PatchReader:
    """A model that reads unlabelled images and keeps the surest patches of each label.

    Args:
        model: moved to `device` and put into evaluation mode.
        processor: its processor, which squashes images.
        vocabulary: the labels.
        label_template: sentence around a label, or several, or a set's name; None for the processor's own.
        patches_per_label: how many are kept for a label, at most.
        kept: by an earlier reader, to go on from.
        device: where to compute.

    Attributes:
        square: what images must be squashed to.

    Raises:
        ValueError: when the processor crops images, or a label does not fit the model.
    """

    def __init__(
        self,
        model: RamModel,
        processor: RamProcessor,
        vocabulary: Vocabulary,
        *,
        label_template: str | Sequence[str] | None = None,
        patches_per_label: int,
        kept: KeptPatches | None = None,
        device: str | torch.device = "cpu",
    ):
        self.square = SquareSize.of(processor)
        self.model = model.to(device).eval()
        self.processor = processor
        self.names = [*(label.name for label in vocabulary.matched), *vocabulary.background]
        # Not an inference tensor: it is saved with the model.
        self._label_features = candidate_features(model, processor, vocabulary, label_template).clone()
        self._collector = model.collect_patches(self._label_features, patches_per_label=patches_per_label, kept=kept)

    @torch.no_grad()
    def add(self, pixels: Sequence[np.ndarray]) -> None:
        """Read images.

        Args:
            pixels: B arrays (side, side, 3), uint8, squashed to [`square`].
        """
        if not pixels:
            return
        inputs = self.processor.image_processor(list(pixels), do_resize=False, return_tensors="pt")
        pixel_values = inputs["pixel_values"].to(self._label_features.device)
        self._collector.add(self.model.get_patch_features(pixel_values, self._label_features))

    def kept(self) -> KeptPatches:
        """The patches that are kept so far."""
        return self._collector.kept()

    def counts(self) -> list[int]:
        """How many each label has."""
        return self.kept().labels.bincount(minlength=len(self.names)).tolist()

    def finish(self) -> None:
        """Let the model learn from them.

        Raises:
            ValueError: when there are none, or they are all alike.
        """
        self.model.set_visual_classifier(self.names, self._label_features, self.kept())


__all__ = ["PatchReader"]
