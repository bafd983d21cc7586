"""The loss over the batch of all processes."""

import torch
import torch.distributed as dist
from torch import Tensor

from ..model.losses import label_loss


def gathered_label_loss(logits: Tensor, labels: Tensor, *, label_weights: Tensor | None = None) -> Tensor:
    """[`label_loss`] over the logits of all processes together.

    DDP averages gradients over the processes, and each process differentiates its own logits alone. The value returned
    is that of the loss; its gradient is scaled by the number of processes, so that the average is the true gradient.

    Args:
        logits: of this process, shape (B, L); B is the same on all processes.
        labels: shape (B, L).
        label_weights: shape (L,), the same on all processes.

    Returns:
        Scalar, equal on all processes.
    """
    world_size = dist.get_world_size()
    all_logits = [torch.empty_like(logits) for _ in range(world_size)]
    all_labels = [torch.empty_like(labels) for _ in range(world_size)]
    dist.all_gather(all_logits, logits.detach().contiguous())
    dist.all_gather(all_labels, labels.contiguous())
    all_logits[dist.get_rank()] = logits  # the one with a gradient
    loss = label_loss(torch.cat(all_logits), torch.cat(all_labels), label_weights=label_weights)
    return loss.detach() + (loss - loss.detach()) * world_size


__all__ = ["gathered_label_loss"]
