"""What an image shows, in a few hundred bytes: by this a search chooses the images that it looks at in full.

The evidence for a label is nearly that of the whole and of the patch that is most like it. A sketch keeps the whole
and the patches' means by kind, in the directions in which label names differ, as small integers. How many images are
missed for it stands in docs/index.md (`benchmarks/index.py`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_ITERATIONS = 5
_LARGEST = 127  # of an int8, for a component of 1


def sketch_basis(reference_embeds: Tensor, width: int) -> Tensor:
    """The directions in which label names differ most, shape (K, D), orthonormal.

    Args:
        reference_embeds: of the reference labels, L2-normalised, shape (R, D).
        width: K, at most D.
    """
    _, _, directions = torch.linalg.svd(reference_embeds.float().cpu(), full_matrices=True)
    return directions[:width].contiguous()


def sketch_images(image_embeds: Tensor, patch_embeds: Tensor, basis: Tensor, num_means: int) -> Tensor:
    """Sketch images: the whole, and means of alike patches (spherical k-means from patches spread over the image).

    Args:
        image_embeds: L2-normalised, shape (B, D).
        patch_embeds: L2-normalised, shape (B, P, D).
        basis: from [`sketch_basis`], shape (K, D).
        num_means: V - 1, at most P.

    Returns:
        Shape (B, V, K), int8; the whole is the first of the V.
    """
    patches = patch_embeds.float()
    spread = torch.linspace(0, patches.shape[1] - 1, num_means, device=patches.device).round().long()
    centres = patches[:, spread]
    for _ in range(_ITERATIONS if num_means < patches.shape[1] else 0):
        nearest = (patches @ centres.mT).argmax(dim=2)  # (B, P)
        members = F.one_hot(nearest, num_means).to(patches.dtype)  # (B, P, V)
        centres = F.normalize(members.mT @ patches + 1e-6 * centres, dim=2)
    centres = torch.cat([image_embeds.float().unsqueeze(1), centres], dim=1)
    return (centres @ basis.to(patches.device).T * _LARGEST).round().to(torch.int8)


def sketched_similarity(sketches: Tensor, label_embeds: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """About the similarity of labels and whole images, and of labels and the patch that is most like each.

    Args:
        sketches: shape (B, V, K), int8.
        label_embeds: L2-normalised, shape (L, D).
        basis: shape (K, D).

    Returns:
        Both of shape (B, L).
    """
    projected = label_embeds.float() @ basis.T / _LARGEST  # (L, K)
    similarity = sketches.float() @ projected.T  # (B, V, L)
    return similarity[:, 0], similarity[:, 1:].amax(dim=1)


__all__ = ["sketch_basis", "sketch_images", "sketched_similarity"]
