"""What the patches of an image say of each label together, and one score of that and of the whole image."""

import math

import torch
from torch import Tensor

from .configuration_ram import RamConfig


def patch_log_probabilities(similarity: Tensor, *, temperature: Tensor) -> Tensor:
    """What each patch shows, `log softmax_j(s_pj / temperature)`: labels compete in every patch by themselves.

    Args:
        similarity: cosine similarity of patches and labels, shape (B, P, L).
        temperature: a scalar.

    Returns:
        Shape (B, P, L).
    """
    return (similarity / temperature).log_softmax(dim=-1)


def aggregate_patches(log_probabilities: Tensor, similarity: Tensor, aggregation: str, temperature: Tensor) -> Tensor:
    """Local logits without a transport plan.

    With q_pj the patch's probability of a label: "max" is `log max_p q_pj`, "mean" is `log mean_p q_pj`, and
    "logsumexp" is `log mean_p exp(s_pj / temperature)`, where labels compete in the image as a whole.

    Args:
        log_probabilities: log q, shape (B, P, L).
        similarity: s, shape (B, P, L).
        aggregation: "max", "mean" or "logsumexp".
        temperature: that of q, a scalar.

    Returns:
        Shape (B, L); in each place nothing but the column of that label.
    """
    if aggregation == "max":
        return log_probabilities.amax(dim=1)
    patches = log_probabilities if aggregation == "mean" else similarity / temperature
    return patches.logsumexp(dim=1) - math.log(patches.shape[1])


def label_columns(log_probabilities: Tensor) -> Tensor:
    """Where each label is, as distributions over patches, `q_pj / sum_p q_pj`, shape (B, P, L)."""
    return log_probabilities.softmax(dim=1)


def combine_scores(global_logits: Tensor, local_logits: Tensor, config: RamConfig) -> tuple[Tensor, Tensor]:
    """One score of both halves, g = softmax of the global logits and l = softmax of the local logits.

    With w = `global_weight`: the "mean" is `w g + (1 - w) l` (arXiv 2503.15337, where w = 1/2). The "product" is
    `g^(2w) l^(2 (1 - w))` over its sum: at w = 1/2 that of two experts who must agree.

    Args:
        global_logits: shape (B, L).
        local_logits: shape (B, L).
        config: `score_combination` and `global_weight`.

    Returns:
        Scores, whose rows sum to 1, and their logarithms; both of shape (B, L).
    """
    of_whole, of_patches = 2 * config.global_weight, 2 * (1 - config.global_weight)
    log_whole, log_patches = global_logits.log_softmax(dim=-1), local_logits.log_softmax(dim=-1)
    if config.score_combination == "product":
        logits = (of_whole * log_whole + of_patches * log_patches).log_softmax(dim=-1)
        return logits.exp(), logits
    scores = (of_whole * global_logits.softmax(dim=-1) + of_patches * local_logits.softmax(dim=-1)) / 2
    return scores, torch.logaddexp(log_whole + _log(of_whole), log_patches + _log(of_patches)) - math.log(2)


def _log(weight: float) -> float:
    return math.log(weight) if weight else -math.inf


__all__ = ["aggregate_patches", "combine_scores", "label_columns", "patch_log_probabilities"]
