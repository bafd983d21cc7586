"""Squares of pixels to the features that an index keeps, and what tells which model computed them."""

import hashlib
import json
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ..model.adapters import fingerprint
from ..model.modeling_ram import RamModel
from ..model.processing_ram import RamProcessor
from .index import SKETCH_MEANS, SKETCH_WIDTH, StoredFeatures
from .reader import SquareSize
from .sketches import sketch_basis, sketch_images

_OF_THE_MATCHING = ("epsilon", "patch_marginal_temperature", "sinkhorn_tolerance", "sinkhorn_max_iterations")
# They count where they are not the paper's: so an index stays valid that was made before there was a choice.
_PAPERS_FORM = {
    "local_attention": "value",
    "aggregation": "transport",
    "repair_outliers": False,
    "aggregate_similar": False,
}
_OF_PIXELS = ("size", "resample", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")


class FeatureEncoder:
    """A model that reads images with its reference labels: calling it encodes a batch.

    Args:
        model: moved to `device` and put into evaluation mode.
        processor: its processor, which squashes images.
        device: where to compute.
        basis: of the sketches, where the index has one; see [`sketch_basis`].

    Attributes:
        square: what images must be squashed to.

    Raises:
        ValueError: when the processor crops images, or the model has no reference labels.
    """

    def __init__(
        self,
        model: RamModel,
        processor: RamProcessor,
        *,
        device: str | torch.device = "cpu",
        basis: np.ndarray | None = None,
    ):
        self.square = SquareSize.of(processor)
        if model.reference is None:
            raise ValueError(
                "This model has no reference labels, which pictures are read with before anybody asks for a label: "
                "`ram-hf calibrate` gives it some."
            )
        self.model = model.to(device).eval()
        self.processor = processor
        self._device = device
        if basis is None:
            references = F.normalize(model.reference.features.float(), dim=-1)
            basis = sketch_basis(references, min(SKETCH_WIDTH, references.shape[1])).numpy()
        self.basis = basis

    @torch.inference_mode()
    def __call__(self, pixels: Sequence[np.ndarray]) -> StoredFeatures:
        """Encode images.

        Args:
            pixels: B arrays (side, side, 3), uint8, squashed to [`square`].
        """
        if not pixels:
            return self._nothing()
        inputs = self.processor.image_processor(list(pixels), do_resize=False, return_tensors="pt")
        features = self.model.encode_images(inputs["pixel_values"].to(self._device))
        half = {name: getattr(features, name).half() for name in ("image_embeds", "patch_embeds")}
        num_means = min(SKETCH_MEANS, features.patch_embeds.shape[1])
        basis = torch.from_numpy(self.basis)
        sketches = sketch_images(features.image_embeds, features.patch_embeds, basis, num_means)
        stored = {**features._replace(**half)._asdict(), "sketches": sketches}
        return StoredFeatures(**{name: value.cpu().numpy() for name, value in stored.items()})

    def _nothing(self) -> StoredFeatures:
        patches, width = math.prod(self.model.config.patch_grid()), self.model.clip.config.projection_dim
        shapes = {"image_embeds": (width,), "statistics": (6,), "patch_embeds": (patches, width)}
        shapes |= {"row_scalings": (patches,), "patch_rivals": (patches,)}
        shapes["sketches"] = (1 + min(SKETCH_MEANS, patches), len(self.basis))
        return StoredFeatures(**{name: np.zeros((0, *shape), np.float32) for name, shape in shapes.items()})


def feature_fingerprint(model: RamModel, processor: RamProcessor) -> str:
    """What tells models that compute different features apart: weights, reference labels, matching and pixels.

    A calibration, which works on features, does not count.
    """
    image_processor = processor.image_processor
    settings = {name: getattr(model.config, name) for name in _OF_THE_MATCHING}
    chosen = {name: getattr(model.config, name) for name in _PAPERS_FORM}
    settings |= {name: value for name, value in chosen.items() if value != _PAPERS_FORM[name]}
    settings |= {name: _plain(getattr(image_processor, name)) for name in _OF_PIXELS}
    content = fingerprint(model) + json.dumps(settings, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _plain(value: object) -> object:
    """A setting as JSON, the same whatever class held it."""
    if isinstance(value, bool | float | str) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Sequence):
        return [_plain(each) for each in value]
    return {name: getattr(value, name) for name in ("height", "width")}


__all__ = ["FeatureEncoder", "feature_fingerprint"]
