"""What the model refuses at its public border, with what would be right.

Shapes are checked always, values only where reading them is free: a GPU would stand still for the answer. There, NaN
gives NaN, for the one image that holds it.
"""

from collections import Counter
from collections.abc import Sequence

from torch import Tensor
from transformers import CLIPTextConfig, CLIPVisionConfig

from .losses import UNKNOWN
from .reading import reads_freely
from .reference_labels import ImageFeatures

_LARGEST_PIXEL = 1e4  # normalised ones stay within 3 or so, and within 510 for a standard deviation of 1 / 255
_USE_PROCESSOR = "Make them with the model's processor: `processor(images=...)`."


def check_pixel_values(pixel_values: Tensor, vision_config: CLIPVisionConfig, *, any_size: bool) -> None:
    """Refuse what no processor makes: no tensor of floats, wrong shape or size (unless `any_size`), or not finite."""
    if not isinstance(pixel_values, Tensor):
        raise TypeError(f"`pixel_values` must be a tensor, got {type(pixel_values).__name__}. {_USE_PROCESSOR}")
    if not pixel_values.is_floating_point():
        raise TypeError(f"`pixel_values` must be normalised floats, got {pixel_values.dtype}. {_USE_PROCESSOR}")
    if pixel_values.dim() != 4 or pixel_values.shape[1] != vision_config.num_channels or 0 in pixel_values.shape:
        raise ValueError(
            f"`pixel_values` must have shape (images, {vision_config.num_channels}, height, width) with at least one "
            f"image, got {tuple(pixel_values.shape)}."
        )
    size = tuple(pixel_values.shape[-2:])
    if not any_size and size != (vision_config.image_size, vision_config.image_size):
        raise ValueError(
            f"`pixel_values` are {size[0]} x {size[1]} pixels but this model takes {vision_config.image_size} x "
            f"{vision_config.image_size}. Use its processor, or pass `interpolate_pos_encoding=True`."
        )
    if min(size) < vision_config.patch_size:
        raise ValueError(
            f"Images of {size[0]} x {size[1]} pixels are smaller than one patch ({vision_config.patch_size})."
        )
    if not reads_freely(pixel_values):
        return
    if not bool(pixel_values.isfinite().all()):
        image = int((~pixel_values.isfinite()).flatten(1).any(dim=1).nonzero()[0])
        raise ValueError(f"`pixel_values` of image {image} hold NaN or infinite values.")
    if (largest := float(pixel_values.abs().max())) > _LARGEST_PIXEL:
        raise ValueError(f"`pixel_values` must be normalised, got values up to {largest:.3g}. {_USE_PROCESSOR}")


def check_label_features(label_features: Tensor, width: int) -> None:
    """Refuse label features that are not (L, `width`), or not finite."""
    if label_features.dim() != 2 or label_features.shape[1] != width or label_features.shape[0] == 0:
        raise ValueError(
            f"`label_features` must have shape (labels, {width}) with at least one label, got "
            f"{tuple(label_features.shape)}. Encode the labels with this model's `get_label_features`."
        )
    if reads_freely(label_features) and not bool(label_features.isfinite().all()):
        raise ValueError("`label_features` hold NaN or infinite values.")


def check_label_names(names: Sequence[str], num_features: int) -> None:
    """Refuse names of labels that are not one for each feature, or come twice."""
    if isinstance(names, str) or len(names) != num_features:
        raise ValueError(
            f"`names` must be one for each of the {num_features} `label_features`, got "
            f"{repr(names) if isinstance(names, str) else len(names)}."
        )
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"Labels must be distinct, got {repeated[0]!r} more than once.")


def check_image_features(features: ImageFeatures, width: int) -> None:
    """Refuse what is not [`ImageFeatures`] of this width, whole."""
    names = ("image_embeds", "patch_embeds", "row_scalings", "patch_rivals", "statistics")
    shapes = {name: tuple(getattr(features, name).shape) for name in names if getattr(features, name) is not None}
    images, patches = shapes.get("image_embeds", ())[:1], shapes.get("patch_embeds", ())[1:2]
    wanted = ((*images, width), (*images, *patches, width), (*images, *patches), (*images, *patches), (*images, 6))
    for name, shape in zip(names, wanted, strict=True):
        if shapes.get(name) != shape:
            raise ValueError(
                f"`features.{name}` must have shape {shape}, got {shapes.get(name)}. Encode the images with this "
                "model's `encode_images`."
            )


def check_label_source(input_ids: Tensor | None, label_features: Tensor | None, *, teach: bool) -> None:
    """Refuse labels that come in no form or in both, or as features where the teacher is to encode them too."""
    if (input_ids is None) == (label_features is None):
        raise ValueError("Pass the labels either as `input_ids` or as `label_features`, and not as both.")
    if teach and input_ids is None:
        raise ValueError(
            "In training the frozen teacher encodes the labels too: pass `input_ids` instead of `label_features`, "
            "or set `teacher_weight` to 0 in the configuration."
        )


def check_labels(labels: Tensor, expected: tuple[int, int]) -> None:
    """Refuse targets of the wrong shape, or that are none of 1, 0 and -1."""
    if not isinstance(labels, Tensor):
        raise TypeError(f"`labels` must be a tensor, got {type(labels).__name__}.")
    if tuple(labels.shape) != expected:
        raise ValueError(f"`labels` must have shape (images, labels) = {expected}, got {tuple(labels.shape)}.")
    if not reads_freely(labels):
        return
    invalid = ~((labels == UNKNOWN) | (labels == 0) | (labels == 1))
    if invalid.any():
        raise ValueError(
            f"`labels` must be 1 (in the image), 0 (not) or -1 (unknown), got {labels[invalid][0].item()}."
        )


def check_input_ids(
    input_ids: Tensor, attention_mask: Tensor | None, text_config: CLIPTextConfig, *, one_template: bool = False
) -> None:
    """Refuse tokenised labels of a shape that the text tower cannot take, or padded on the left.

    With `one_template` those of several templates are refused too: there are no tokens that are the mean of theirs.
    """
    context_length = text_config.max_position_embeddings
    if input_ids.dim() not in ((2,) if one_template else (2, 3)) or 0 in input_ids.shape:
        raise ValueError(
            f"`input_ids` must have shape (labels, tokens){'' if one_template else ' or (labels, templates, tokens)'} "
            f"with at least one label, got {tuple(input_ids.shape)}."
        )
    if input_ids.shape[-1] > context_length:
        raise ValueError(
            f"`input_ids` are {input_ids.shape[-1]} tokens long but the text tower takes {context_length}. "
            "Shorten the labels, or let the processor cut them with `truncation=True`."
        )
    if attention_mask is not None:
        if attention_mask.shape != input_ids.shape:
            raise ValueError(
                f"`attention_mask` must have the shape of `input_ids`, {tuple(input_ids.shape)}, "
                f"got {tuple(attention_mask.shape)}."
            )
        if reads_freely(attention_mask) and not bool(attention_mask[..., 0].all()):
            raise ValueError("The labels are padded on the left; CLIP's text tower takes them padded on the right.")


__all__ = ["check_input_ids", "check_label_features", "check_label_source", "check_labels", "check_pixel_values"]
