"""Squares of pixels to tags."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..model.modeling_ram import RamModel
from ..model.processing_ram import RamProcessor
from ..model.regions import heat_map
from .reader import SquareSize


class Tagger:
    """A model with its label list encoded: calling it tags a batch.

    Args:
        model: the model; moved to `device` and put into evaluation mode.
        processor: its processor, which squashes pictures.
        labels: L label names.
        label_template: sentence around a label; None for the processor's own.
        top_k: at most this many tags for each picture; None for all.
        threshold: only tags that score at least this; None for all.
        device: where to compute.
        with_heat_maps: say also where each tag is.

    Raises:
        ValueError: when the processor crops pictures instead of squashing them, or a label does not fit the model.
    """

    def __init__(
        self,
        model: RamModel,
        processor: RamProcessor,
        labels: Sequence[str],
        *,
        label_template: str | None = None,
        top_k: int | None = None,
        threshold: float | None = None,
        device: str | torch.device = "cpu",
        with_heat_maps: bool = False,
    ):
        if not processor.squash:
            raise ValueError("The processor of this model crops pictures; tagging files needs `squash=True`.")
        self.model = model.to(device).eval()
        self.processor = processor
        self.labels = list(labels)
        self.top_k, self.threshold = top_k, threshold
        self.with_heat_maps = with_heat_maps
        with torch.inference_mode():
            encoded = processor(labels=self.labels, label_template=label_template).to(device)
            self._label_features = model.get_label_features(**encoded)

    @property
    def square(self) -> SquareSize:
        """What pictures must be squashed to."""
        settings = self.processor.image_processor
        return SquareSize(settings.size["height"], int(settings.resample))

    @torch.inference_mode()
    def __call__(self, pixels: Sequence[np.ndarray]) -> list[list[dict[str, Any]]]:
        """Tag pictures.

        Args:
            pixels: for each picture an array (side, side, 3), uint8, squashed to [`square`].

        Returns:
            For each picture its tags, best first: {"label": str, "score": float}, and with heat maps "heat_map":
            array (rows, columns) in [0, 1], the label's column of the transport plan over its largest entry.
        """
        if not pixels:
            return []
        inputs = self.processor.image_processor(list(pixels), do_resize=False, return_tensors="pt")
        output = self.model(
            inputs["pixel_values"].to(self._label_features.device),
            label_features=self._label_features,
            output_transport_plan=self.with_heat_maps,
        )
        tags = self.processor.post_process_tagging(output, self.labels, top_k=self.top_k, threshold=self.threshold)
        if self.with_heat_maps:
            self._add_heat_maps(tags, output.transport_plan.float().cpu().numpy())
        return tags

    def _add_heat_maps(self, tags: list[list[dict[str, Any]]], plans: np.ndarray) -> None:
        grid = self.model.config.patch_grid()
        columns = {label: column for column, label in enumerate(self.labels)}
        for image_tags, plan in zip(tags, plans, strict=True):  # plan: (P, L)
            for tag in image_tags:
                tag["heat_map"] = heat_map(plan[:, columns[tag["label"]]], grid=grid)


__all__ = ["Tagger"]
