"""A small CLIP that learns from photographs, and the terms of what it is told about them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel

from ..model.ladder_adapter import attend_locally, main_stream_layer
from .photo_batches import PhotoBatch
from .small_clip import LARGEST_LOGIT_SCALE

LOSSES = ("image", "patches", "local_patches", "names", "local_names", "exact", "local_exact", "captions")


class PhotoStudent(nn.Module):
    """A CLIP, and a linear head from its joint space to the teacher's features.

    The one head reads the whole image's embedding and every patch's alike, and of patches both CLIP's own and those of
    the local stream that RAM matches. So a patch stands in the joint space where an image of what it shows would
    stand, beside the texts that name that.

    Args:
        clip: to train.
        num_directions: K, coordinates of the teacher's features.
    """

    def __init__(self, clip: CLIPModel, num_directions: int):
        super().__init__()
        self.clip = clip
        self.head = nn.Linear(clip.config.projection_dim, num_directions)
        self.exact_bias = nn.Parameter(torch.tensor(-5.0))

    def encode_images(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Features of an image and of its patches.

        Returns:
            CLIP's own (B, 1 + P, D), the class token first, and those of the local stream that RAM matches (B, P, D).
        """
        return encode_streams(self.clip, pixel_values)

    def encode_texts(self, input_ids: Tensor) -> Tensor:
        """Features of texts, shape (T, D)."""
        return self.clip.get_text_features(input_ids).pooler_output

    @property
    def logit_scale(self) -> Tensor:
        """Factor on similarities."""
        return self.clip.logit_scale.exp().clamp(max=LARGEST_LOGIT_SCALE)


def encode_streams(clip: CLIPModel, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    """Features (B, 1 + P, D) of CLIP's own stream, and (B, P, D) of the local one; see [`PhotoStudent`]."""
    vision = clip.vision_model
    main = vision.pre_layrnorm(vision.embeddings(pixel_values, interpolate_pos_encoding=True))
    local = main[:, 1:]
    for layer in vision.encoder.layers:
        main, heads, _ = main_stream_layer(layer, main)
        local = local + attend_locally(layer.self_attn, heads, "value")
    project = clip.visual_projection
    return project(vision.post_layernorm(main)), project(vision.post_layernorm(local))


def distillation_losses(
    student: PhotoStudent,
    batch: PhotoBatch,
    feature_scale: Tensor,
    *,
    encode_images: Callable[[Tensor], tuple[Tensor, Tensor]],
    encode_texts: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    """The terms of the loss, each a scalar.

    Args:
        student: learns.
        batch: to learn from.
        feature_scale: factor on each of the teacher's coordinates, shape (K,).
        encode_images: the student's, maybe compiled.
        encode_texts: the same.

    Returns:
        `image`, `patches`, `local_patches`: 1 - cosine to the teacher's features of the whole view and of each patch;
        `names`: cross-entropy over the names; `exact`: binary cross-entropy of labels that are known either way;
        `local_names`, `local_exact`: the same by the patches that fit a name most; `captions`: CLIP's loss.
    """
    main, local = encode_images(batch.pixels)
    maps = batch.maps.flatten(1, 2) * feature_scale
    read, read_local = student.head(main).float(), student.head(local).float()
    image_embeds, patch_embeds = (F.normalize(values.float(), dim=-1) for values in (main[:, 0], local))
    name_embeds = F.normalize(encode_texts(batch.name_ids).float(), dim=-1)
    scale = student.logit_scale
    logits = scale * image_embeds @ name_embeds.T
    local_logits = pooled_over_patches(scale * patch_embeds @ name_embeds.T)
    losses = {
        "image": 1 - F.cosine_similarity(read[:, 0], maps.mean(dim=1), dim=-1).mean(),
        "patches": 1 - F.cosine_similarity(read[:, 1:], maps, dim=-1).mean(),
        "local_patches": 1 - F.cosine_similarity(read_local, maps, dim=-1).mean(),
        "names": _shared_cross_entropy(logits, batch.name_shares),
        "local_names": _shared_cross_entropy(local_logits, batch.name_shares),
        "exact": _known_cross_entropy(logits, batch.exact, student.exact_bias),
        "local_exact": _known_cross_entropy(local_logits, batch.exact, student.exact_bias),
    }
    if len(batch.caption_ids):
        caption_embeds = F.normalize(encode_texts(batch.caption_ids).float(), dim=-1)
        losses["captions"] = _caption_loss(image_embeds[: len(caption_embeds)], caption_embeds, scale)
    return losses


def pooled_over_patches(logits: Tensor) -> Tensor:
    """From (B, P, T) to (B, T): the mean over the patches, by how well each fits the name."""
    return (logits.softmax(dim=1) * logits).sum(dim=1)


def _shared_cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    return -(shares * logits.log_softmax(dim=-1)).sum(dim=-1).mean()


def _known_cross_entropy(logits: Tensor, exact: Tensor, bias: Tensor) -> Tensor:
    """Of the first names, as many as `exact` has columns."""
    known = exact >= 0
    found = logits[:, : exact.shape[1]] + bias
    losses = F.binary_cross_entropy_with_logits(found, exact.clamp(min=0), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def _caption_loss(image_embeds: Tensor, caption_embeds: Tensor, logit_scale: Tensor) -> Tensor:
    logits = logit_scale * image_embeds @ caption_embeds.T
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


__all__ = [
    "LOSSES",
    "PhotoStudent",
    "distillation_losses",
    "encode_streams",
    "pooled_over_patches",
]
