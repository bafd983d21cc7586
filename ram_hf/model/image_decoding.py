"""Encoded files and arrays to upright RGB images, with Pillow and NumPy alone: what only decodes needs no torch."""

from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

_CHANNEL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_BACKGROUND = (255, 255, 255)  # what shows through transparent pixels: images with alpha are drawn for white pages


def decode_image(
    file: BinaryIO | str, name: str, *, draft_size: int | None = None, formats: list[str] | None = None
) -> Image.Image:
    """Decode an image, of several frames the first, to upright RGB as [`upright_rgb`] does.

    Args:
        file: open file or path.
        name: what errors call it.
        draft_size: None decodes every pixel. With a number, a JPEG is decoded at 1/2, 1/4 or 1/8 of its size as long
            as both sides keep that many pixels: much faster for large photographs, and scores change slightly. Twice
            the model's image size is a good value.
        formats: Pillow's names of the formats to try; None for all that Pillow knows.

    Returns:
        PIL image of mode RGB.

    Raises:
        ValueError: when it cannot be decoded, or is less than 2 pixels wide or high.
        FileNotFoundError: when there is no such file.
    """
    try:
        image = Image.open(file, formats=formats)
        if draft_size is not None:
            image.draft(None, (draft_size, draft_size))  # does nothing to other formats than JPEG
        image.load()
    except UnidentifiedImageError as error:  # its own message names an object in memory
        raise ValueError(f"Cannot read {name} as an image: it is of no known format") from error
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"Cannot read {name} as an image: {error}") from error
    return upright_rgb(image)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turn an image upright by its EXIF orientation, and make it RGB as [`to_rgb`] does.

    Raises:
        ValueError: when it is less than 2 pixels wide or high.
    """
    if min(image.size) < 2:
        raise ValueError(f"The image is {image.width} x {image.height} pixels: there is nothing to see in it.")
    return to_rgb(ImageOps.exif_transpose(image))


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any PIL mode to RGB: transparency is laid on white, more than 8 bits are scaled, not cut off."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        image = image_from_array(np.asarray(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, (*_BACKGROUND, 255))
        image = Image.alpha_composite(background, image)
    return image.convert("RGB")


def image_from_array(array: np.ndarray, *, channels_first: bool = False) -> Image.Image:
    """Make an image of mode L, RGB or RGBA of an array.

    Args:
        array: shape (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels: uint8, uint16, bool, or float in [0, 1] or
            [0, 255].
        channels_first: read (C, H, W) where both ends could be channels.

    Raises:
        ValueError: when the array has another shape, or values out of range.
    """
    given_shape = tuple(array.shape)
    if array.ndim == 3 and (channels_first or array.shape[-1] not in _CHANNEL_MODES):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in _CHANNEL_MODES:
        raise ValueError(
            f"An image array must have shape (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels, "
            f"got {given_shape}."
        )
    if array.size == 0:
        raise ValueError(f"The image array of shape {given_shape} holds no pixels.")
    mode = _CHANNEL_MODES[array.shape[-1]]
    array = _to_uint8(array)
    return Image.fromarray(array.squeeze(-1) if mode == "L" else np.ascontiguousarray(array), mode)


def _to_uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if not np.isfinite(array).all():
        raise ValueError("The image holds NaN or infinite pixels.")
    low, high = array.min(), array.max()
    slack = 0.0
    if array.dtype.kind in "ui":
        is_deep = array.dtype.kind == "u" and array.dtype.itemsize == 2
        limit = 65535 if is_deep or high > 255 else 255
    else:
        # Resizing with a smooth filter overshoots, which is cut off. Normalised pixels reach far below zero and little
        # above two: they are told from pixels in [0, 255] by that.
        limit = 1 if high <= 2 else 255
        slack = 1 if high <= 8 else 64
    if low < -slack / 2 or high > limit + slack:
        raise ValueError(
            f"Pixels of type {array.dtype} must lie in [0, {limit}], got [{low}, {high}]. "
            "Pass pictures before normalisation."
        )
    return np.rint(np.clip(array, 0, limit) * (255 / limit)).astype(np.uint8)


__all__ = ["decode_image", "image_from_array", "to_rgb", "upright_rgb"]
