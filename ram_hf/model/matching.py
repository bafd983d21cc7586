"""Match: patches to labels, by optimal transport (KCOT) or plainly; the temperatures of both halves of the score."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .aggregation import aggregate_patches, label_columns, patch_log_probabilities
from .configuration_ram import RamConfig
from .optimal_transport import (
    cost_from_similarity,
    largest_teacher_cost,
    patch_marginal_from_similarity,
    sinkhorn,
)

# Without gradients images are matched in pieces: 256 MiB of float32 for each of the few tensors as large as the plan.
_PLAN_ENTRIES_AT_ONCE = 2**26


class MatchingTemperatures(nn.Module):
    """The two trainable temperatures; a module of their own, which stays in float32 beside half-precision weights."""

    def __init__(self) -> None:
        super().__init__()
        self.global_temperature = nn.Parameter(torch.empty(()))
        self.local_temperature = nn.Parameter(torch.empty(()))


class Match(NamedTuple):
    """Result of [`match_patches`].

    Attributes:
        local_logits: (B, L), similarity of patches and label weighted by the plan, over the local temperature; or what
            [`aggregate_patches`] gives.
        patch_marginal: (B, P), how much of any label each patch holds.
        transport_plan: (B, P, L), or None when it was not asked for. Where nothing is transported it says where each
            label is all the same: each patch's probability of the label, in columns that sum to 1 / L.
    """

    local_logits: Tensor
    patch_marginal: Tensor
    transport_plan: Tensor | None


def match_patches(
    patch_embeds: Tensor,
    label_embeds: Tensor,
    config: RamConfig,
    *,
    logit_scale: Tensor,
    local_temperature: Tensor,
    label_biases: Tensor | None = None,
    teacher_costs: Tensor | None = None,
    output_transport_plan: bool = False,
) -> Match:
    """Match patches to labels, in float32: by optimal transport (KCOT, arXiv 2503.15337), or as `aggregation` says.

    The gradient flows through the similarities and the temperature; marginals and plan are constants to it.

    Args:
        patch_embeds: L2-normalised, shape (B, P, D).
        label_embeds: L2-normalised, shape (L, D); or, with biases, weights of other discriminants.
        config: `aggregation`, and the numbers of the transport problem.
        logit_scale: CLIP's factor on similarities, a scalar.
        local_temperature: a scalar.
        label_biases: added to the similarities, shape (L,); see [`VisualClassifier`].
        teacher_costs: `-log q` of the teacher, shape (B, P, L), in training.
        output_transport_plan: return the plan as well.
    """
    num_labels = label_embeds.shape[0]
    with torch.autocast(patch_embeds.device.type, enabled=False):
        patch_embeds, label_embeds = patch_embeds.float(), label_embeds.float()
        temperature = local_temperature.float()
        logits, patch_marginals, plans = [], [], []
        for index in _image_chunks(patch_embeds, num_labels):
            similarity = patch_embeds[index] @ label_embeds.T  # (images, P, L)
            if label_biases is not None:
                similarity = similarity + label_biases
            patch_marginal = patch_marginal_from_similarity(similarity, temperature=config.patch_marginal_temperature)
            patch_marginals.append(patch_marginal)
            if config.aggregation == "transport":
                cost = cost_from_similarity(similarity, logit_scale=logit_scale)
                plan = _plan(cost, patch_marginal, config, None if teacher_costs is None else teacher_costs[index])
                logits.append(_transported(plan, similarity, config, temperature))
                if output_transport_plan:
                    plans.append(plan)
            else:
                log_probabilities = patch_log_probabilities(similarity, temperature=temperature)
                logits.append(aggregate_patches(log_probabilities, similarity, config.aggregation, temperature))
                if output_transport_plan:
                    plans.append(label_columns(log_probabilities) / num_labels)
    return Match(torch.cat(logits), torch.cat(patch_marginals), torch.cat(plans) if plans else None)


def _transported(plan: Tensor, similarity: Tensor, config: RamConfig, temperature: Tensor) -> Tensor:
    """Local logits (B, L): the similarities that the plan joins, over the temperature."""
    logits = (plan * similarity).sum(dim=1) / temperature
    return logits * plan.shape[2] if config.normalize_plan else logits  # each label's column holds 1 / L of the mass


def _plan(cost: Tensor, patch_marginal: Tensor, config: RamConfig, teacher_costs: Tensor | None) -> Tensor:
    """The plan (B, P, L) of a cost in [0, 1], constrained toward the teacher's where there is one."""
    epsilon, largest_cost = config.epsilon, 1.0
    if teacher_costs is not None:
        cost = cost + config.teacher_weight * teacher_costs
        epsilon = epsilon + config.teacher_weight
        largest_teacher = largest_teacher_cost(cost.shape[1], sharpness=config.teacher_sharpness)
        largest_cost += config.teacher_weight * largest_teacher
    num_labels = cost.shape[2]
    return sinkhorn(
        cost,
        patch_marginal,
        cost.new_full((num_labels,), 1 / num_labels),
        epsilon=epsilon,
        largest_cost=largest_cost,
        tolerance=config.sinkhorn_tolerance,
        max_iterations=config.sinkhorn_max_iterations,
    ).plan


def _image_chunks(patch_embeds: Tensor, num_labels: int) -> list[slice]:
    num_images, num_patches, _ = patch_embeds.shape
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return [slice(num_images)]
    at_once = max(1, _PLAN_ENTRIES_AT_ONCE // (num_patches * num_labels))
    return [slice(start, start + at_once) for start in range(0, num_images, at_once)]


__all__ = ["Match", "MatchingTemperatures", "match_patches"]
