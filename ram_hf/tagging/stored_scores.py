"""Labels judged from what an index holds of images, with their patches or without."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.modeling_ram import RamModel, RamOutput
from ..model.reference_labels import LABELS_AT_ONCE, ImageFeatures
from .index import StoredFeatures


def score_stored(
    model: RamModel,
    stored: StoredFeatures,
    label_features: Tensor,
    device: str | torch.device = "cpu",
    *,
    output_transport_plan: bool = False,
    labels_at_once: int = LABELS_AT_ONCE,
) -> RamOutput:
    """What [`RamModel.score_stored`] says of stored features.

    Without patches local logits are zeros, and there are probabilities where the calibration does not weigh them.
    """
    parts = {name: getattr(stored, name) for name in ImageFeatures._fields}
    tensors = {name: torch.from_numpy(values).to(device) for name, values in parts.items() if values is not None}
    if stored.patch_embeds is not None:
        return model.score_stored(
            ImageFeatures(**tensors),
            label_features,
            output_transport_plan=output_transport_plan,
            labels_at_once=labels_at_once,
        )
    logits = global_logits(model, tensors["image_embeds"], label_features)
    local_logits, probabilities = torch.zeros_like(logits), None
    if model.is_calibrated and not needs_patches(model):
        calibration = model.calibration
        probabilities = calibration.probabilities(logits, local_logits, tensors["statistics"])
    return RamOutput(global_logits=logits, local_logits=local_logits, probabilities=probabilities)


def global_logits(model: RamModel, image_embeds: Tensor, label_features: Tensor) -> Tensor:
    """Similarity of images (B, D) and labels (L, D) over the global temperature, (B, L)."""
    label_embeds = F.normalize(label_features.float(), dim=-1)
    return image_embeds.float() @ label_embeds.T / model.temperatures.global_temperature.detach().float()


def needs_patches(model: RamModel) -> bool:
    """Whether the calibration weighs the local logit."""
    return model.calibration.evidence_weights[1] != 0


__all__ = ["global_logits", "needs_patches", "score_stored"]
