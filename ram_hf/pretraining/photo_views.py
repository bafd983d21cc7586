"""Views of photographs: a crop, flip and tint of each, with the teacher's map cropped and flipped alike."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_LARGEST_STRETCH = 0.2  # logarithm of a crop's width over its height
_BRIGHTNESS = _CONTRAST = 0.3
_SATURATION = 0.4


@dataclass
class Views:
    """B views.

    Attributes:
        pixels: in [-1, 1], shape (B, 3, S, S).
        maps: what the teacher sees in each patch, shape (B, rows, columns, K).
    """

    pixels: Tensor
    maps: Tensor


def draw_views(
    pixels: Tensor, maps: Tensor, *, image_size: int, patch_size: int, least_area: float, generator: torch.Generator
) -> Views:
    """Crop, flip and tint.

    Args:
        pixels: uint8, shape (B, 3, H, H).
        maps: the teacher's, of the same images, shape (B, h, w, K).
        image_size: S.
        patch_size: side of a patch; the map has one entry for each.
        least_area: smallest share of the image that a crop keeps.
        generator: draws, on the CPU.
    """
    boxes = _draw_boxes(len(pixels), least_area, generator)
    values = pixels.float() / 127.5 - 1
    while values.shape[-1] >= 2 * image_size:  # sampling in between would leave out pixels
        values = F.avg_pool2d(values, 2)
    values = _sample(values, boxes, image_size)
    patches = image_size // patch_size
    seen = _sample(maps.permute(0, 3, 1, 2).float(), boxes, patches).permute(0, 2, 3, 1)
    return Views(_tint(values, generator), seen)


def whole_views(pixels: Tensor, *, image_size: int) -> Tensor:
    """The whole images in [-1, 1], shape (B, 3, S, S), as the image processor gives them."""
    values = F.interpolate(pixels.float(), size=(image_size,) * 2, mode="bicubic", antialias=True)
    return values.clamp(0, 255) / 127.5 - 1


def _draw_boxes(count: int, least_area: float, generator: torch.Generator) -> Tensor:
    """Boxes as affine maps of the square [-1, 1]^2, half of them flipped, shape (B, 2, 3)."""
    area, stretch, x, y, flip = torch.rand(5, count, generator=generator)
    side = (least_area + (1 - least_area) * area).sqrt()
    stretch = ((2 * stretch - 1) * _LARGEST_STRETCH / 2).exp()
    width, height = (side * stretch).clamp(max=1), (side / stretch).clamp(max=1)
    boxes = torch.zeros(count, 2, 3)
    boxes[:, 0, 0] = torch.where(flip < 0.5, width, -width)
    boxes[:, 1, 1] = height
    boxes[:, 0, 2] = (2 * x - 1) * (1 - width)
    boxes[:, 1, 2] = (2 * y - 1) * (1 - height)
    return boxes


def _sample(values: Tensor, boxes: Tensor, size: int) -> Tensor:
    grid = F.affine_grid(boxes, [len(values), values.shape[1], size, size], align_corners=False)
    return F.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _tint(values: Tensor, generator: torch.Generator) -> Tensor:
    drawn = 2 * torch.rand(3, len(values), 1, 1, 1, generator=generator) - 1
    strength = drawn * torch.tensor([_BRIGHTNESS, _CONTRAST, _SATURATION]).view(3, 1, 1, 1, 1)
    grey = values.mean(dim=1, keepdim=True)
    values = grey + (values - grey) * (1 + strength[2])
    level = values.mean(dim=(1, 2, 3), keepdim=True)
    return (level + (values - level) * (1 + strength[1]) + strength[0]).clamp(-1, 1)


def epoch_rows(rows: Tensor, first: int, count: int, *, seed: int) -> Tensor:
    """Numbers `first` to `first + count` of an endless shuffling of rows: each comes once an epoch.

    Args:
        rows: to shuffle.
        first: place in the stream.
        count: how many.
        seed: of all epochs.
    """
    found: list[Tensor] = []
    while count > 0:
        epoch, place = divmod(first, len(rows))
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
        taken = min(count, len(rows) - place)
        found.append(rows[order[place : place + taken]])
        first, count = first + taken, count - taken
    return torch.cat(found)


__all__ = ["Views", "draw_views", "epoch_rows", "whole_views"]
