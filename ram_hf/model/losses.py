"""Losses of Recover and Match: pure functions of logits and labels."""

import torch
import torch.nn.functional as F
from torch import Tensor

UNKNOWN = -1  # the value of a label nobody has looked for in an image


def multi_matching_loss(logits: Tensor, labels: Tensor, *, label_weights: Tensor | None = None) -> Tensor:
    """Multi-matching contrastive loss (arXiv 2503.15337).

    `-(1 / |positives|) sum over positive (b, j) of [logit_bj - logsumexp over all (b', j') of the batch]`: each pair
    of an image and a label that is in it competes with every pair of the batch.

    With weights w (ours, the paper has none) the mean over the positives becomes a weighted one:
    `-(1 / sum over positive (b, j) of w_j) sum over positive (b, j) of w_j [logit_bj - logsumexp ...]`; what a pair
    competes with stays as it is.

    Args:
        logits: shape (B, L).
        labels: 1 where the label is in the image, 0 where it is not, shape (B, L).
        label_weights: weight of each label's positives, > 0, shape (L,); only their ratios count. None: all alike.

    Returns:
        Scalar; 0 (with a gradient of 0) when the batch holds no positive.
    """
    log_probabilities = logits.flatten().log_softmax(dim=0)
    positive = (labels == 1).flatten()
    # `where`, not a product: a logit of -inf would turn 0 * -inf into NaN.
    log_probabilities = torch.where(positive, log_probabilities, 0)
    if label_weights is None:
        return -log_probabilities.sum() / positive.sum().clamp(min=1)
    weights = torch.where(positive, label_weights.expand_as(logits).flatten(), 0)
    mass = weights.sum()
    return -(weights * log_probabilities).sum() / torch.where(mass > 0, mass, 1)


def asymmetric_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma_negative: float = 4.0,
    gamma_positive: float = 1.0,
    clip: float = 0.05,
    label_weights: Tensor | None = None,
) -> Tensor:
    """Asymmetric loss for multi-label data (Ridnik et al. 2021, arXiv 2009.14119, equation 7), unknown entries masked.

    With p = sigmoid(logit) and p_m = max(p - clip, 0): `-(1 - p)^gamma_positive log p` for positives and
    `-p_m^gamma_negative log(1 - p_m)` for negatives. The focusing factors take part in the gradient, as in the paper.
    With weights w (ours) the loss of a positive of label j is multiplied by w_j.

    Args:
        logits: log-odds of each label, shape (B, L).
        labels: 1, 0, or -1 for unknown, shape (B, L).
        gamma_negative: focusing of negatives, >= 0.
        gamma_positive: focusing of positives, >= 0.
        clip: probability margin below which a negative costs nothing, in [0, 1).
        label_weights: weight of each label's positives, > 0, shape (L,); None: all 1.

    Returns:
        Scalar: sum over the known labels, mean over the images.
    """
    probability = logits.sigmoid()
    shifted = (probability - clip).clamp(min=0)
    positive_loss = (1 - probability) ** gamma_positive * -F.logsigmoid(logits)
    if label_weights is not None:
        positive_loss = positive_loss * label_weights
    negative_loss = shifted**gamma_negative * -torch.log1p(-shifted.clamp(max=1 - 1e-6))
    loss = torch.where(labels == 1, positive_loss, torch.where(labels == 0, negative_loss, 0))
    return loss.sum() / labels.shape[0]


def log_odds_of_softmax(logits: Tensor) -> Tensor:
    """Log-odds `log p - log(1 - p)` of `p = softmax_j(logits)`.

    CLIP's logits all lie near 20: a sigmoid would call every label present, with no gradient. Their softmax over the
    labels is what the model's score is made of, so losses that expect log-odds get those of the softmax.

    Args:
        logits: shape (B, L).

    Returns:
        Shape (B, L). With a single label, p = 1, the result is large and finite.
    """
    log_p = logits.log_softmax(dim=-1)
    # log(1 - p) = logsumexp of the other labels; from expm1 it is exact for small p, and the bound keeps it finite.
    return log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-6)))


def label_loss(logits: Tensor, labels: Tensor, *, label_weights: Tensor | None = None) -> Tensor:
    """The loss of a batch: multi-matching, or asymmetric over the known labels where one of them is unknown.

    Which one is decided on the device, so that no training step waits for it.

    Args:
        logits: shape (B, L).
        labels: 1, 0, or -1 for unknown, shape (B, L).
        label_weights: of each label's positives, > 0, shape (L,); None: all 1.

    Returns:
        Scalar.
    """
    has_unknown = (labels == UNKNOWN).any()
    asymmetric = asymmetric_loss(log_odds_of_softmax(logits), labels, label_weights=label_weights)
    return torch.where(has_unknown, asymmetric, multi_matching_loss(logits, labels, label_weights=label_weights))


__all__ = ["UNKNOWN", "asymmetric_loss", "label_loss", "log_odds_of_softmax", "multi_matching_loss"]
