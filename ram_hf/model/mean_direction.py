"""One feature for a label that several texts stand for."""

import torch.nn.functional as F
from torch import Tensor


def mean_direction(features: Tensor) -> Tensor:
    """The mean of several features as directions: each L2-normalised, averaged, and the mean normalised.

    The result is as long as the features are on average: a cosine knows no length, but what was trained on features
    of that length may.

    Args:
        features: not normalised, shape (..., K, D).

    Returns:
        Shape (..., D), in the dtype of the features.
    """
    lengths = features.float().norm(dim=-1, keepdim=True)
    direction = F.normalize((features.float() / lengths).mean(dim=-2), dim=-1)
    return (direction * lengths.mean(dim=-2)).to(features.dtype)


__all__ = ["mean_direction"]
