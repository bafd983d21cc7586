"""Entropic optimal transport between patches and labels: pure functions of tensors that know nothing of CLIP."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .reading import reads_freely

# Beyond this the kernel exp(-cost / epsilon) nears the smallest float32 (exp(-50) = 2e-22), and the scalings, which
# take its reciprocal, the largest: the same iteration then runs on logarithms.
_LARGEST_EXPONENT = 50.0


class TransportResult(NamedTuple):
    """Result of [`sinkhorn`].

    Attributes:
        plan: transport plan, shape (B, P, L), all entries >= 0; its columns sum to the label marginal.
        num_iterations: shape (B,), iterations that each image took, int64.
        log_row_scaling: shape (B, P), logarithm of the r in `plan = diag(r) exp(-cost / epsilon) diag(c)`, float32.
    """

    plan: Tensor
    num_iterations: Tensor
    log_row_scaling: Tensor


def patch_marginal_from_similarity(similarity: Tensor, *, temperature: float) -> Tensor:
    """Label presence detection: how much of any label each patch holds, as a distribution over patches.

    `u_p = softmax_p(max_j s_pj / temperature)` (arXiv 2503.15337, label presence detection).

    Args:
        similarity: cosine similarity of patches and labels in [-1, 1], shape (B, P, L).
        temperature: in units of similarity, > 0.

    Returns:
        Shape (B, P); each row sums to 1. No gradient flows through it.
    """
    return (similarity.detach().amax(dim=-1) / temperature).softmax(dim=-1)


def cost_from_similarity(similarity: Tensor, *, logit_scale: Tensor | float) -> Tensor:
    """Price of matching a patch to a label, `1 - softmax_j(logit_scale * s_pj)`, in [0, 1].

    Args:
        similarity: cosine similarity, shape (B, P, L).
        logit_scale: CLIP's factor on similarities (about 100), not its logarithm.

    Returns:
        Shape (B, P, L). No gradient flows through it.
    """
    return 1 - (similarity.detach() * logit_scale).softmax(dim=-1)


def teacher_cost(
    teacher_similarity: Tensor,
    *,
    logit_scale: Tensor | float,
    sharpness: float,
    absent: Tensor | None = None,
) -> Tensor:
    """Price that a frozen teacher puts on matching a patch to a label, `-log q` (teacher knowledge transfer).

    `q_pj = softmax_p(sharpness * softmax_j(logit_scale * s_pj))`, and where a label is absent from its image, q is
    replaced by the smallest q of the batch. Adding `weight * teacher_cost` to the cost and `weight` to epsilon is what
    a Kullback-Leibler constraint of that weight toward q becomes.

    Args:
        teacher_similarity: cosine similarity of the teacher's patches and labels, shape (B, P, L).
        logit_scale: CLIP's factor on similarities.
        sharpness: factor on the label probabilities before the softmax over patches.
        absent: bool, shape (B, L), True where a label is known not to be in the image.

    Returns:
        Shape (B, P, L), >= 0. No gradient flows through it.
    """
    label_probabilities = (teacher_similarity.detach() * logit_scale).softmax(dim=-1)
    # The logarithm is taken inside the softmax: q itself can be as small as exp(-sharpness) / P.
    log_q = (sharpness * label_probabilities).log_softmax(dim=1)
    if absent is not None:
        log_q = torch.where(absent.unsqueeze(1), log_q.amin(), log_q)
    return -log_q


def largest_teacher_cost(num_patches: int, *, sharpness: float) -> float:
    """What [`teacher_cost`] cannot exceed: it is of a softmax over P patches of numbers in [0, sharpness]."""
    return sharpness + math.log(num_patches)


@torch.no_grad()
def sinkhorn(
    cost: Tensor,
    patch_marginal: Tensor,
    label_marginal: Tensor,
    *,
    epsilon: float,
    largest_cost: float | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
) -> TransportResult:
    r"""Entropic optimal transport by Sinkhorn's iteration (Cuturi 2013), one problem per image.

    Minimises `<T, cost> + epsilon * sum T (log T - 1)` over plans T >= 0 with row sums `patch_marginal` and column
    sums `label_marginal`. With `K = exp(-cost / epsilon)` and r = c = 1 at the start, `r = u / (K c)` and
    `c = v / (K^T r)` are repeated; an image stops, on its own, when the mean absolute change of its r falls
    below `tolerance`. The plan `diag(r) K diag(c)` meets the label marginal to rounding, and the patch marginal
    the better the smaller the tolerance.

    Differentiation: none, the plan is a constant to the loss. Precision: float32 with autocast off, whatever comes in;
    the plan returns in the dtype of `cost`. Zero marginals are legal and give zero rows or columns. On a CPU the loop
    ends when all images have stopped; elsewhere it always runs `max_iterations`, with stopped images held still,
    because asking the device would cost more than it saves.

    Args:
        cost: shape (B, P, L), of any size; NaN gives NaN.
        patch_marginal: row sums, shape (B, P), >= 0.
        label_marginal: column sums, shape (B, L) or (L,), >= 0, same total as the rows.
        epsilon: regularisation in the unit of the cost, > 0.
        largest_cost: a bound of the absolute cost, where the caller knows one: it decides whether the iteration needs
            logarithms. Without one a cost on a CPU is read, and elsewhere logarithms are taken, which are right for
            any cost, and slower.
        tolerance: mean absolute change of r below which an image stops; 0 runs exactly `max_iterations`.
        max_iterations: at least 1.

    Returns:
        [`TransportResult`].

    Raises:
        ValueError: when a shape does not fit, there is no patch or no label, or a number is out of range.

    Example:
        >>> cost = torch.rand(1, 4, 3)
        >>> result = sinkhorn(cost, torch.full((1, 4), 1 / 4), torch.full((3,), 1 / 3), epsilon=0.1)
        >>> result.plan.sum()
        tensor(1.)
    """
    _check_problem(cost, patch_marginal, label_marginal, epsilon, tolerance, max_iterations)
    with torch.autocast(cost.device.type, enabled=False):
        u = patch_marginal.float().unsqueeze(-1)  # (B, P, 1)
        v = label_marginal.float().expand(cost.shape[0], -1).unsqueeze(-1)  # (B, L, 1)
        kernel = cost.float() / -epsilon  # (B, P, L), a logarithm so far
        if _needs_logarithms(kernel, epsilon, largest_cost):
            row, column, num_iterations = _iterate_logarithms(kernel, u.log(), v.log(), tolerance, max_iterations)
            plan = kernel.add_(row).add_(column.mT).exp_()
            log_row = row
        else:
            kernel = kernel.exp_()
            row, column, num_iterations = _iterate_scalings(kernel, u, v, tolerance, max_iterations)
            plan = kernel.mul_(row).mul_(column.mT)
            log_row = row.log()
    return TransportResult(plan.to(cost.dtype), num_iterations, log_row.squeeze(-1))


def _needs_logarithms(exponents: Tensor, epsilon: float, largest_cost: float | None) -> bool:
    if largest_cost is not None:
        return largest_cost / epsilon > _LARGEST_EXPONENT
    return not reads_freely(exponents) or exponents.abs().amax().item() > _LARGEST_EXPONENT


def _iterate_scalings(
    kernel: Tensor, u: Tensor, v: Tensor, tolerance: float, max_iterations: int
) -> tuple[Tensor, Tensor, Tensor]:
    def step(column: Tensor) -> tuple[Tensor, Tensor]:
        row = u / (kernel @ column)
        return row, v / (kernel.mT @ row)

    return _iterate(step, torch.ones_like(u), torch.ones_like(v), lambda row: row, tolerance, max_iterations)


def _iterate_logarithms(
    log_kernel: Tensor, log_u: Tensor, log_v: Tensor, tolerance: float, max_iterations: int
) -> tuple[Tensor, Tensor, Tensor]:
    def step(log_column: Tensor) -> tuple[Tensor, Tensor]:
        log_row = log_u - torch.logsumexp(log_kernel + log_column.mT, dim=2, keepdim=True)
        return log_row, log_v - torch.logsumexp(log_kernel + log_row, dim=1).unsqueeze(-1)

    return _iterate(step, torch.zeros_like(log_u), torch.zeros_like(log_v), torch.exp, tolerance, max_iterations)


def _iterate(
    step: Callable[[Tensor], tuple[Tensor, Tensor]],
    row: Tensor,
    column: Tensor,
    to_scaling: Callable[[Tensor], Tensor],
    tolerance: float,
    max_iterations: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Repeat `step`; returns rows (B, P, 1), columns (B, L, 1) and each image's number of iterations (B,)."""
    running = torch.ones_like(row[:, :1], dtype=torch.bool)
    num_iterations = torch.zeros(row.shape[0], dtype=torch.long, device=row.device)
    for _ in range(max_iterations):
        new_row, new_column = step(column)
        if tolerance == 0:  # a graph without a branch, for export
            row, column = new_row, new_column
            num_iterations += 1
            continue
        change = (to_scaling(new_row) - to_scaling(row)).abs().mean(dim=1, keepdim=True)
        row = torch.where(running, new_row, row)
        column = torch.where(running, new_column, column)
        num_iterations += running.view(-1)
        running = running & ~(change < tolerance)
        if reads_freely(row) and not running.any():
            break
    return row, column, num_iterations


def _check_problem(
    cost: Tensor,
    patch_marginal: Tensor,
    label_marginal: Tensor,
    epsilon: float,
    tolerance: float,
    max_iterations: int,
) -> None:
    if cost.dim() != 3:
        raise ValueError(f"`cost` must have shape (images, patches, labels), got {tuple(cost.shape)}.")
    batch_size, num_patches, num_labels = cost.shape
    if num_patches == 0 or num_labels == 0:
        raise ValueError(f"There is nothing to match: `cost` has {num_patches} patches and {num_labels} labels.")
    if tuple(patch_marginal.shape) != (batch_size, num_patches):
        raise ValueError(
            f"`patch_marginal` must have shape {(batch_size, num_patches)}, got {tuple(patch_marginal.shape)}."
        )
    if tuple(label_marginal.shape) not in ((num_labels,), (batch_size, num_labels)):
        raise ValueError(
            f"`label_marginal` must have shape {(num_labels,)} or {(batch_size, num_labels)}, "
            f"got {tuple(label_marginal.shape)}."
        )
    if not epsilon > 0:
        raise ValueError(f"`epsilon` must be above 0, got {epsilon}.")
    if tolerance < 0 or max_iterations < 1:
        raise ValueError(
            f"`tolerance` must be at least 0 and `max_iterations` at least 1, got {tolerance} and {max_iterations}."
        )


__all__ = [
    "TransportResult",
    "cost_from_similarity",
    "largest_teacher_cost",
    "patch_marginal_from_similarity",
    "sinkhorn",
    "teacher_cost",
]
