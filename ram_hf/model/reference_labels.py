"""Labels that an image is always read with: what makes the answer for one label independent of all others asked for.

An image is encoded with a fixed list of reference labels, and each candidate is matched against these alone.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .aggregation import aggregate_patches, label_columns, patch_log_probabilities
from .configuration_ram import RamConfig
from .optimal_transport import cost_from_similarity, patch_marginal_from_similarity, sinkhorn

# Candidates are matched in blocks of this many, the last one filled up: how a matrix product rounds depends on its
# shape, and a label's probability must not depend on how many others there are.
LABELS_AT_ONCE = 64
# Without gradients images are matched in pieces: 256 MiB of float32 for each of the few tensors as large as the plan.
_PLAN_ENTRIES_AT_ONCE = 2**26
# A candidate whose features point this near to a reference label's is that label, encoded again.
_SAME_LABEL_COSINE = 1 - 1e-4

# What patches are compared with, by the L2-normalised features of labels (L, D): weights (L, D), and biases (L,) or
# None.
Compared = Callable[[Tensor], tuple[Tensor, Tensor | None]]


class ReferenceLabels(nn.Module):
    """Features of the reference labels, not normalised, shape (R, D): saved with the model.

    Args:
        num_labels: R.
        width: joint width D.
    """

    features: Tensor

    def __init__(self, num_labels: int, width: int):
        super().__init__()
        self.register_buffer("features", torch.zeros(num_labels, width))


class ImageFeatures(NamedTuple):
    """What a calibrated model keeps of B images: enough to answer for any label later, without the images.

    It depends on the image and the model alone. The embeddings may be stored in half precision.

    Attributes:
        image_embeds: (B, D), L2-normalised.
        patch_embeds: (B, P, D), L2-normalised.
        row_scalings: (B, P), logarithm of each row's scaling in the transport plan of the reference labels (Sinkhorn's
            r); zeros where nothing is transported.
        patch_rivals: (B, P), what a candidate competes with in each patch: the log-sum-exp over the reference labels
            of similarity times CLIP's logit scale; where nothing is transported, over the local temperature.
        statistics: (B, 6), log-sum-exp, mean and standard deviation of the reference labels' global logits, and of
            their local logits.
    """

    image_embeds: Tensor
    patch_embeds: Tensor
    row_scalings: Tensor
    patch_rivals: Tensor
    statistics: Tensor


class Scales(NamedTuple):
    """The three scalars between similarities and logits: CLIP's factor, and the two temperatures."""

    logit_scale: Tensor
    global_temperature: Tensor
    local_temperature: Tensor


class LabelEvidence(NamedTuple):
    """Result of [`label_evidence`].

    Attributes:
        global_logits: (B, L), similarity of image and label over the global temperature.
        local_logits: (B, L), similarity of patches and label, weighted by the label's own column of the plan; or what
            [`aggregate_patches`] gives of the label's probability in each patch.
        transport_plan: (B, P, L), each column of mass 1 / L, or None when it was not asked for; see [`Match`].
    """

    global_logits: Tensor
    local_logits: Tensor
    transport_plan: Tensor | None


def by_words(label_embeds: Tensor) -> tuple[Tensor, None]:
    """Compare patches with what labels say."""
    return label_embeds, None


def describe_images(
    image_embeds: Tensor,
    patch_embeds: Tensor,
    reference_embeds: Tensor,
    config: RamConfig,
    scales: Scales,
    *,
    compared: Compared = by_words,
) -> ImageFeatures:
    """Match images with the reference labels, in float32.

    Args:
        image_embeds: L2-normalised, read with the reference labels, shape (B, D).
        patch_embeds: the same, shape (B, P, D).
        reference_embeds: L2-normalised, shape (R, D).
        config: `aggregation`, and the numbers of the transport problem.
        scales: CLIP's factor and the temperatures.
        compared: what patches are compared with.
    """
    with torch.autocast(image_embeds.device.type, enabled=False):
        weights, biases = compared(reference_embeds.float())
        pieces = [
            _match_reference(_similarity(piece, weights, biases), config, scales)
            for piece in _images_at_once(patch_embeds, reference_embeds.shape[0])
        ]
        row_scalings, patch_rivals, local_logits = (torch.cat(part) for part in zip(*pieces, strict=True))
        global_logits = image_embeds.float() @ reference_embeds.float().T / scales.global_temperature
        statistics = torch.cat([_statistics(global_logits), _statistics(local_logits)], dim=1)
    return ImageFeatures(image_embeds, patch_embeds, row_scalings, patch_rivals, statistics)


def label_evidence(
    features: ImageFeatures,
    label_embeds: Tensor,
    reference_embeds: Tensor,
    config: RamConfig,
    scales: Scales,
    *,
    compared: Compared = by_words,
    output_transport_plan: bool = False,
    labels_at_once: int = LABELS_AT_ONCE,
) -> LabelEvidence:
    r"""What speaks for each label, each as if it were the only one asked for.

    A candidate j competes with the reference labels R in the cost, `M_pj = 1 - exp(a s_pj) / (exp(a s_pj) + sum over R
    of exp(a s_pr))`, where one that is in R itself is counted once. Its column of the plan is one half step of
    Sinkhorn's iteration from the rows of R's plan, `T_pj = r_p exp(-M_pj / epsilon) c_j`, of mass 1.

    Where nothing is transported, the candidate's probability in each patch is `1 - M_pj` with the local temperature in
    the place of 1 / a, and patches are put together as `aggregation` says.

    Args:
        features: of B images.
        label_embeds: L2-normalised, shape (L, D).
        reference_embeds: L2-normalised, shape (R, D).
        config: `aggregation`, and the numbers of the transport problem.
        scales: CLIP's factor and the temperatures.
        compared: what patches are compared with.
        output_transport_plan: return the columns as well.
        labels_at_once: labels of a block; the last is filled up, so that bits depend on this number alone, and one
            label alone costs as much as a block.
    """
    num_labels = label_embeds.shape[0]
    with torch.autocast(label_embeds.device.type, enabled=False):
        label_embeds, reference_embeds = label_embeds.float(), reference_embeds.float()
        padding = -num_labels % labels_at_once
        padded = torch.cat([label_embeds, label_embeds.new_zeros(padding, label_embeds.shape[1])])
        blocks = []
        for block in padded.split(labels_at_once):
            is_reference = is_same_label(block, reference_embeds).any(dim=1)
            local, columns = _local_evidence(
                features, compared(block), is_reference, config, scales, output_transport_plan
            )
            image_embeds = features.image_embeds.float()
            blocks.append((image_embeds @ block.T / scales.global_temperature, local, columns))
        global_logits, local_logits, columns = zip(*blocks, strict=True)
    plan = torch.cat(columns, dim=2)[..., :num_labels] / num_labels if output_transport_plan else None
    return LabelEvidence(
        torch.cat(global_logits, dim=1)[:, :num_labels], torch.cat(local_logits, dim=1)[:, :num_labels], plan
    )


def is_same_label(label_embeds: Tensor, others: Tensor) -> Tensor:
    """Whether labels are one to the model, (L, M), by L2-normalised features (L, D) and (M, D)."""
    return label_embeds @ others.T >= _SAME_LABEL_COSINE


def _similarity(patch_embeds: Tensor, weights: Tensor, biases: Tensor | None) -> Tensor:
    similarity = patch_embeds.float() @ weights.T
    return similarity if biases is None else similarity + biases


def _match_reference(similarity: Tensor, config: RamConfig, scales: Scales) -> tuple[Tensor, Tensor, Tensor]:
    """Row scalings (B, P), rivals (B, P) and local logits (B, R) of the reference labels."""
    num_labels = similarity.shape[2]
    rivals = torch.logsumexp(similarity * patch_scale(config, scales), dim=2)
    if config.aggregation != "transport":
        temperature = scales.local_temperature
        log_probabilities = patch_log_probabilities(similarity, temperature=temperature)
        local_logits = aggregate_patches(log_probabilities, similarity, config.aggregation, temperature)
        return torch.zeros_like(rivals), rivals, local_logits
    cost = cost_from_similarity(similarity, logit_scale=scales.logit_scale)
    transport = sinkhorn(
        cost,
        patch_marginal_from_similarity(similarity, temperature=config.patch_marginal_temperature),
        cost.new_full((num_labels,), 1 / num_labels),
        epsilon=config.epsilon,
        largest_cost=1.0,
        tolerance=config.sinkhorn_tolerance,
        max_iterations=config.sinkhorn_max_iterations,
    )
    local_logits = num_labels * (transport.plan * similarity).sum(dim=1) / scales.local_temperature
    return transport.log_row_scaling, rivals, local_logits


def patch_scale(config: RamConfig, scales: Scales) -> Tensor:
    """The factor on similarities with which labels compete for a patch."""
    return scales.logit_scale if config.aggregation == "transport" else 1 / scales.local_temperature


def _local_evidence(
    features: ImageFeatures,
    compared_with: tuple[Tensor, Tensor | None],
    is_reference: Tensor,
    config: RamConfig,
    scales: Scales,
    output_columns: bool,
) -> tuple[Tensor, Tensor | None]:
    """Local logits (B, L) of a block of candidates, and their columns of the plan (B, P, L), each of mass 1."""
    logits, plans = [], []
    start = 0
    for patch_embeds in _images_at_once(features.patch_embeds, len(is_reference)):
        images = slice(start, start + len(patch_embeds))
        start = images.stop
        similarity = _similarity(patch_embeds, *compared_with)  # (images, P, labels)
        rivals = features.patch_rivals[images].float().unsqueeze(2)
        scaled = similarity * patch_scale(config, scales)
        log_probabilities = scaled - torch.where(is_reference, rivals, torch.logaddexp(scaled, rivals))
        if config.aggregation == "transport":
            rows = features.row_scalings[images].float().unsqueeze(2)
            columns = (rows - (1 - log_probabilities.exp()) / config.epsilon).softmax(dim=1)
            logits.append((columns * similarity).sum(dim=1) / scales.local_temperature)
            if output_columns:
                plans.append(columns)
        else:
            temperature = scales.local_temperature
            logits.append(aggregate_patches(log_probabilities, similarity, config.aggregation, temperature))
            if output_columns:
                plans.append(label_columns(log_probabilities))
    return torch.cat(logits), torch.cat(plans) if plans else None


def _statistics(logits: Tensor) -> Tensor:
    """Log-sum-exp, mean and standard deviation over the labels, (B, 3)."""
    deviation = logits.std(dim=1, correction=0)
    return torch.stack([torch.logsumexp(logits, dim=1), logits.mean(dim=1), deviation], dim=1)


def _images_at_once(patch_embeds: Tensor, num_labels: int) -> tuple[Tensor, ...]:
    return patch_embeds.split(max(1, _PLAN_ENTRIES_AT_ONCE // (patch_embeds.shape[1] * num_labels)))


__all__ = [
    "LABELS_AT_ONCE",
    "Compared",
    "ImageFeatures",
    "LabelEvidence",
    "ReferenceLabels",
    "Scales",
    "by_words",
    "describe_images",
    "is_same_label",
    "label_evidence",
    "patch_scale",
]
