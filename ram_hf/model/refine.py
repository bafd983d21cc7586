"""The second look: the best labels of an image once more, each in a crop around what speaks for it.

After TagCLIP's re-identification of classes (arXiv 2312.12828), by the columns of the transport plan. There the class
token of the crop is also kept from looking beside the label's patches; here the crop alone tells it where to look.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .modeling_ram import RamModel, RamOutput

REFINES_NO_PROBABILITY = (
    "`refine` judges the best labels of a list again, and a probability does not depend on what else is in the list: "
    "it goes with the paper's score alone."
)


def refine_scores(
    model: RamModel, pixel_values: Tensor, label_features: Tensor, output: RamOutput, *, num_labels: int
) -> Tensor:
    """The paper's scores with those of the best labels judged again; see [`look_again`].

    Args:
        model: who judges.
        pixel_values: shape (B, 3, H, W).
        label_features: from `get_label_features`, shape (L, D).
        output: of the model for these, with its transport plan.
        num_labels: how many labels of an image are judged again at most.

    Returns:
        Scores, shape (B, L).
    """
    return look_again(
        pixel_values,
        output.scores,
        output.transport_plan,
        grid=model.config.patch_grid(*pixel_values.shape[-2:]),
        num_labels=num_labels,
        score_crops=lambda crops: model(crops, label_features=label_features, output_probabilities=False).scores,
    )


@torch.no_grad()
def look_again(
    pixel_values: Tensor,
    scores: Tensor,
    transport_plan: Tensor,
    *,
    grid: tuple[int, int],
    num_labels: int,
    score_crops: Callable[[Tensor], Tensor],
) -> Tensor:
    """Judge the best labels of each image again, in a crop of it that is as large as the image was.

    A label is judged again when it is among the image's `num_labels` best and above the middle of its range, the mean
    of its highest and its lowest score. The crop is the box around the patches where the label's column of the plan is
    at least half of its range. Half of the new score is the old one, half that of the label in its crop. So scores no
    longer sum to 1 over the labels, and depend on nothing but the image and the label list.

    Args:
        pixel_values: the images as the model saw them, shape (B, 3, H, W).
        scores: theirs, shape (B, L).
        transport_plan: from the same forward pass, shape (B, P, L).
        grid: rows and columns of patches, whose product is P.
        num_labels: how many labels of an image are judged again at most.
        score_crops: scores (C, L) of crops (C, 3, H, W); at most B of them at once.

    Returns:
        Scores, shape (B, L).
    """
    ranked, order = scores.sort(dim=1, descending=True, stable=True)
    middle = (ranked[:, :1] + ranked[:, -1:]) / 2
    images, ranks = (ranked[:, :num_labels] > middle).nonzero(as_tuple=True)
    labels = order[images, ranks]
    maps = transport_plan[images, :, labels].unflatten(1, grid)  # (C, rows, columns)
    boxes = _boxes(maps, tuple(pixel_values.shape[-2:]))
    refined = scores.clone()
    for start in range(0, len(boxes), len(pixel_values)):
        some = slice(start, start + len(pixel_values))
        image, label = images[some], labels[some]
        crops = [_cropped(pixel_values[index], box) for index, box in zip(image.tolist(), boxes[some], strict=True)]
        of_crops = score_crops(torch.stack(crops)).gather(1, label.unsqueeze(1)).squeeze(1)
        refined[image, label] = (scores[image, label] + of_crops) / 2
    return refined


def _boxes(maps: Tensor, size: tuple[int, int]) -> list[list[int]]:
    """Top, bottom, left and right border, in pixels, of the patches of at least half the range of their map."""
    middle = (maps.amax(dim=(1, 2), keepdim=True) + maps.amin(dim=(1, 2), keepdim=True)) / 2
    is_hot = maps >= middle  # (C, rows, columns)
    borders = []
    for axis, pixels in zip((1, 2), size, strict=True):
        held = is_hot.any(dim=3 - axis).int()  # (C, rows) or (C, columns)
        number = held.shape[1]
        first, last = held.argmax(dim=1), number - held.flip(1).argmax(dim=1)
        borders += [first * pixels // number, (last * pixels + number - 1) // number]
    boxes: list[list[int]] = torch.stack(borders, dim=1).tolist()
    return boxes


def _cropped(image: Tensor, box: list[int]) -> Tensor:
    """A part of an image (3, H, W), as large as the image."""
    top, bottom, left, right = box
    part = image[:, top:bottom, left:right].unsqueeze(0)
    size = tuple(image.shape[-2:])
    return F.interpolate(part, size=size, mode="bilinear", align_corners=False).squeeze(0)


__all__ = ["REFINES_NO_PROBABILITY", "look_again", "refine_scores"]
