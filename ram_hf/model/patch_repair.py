"""Patches mended by their neighbours: on the grid, where one is an outlier, or all that look alike.

Both are published for training-free tagging with CLIP's ViT-B/16 (arXiv 2605.25821) and off by default; what they do
here stands in docs/training_free.md. Pure functions of tensors; no image's result depends on another's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_NEIGHBOURS = 30  # by which a patch's density is judged
OUTLIER_SHARE = 0.05  # of an image's patches


def local_outlier_factor(points: Tensor, *, num_neighbours: int) -> Tensor:
    """How much thinner points lie around each point than around its neighbours (Breunig et al. 2000).

    With d the Euclidean distance, N(p) the k nearest neighbours of p without itself, and d_k(o) the distance of o to
    its k-th: `reach(p, o) = max(d_k(o), d(p, o))`, `density(p) = 1 / mean of reach(p, o) over o in N(p)`, and the
    factor is the mean of `density(o) / density(p)` over N(p): about 1 inside a cluster, more outside.

    Args:
        points: shape (B, P, D); each image's are judged among themselves.
        num_neighbours: k, from 1 to P - 1.

    Returns:
        Shape (B, P), float32.
    """
    points = points.float()
    squares = points.square().sum(dim=-1)
    distances = (squares.unsqueeze(2) + squares.unsqueeze(1) - 2 * points @ points.mT).clamp_min(0).sqrt()
    itself = torch.eye(points.shape[1], dtype=torch.bool, device=points.device)
    nearest, neighbours = distances.masked_fill(itself, torch.inf).topk(num_neighbours, dim=2, largest=False)
    neighbours_of_all = neighbours.flatten(1)  # (B, P * k)
    farthest = nearest[..., -1].gather(1, neighbours_of_all).view_as(nearest)
    density = 1 / (torch.maximum(farthest, nearest).mean(dim=2) + 1e-10)  # points may coincide
    return density.gather(1, neighbours_of_all).view_as(nearest).mean(dim=2) / density


def repair_outliers(patch_features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Replace the patches that stand out most from their image by the mean of their neighbours on the grid.

    Such patches hold what CLIP has gathered of the whole image, and nothing of their place. Of P patches the
    `OUTLIER_SHARE` with the largest [`local_outlier_factor`] are replaced, rounded down, each by the mean of the up to
    eight patches around it as they were.

    Args:
        patch_features: shape (B, P, D), patches row by row.
        grid: rows and columns of patches.

    Returns:
        Shape (B, P, D).
    """
    num_patches = patch_features.shape[1]
    num_outliers = int(OUTLIER_SHARE * num_patches)
    if not num_outliers:
        return patch_features
    directions = F.normalize(patch_features.detach().float(), dim=-1)
    factors = local_outlier_factor(directions, num_neighbours=min(NUM_NEIGHBOURS, num_patches - 1))
    worst = factors.topk(num_outliers, dim=1).indices
    is_outlier = torch.zeros_like(factors, dtype=torch.bool).scatter(1, worst, True)
    return torch.where(is_outlier.unsqueeze(2), _mean_around(patch_features, grid), patch_features)


def aggregate_similar(patch_features: Tensor, tokens: Tensor) -> Tensor:
    """Let patches that look alike share what they know: each becomes a mean, weighted by similarity.

    The weight of one patch for another is the cosine similarity m of their tokens; it is zero where m is below the
    image's mean of m.

    Args:
        patch_features: shape (B, P, D).
        tokens: of the same patches in a middle layer of the main stream, where they still tell what each looks like,
            shape (B, P, W).

    Returns:
        Means of normalised features, shape (B, P, D).
    """
    directions = F.normalize(tokens.float(), dim=-1)
    similarity = directions @ directions.mT  # (B, P, P)
    is_alike = similarity >= similarity.mean(dim=(1, 2), keepdim=True)
    weights = torch.where(is_alike, similarity, 0).clamp_min(0)
    weights = weights / weights.sum(dim=2, keepdim=True)
    return weights.to(patch_features.dtype) @ F.normalize(patch_features, dim=-1)


def _mean_around(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Of each patch the mean of those around it, (B, P, D)."""
    patch_map = patches.mT.unflatten(2, grid)  # (B, D, rows, columns)
    share = F.avg_pool2d(torch.ones_like(patch_map[:1, :1]), 3, stride=1, padding=1)  # of the 3 x 3 that is there
    around = F.avg_pool2d(patch_map, 3, stride=1, padding=1) - patch_map / 9
    return (around / (share - 1 / 9)).flatten(2).mT


__all__ = ["NUM_NEIGHBOURS", "OUTLIER_SHARE", "aggregate_similar", "local_outlier_factor", "repair_outliers"]
