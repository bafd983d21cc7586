"""Any form of image in, an upright RGB image out."""

import base64
import io
import os
from collections.abc import Iterable, Mapping
from http.client import HTTPException
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import torch
from PIL import Image

from .image_decoding import decode_image, image_from_array, upright_rgb

_DOWNLOAD_TIMEOUT = 60  # seconds


def is_one_image(images: Any) -> bool:
    """Whether this is one image for [`read_image`], or several: a list, a generator, a batch as one array."""
    if isinstance(images, str | bytes | bytearray | os.PathLike | Image.Image | Mapping):
        return True  # a mapping is one thing, if no image: its keys are none either
    if hasattr(images, "read"):
        return True  # an open file, not its lines
    return getattr(images, "ndim", 4) != 4 or not isinstance(images, Iterable)


def read_image(source: Any) -> Image.Image:
    """Read an image and make it RGB: upright by its EXIF orientation, transparency on white, 16 bits scaled to 8.

    A colour profile in it is followed: what is read is sRGB.

    Args:
        source: PIL image; path; URL (http, https or data); encoded bytes; open file of them; or NumPy array or tensor
            of shape (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels: uint8, uint16, bool, or float in [0, 1]
            or [0, 255].

    Returns:
        PIL image of mode RGB.

    Raises:
        TypeError: when the source is of another kind.
        ValueError: when it cannot be decoded, has a wrong shape or values, or is less than 2 pixels wide or high.
        OSError: when there is no such file or address.
    """
    if isinstance(source, Image.Image):
        return upright_rgb(source)
    if isinstance(source, np.ndarray):
        return upright_rgb(image_from_array(source))
    if isinstance(source, torch.Tensor):
        return upright_rgb(_from_tensor(source))
    if isinstance(source, bytes | bytearray):
        return decode_image(io.BytesIO(source), "the given bytes")
    if hasattr(source, "read"):
        return decode_image(io.BytesIO(_content(source)), "the given file")
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        return decode_image(io.BytesIO(_download(source)), source)
    if isinstance(source, str) and source.startswith("data:image/"):
        return decode_image(io.BytesIO(base64.b64decode(source.partition(",")[2])), "the given data URL")
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            "An image must be a PIL picture, a path, a URL, bytes, an open file, a NumPy array or a tensor, "
            f"got {type(source).__name__}."
        )
    if not os.path.isfile(source):
        raise FileNotFoundError(f"There is no file {os.fspath(source)[:200]!r}.")
    return decode_image(os.fspath(source), repr(os.fspath(source)))


def _content(file: Any) -> bytes:
    """All that is in a file, wherever reading it has come to."""
    if getattr(file, "seekable", bool)():
        file.seek(0)
    content = file.read()
    if not isinstance(content, bytes):
        raise TypeError(f'An image file must be opened as "rb"; reading this one gives {type(content).__name__}.')
    return content


def _download(url: str) -> bytes:
    try:
        with urlopen(Request(url, headers={"User-Agent": "ram_hf"}), timeout=_DOWNLOAD_TIMEOUT) as response:
            return response.read()
    except (OSError, HTTPException, ValueError) as error:
        raise ValueError(f"Cannot download {url!r}: {error}") from error


def _from_tensor(tensor: torch.Tensor) -> Image.Image:
    tensor = tensor.detach().cpu()
    array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    # Where both ends could be channels: first, as tensors are.
    return image_from_array(array, channels_first=array.ndim == 3 and array.shape[0] in (1, 3, 4))


__all__ = ["is_one_image", "read_image"]
