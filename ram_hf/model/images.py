"""Any form of picture in, an upright RGB picture out."""

import base64
import io
import os
from collections.abc import Iterable, Mapping
from http.client import HTTPException
from urllib.request import Request, urlopen

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

_CHANNEL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_DOWNLOAD_TIMEOUT = 60  # seconds
_BACKGROUND = (255, 255, 255)  # what shows through transparent pixels: pictures with alpha are drawn for white pages


def is_one_image(images) -> bool:
    """Whether this is one picture for [`read_image`], or several: a list, a generator, a batch as one array."""
    if isinstance(images, str | bytes | bytearray | os.PathLike | Image.Image | Mapping):
        return True  # a mapping is one thing, if no picture: its keys are none either
    return getattr(images, "ndim", 4) != 4 or not isinstance(images, Iterable)


def read_image(source) -> Image.Image:
    """Read a picture and make it RGB: upright by its EXIF orientation, transparency on white, 16 bits scaled to 8.

    Args:
        source: PIL picture; path; URL (http, https or data); encoded bytes; or NumPy array or tensor of shape (H, W),
            (H, W, C) or (C, H, W) with 1, 3 or 4 channels: uint8, uint16, bool, or float in [0, 1] or [0, 255].

    Returns:
        PIL picture of mode RGB.

    Raises:
        TypeError: when the source is of another kind.
        ValueError: when it cannot be decoded, has a wrong shape or values, or is less than 2 pixels wide or high.
        OSError: when there is no such file or address.
    """
    if isinstance(source, Image.Image):
        image = source
    elif isinstance(source, np.ndarray | torch.Tensor):
        image = _from_array(source)
    elif isinstance(source, bytes | bytearray):
        image = _decode(io.BytesIO(source), "the given bytes")
    elif isinstance(source, str) and source.startswith(("http://", "https://")):
        image = _decode(io.BytesIO(_download(source)), source)
    elif isinstance(source, str) and source.startswith("data:image/"):
        image = _decode(io.BytesIO(base64.b64decode(source.partition(",")[2])), "the given data URL")
    elif isinstance(source, str | os.PathLike):
        if not os.path.isfile(source):
            raise FileNotFoundError(f"There is no file {os.fspath(source)[:200]!r}.")
        image = _decode(source, repr(os.fspath(source)))
    else:
        raise TypeError(
            "An image must be a PIL picture, a path, a URL, bytes, a NumPy array or a tensor, "
            f"got {type(source).__name__}."
        )
    if min(image.size) < 2:
        raise ValueError(f"The image is {image.width} x {image.height} pixels: there is nothing to see in it.")
    return to_rgb(ImageOps.exif_transpose(image))


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any PIL mode to RGB: transparency is laid on white, more than 8 bits are scaled, not cut off."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        image = _from_array(np.asarray(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, (*_BACKGROUND, 255))
        image = Image.alpha_composite(background, image)
    return image.convert("RGB")


def _download(url: str) -> bytes:
    try:
        with urlopen(Request(url, headers={"User-Agent": "ram_hf"}), timeout=_DOWNLOAD_TIMEOUT) as response:
            return response.read()
    except (OSError, HTTPException, ValueError) as error:
        raise ValueError(f"Cannot download {url!r}: {error}") from error


def _decode(file, name: str) -> Image.Image:
    try:
        image = Image.open(file)
        image.load()
    except UnidentifiedImageError as error:  # its own message names an object in memory
        raise ValueError(f"Cannot read {name} as an image: it is of no known format") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"Cannot read {name} as an image: {error}") from error
    return image


def _from_array(array) -> Image.Image:
    given_shape = tuple(array.shape)
    channels_first = False
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
        channels_first = array.ndim == 3 and array.shape[0] in _CHANNEL_MODES  # where both ends fit, as tensors are
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


__all__ = ["is_one_image", "read_image", "to_rgb"]
