"""Encoded files and arrays to upright RGB images, with Pillow and NumPy alone: what only decodes needs no torch."""

import functools
import io
import struct
from contextlib import suppress
from importlib import import_module
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from .colour_profiles import is_damaged, to_srgb
from .png_chunks import PNG_SIGNATURE, without_metadata

# What is decoded, whoever asks; MPO counts as JPEG. Pillow knows more: some formats start other programs (EPS), and
# nobody photographs in the others.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF", "HEIF", "JXL")

MAX_DECODED_PIXELS = 200_000_000  # of one image in memory: 600 MB as RGB
MAX_DRAFT_PIXELS = 2_000_000_000  # of a JPEG that is decoded at an eighth of its size: half a minute
_EXIF = b"Exif\0\0"
_END_MARKER = b"\xff\xd9"  # of a JPEG
_PREFIX = 16  # bytes by which Pillow tells formats apart

_CHANNEL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_BACKGROUND = (255, 255, 255)  # what shows through transparent pixels: images with alpha are drawn for white pages


def decode_image(
    file: BinaryIO | str, name: str, *, draft_size: int | None = None, damage: list[str] | None = None
) -> Image.Image:
    """Decode an image of one of `FORMATS`, of several frames the first, to upright RGB as [`upright_rgb`] does.

    The file may be anybody's: its content decides on the format, no other program is started, and its header is asked
    before memory is taken. Nothing of Pillow's that all threads share is set or asked.

    Pixels must all be there: what other readers show of a file that was cut short is grey, or a guess. Where they are,
    a damaged end marker, checksum, profile or EXIF is passed over.

    Args:
        file: open file or path.
        name: what errors call it.
        draft_size: None decodes every pixel. With a number, a JPEG is decoded at 1/2, 1/4 or 1/8 of its size as long
            as both sides keep that many pixels: much faster for large photographs, and scores change slightly. Twice
            the model's image size is a good value.
        damage: gains a line for each thing that is damaged and was passed over.

    Returns:
        PIL image of mode RGB.

    Raises:
        ValueError: when it cannot be decoded, has too many pixels, or is less than 2 pixels wide or high.
        FileNotFoundError: when there is no such file.
    """
    try:
        if isinstance(file, str):
            with open(file, "rb") as opened:
                image, damaged = _decoded(opened, draft_size)
        else:
            image, damaged = _decoded(file, draft_size)
    except UnidentifiedImageError as error:  # its own message names an object in memory
        raise ValueError(f"Cannot read {name} as an image: it is of no known format") from error
    except (FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise ValueError(f"Cannot read {name} as an image: {error}") from error
    if damage is not None:
        damage += damaged
    return upright_rgb(image)


def _decoded(file: BinaryIO, draft_size: int | None) -> tuple[Image.Image, list[str]]:
    damage: list[str] = []
    file.seek(0)
    if file.read(len(PNG_SIGNATURE)) == PNG_SIGNATURE:
        file, profile, damage = without_metadata(file)
        image = _identified(file)
        image.info["icc_profile"] = profile
    else:
        image = _identified(file)
    _reduce(image, draft_size)
    try:
        image.load()
    except OSError:
        if image.format in ("JPEG", "MPO") and (ended := _without_end_marker(file, draft_size)) is not None:
            image = ended
            damage.append("it ends before its end marker")
        else:
            raise
    return image, damage + _damaged_metadata(image)


def _damaged_metadata(image: Image.Image) -> list[str]:
    profile, exif = image.info.get("icc_profile"), image.info.get("exif")
    return ["its colour profile cannot be read"] * (isinstance(profile, bytes) and is_damaged(profile)) + [
        "its EXIF cannot be read"
    ] * (isinstance(exif, bytes) and not _is_exif(exif.removeprefix(_EXIF)))


def _is_exif(content: bytes) -> bool:
    """Whether it begins as EXIF does, with a table inside of it."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4])
    return order is not None and len(content) >= 8 and struct.unpack(f"{order}I", content[4:8])[0] < len(content)


def _without_end_marker(file: BinaryIO, draft_size: int | None) -> ImageFile.ImageFile | None:
    """A JPEG that ends before its end marker, when all of its pixels are there: then what follows has no say."""
    file.seek(0)
    content = file.read().removesuffix(_END_MARKER[:1])
    images: list[ImageFile.ImageFile] = []
    for ending in (b"", bytes(range(254, 0, -1))):
        image = _identified(io.BytesIO(content + ending + _END_MARKER))
        _reduce(image, draft_size)
        image.load()
        images.append(image)
    return images[0] if images[0].tobytes() == images[1].tobytes() else None


def _identified(file: BinaryIO) -> ImageFile.ImageFile:
    """Do as `Image.open`, which judges all images, also those that will be reduced, by one limit of the program."""
    file.seek(0)
    prefix = file.read(_PREFIX)
    for name in known_formats():
        factory, accept = Image.OPEN[name]
        with suppress(SyntaxError, IndexError, TypeError, struct.error):  # also of a file of a few bytes
            accepted = accept is None or accept(prefix)
            if accepted and not isinstance(accepted, str):  # a text says why this Pillow cannot
                file.seek(0)
                return factory(file, "")
    raise UnidentifiedImageError


def size_in_header(file: BinaryIO) -> tuple[int, int]:
    """Width and height of an image as its file says, without decoding it, and not turned upright."""
    return _identified(file).size


def _reduce(image: ImageFile.ImageFile, draft_size: int | None) -> None:
    """Ask for fewer pixels, where a JPEG can give fewer; refuse more than anybody's memory holds."""
    width, height = image.size
    # A progressive JPEG is held whole before it is reduced.
    limit = MAX_DECODED_PIXELS if image.info.get("progressive") else MAX_DRAFT_PIXELS
    if draft_size is not None:
        image.draft(None, (draft_size, draft_size))  # does nothing to other formats than JPEG
    if width * height > limit or image.width * image.height > MAX_DECODED_PIXELS:
        raise ValueError(
            f"{width:,} x {height:,} pixels are more than the {MAX_DECODED_PIXELS:,} that are decoded at most"
        )


@functools.cache
def known_formats() -> list[str]:
    """Those of `FORMATS` that can be decoded here: Pillow can be built without some, and two take plug-ins."""
    Image.init()
    with suppress(ImportError):  # optional, as the next
        import_module("pillow_heif").register_heif_opener()
    with suppress(ImportError):
        import_module("pillow_jxl")  # tells Pillow of itself
    return [name for name in FORMATS if name in Image.OPEN]


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turn an image upright by its EXIF orientation, and make it RGB as [`to_rgb`] does.

    Raises:
        ValueError: when it is less than 2 pixels wide or high.
    """
    if min(image.size) < 2:
        raise ValueError(f"The image is {image.width} x {image.height} pixels: there is nothing to see in it.")
    image.load()  # what is wrong with the pixels is raised here
    try:
        upright = ImageOps.exif_transpose(image)
    except SyntaxError:  # so Pillow calls EXIF that is none, which turns nothing
        upright = image
    return to_rgb(upright)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any PIL mode to RGB: sRGB by an embedded profile, transparency on white, more than 8 bits scaled."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        image = image_from_array(np.asarray(image))
    if not image.has_transparency_data:
        return to_srgb(image, profile)
    transparent = image.convert("RGBA")
    colours = to_srgb(image.convert("L") if image.mode == "LA" else transparent.convert("RGB"), profile)
    colours.putalpha(transparent.getchannel("A"))
    background = Image.new("RGBA", image.size, (*_BACKGROUND, 255))
    return Image.alpha_composite(background, colours).convert("RGB")


def image_from_array(array: np.ndarray, *, channels_first: bool = False) -> Image.Image:
    """Make an image of mode L, RGB or RGBA of an array.

    Args:
        array: shape (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels: uint8, uint16, bool, or float in [0, 1] or
            [0, 255].
        channels_first: read (C, H, W) where both ends could be channels.

    Raises:
        TypeError: when it holds no such numbers, or is masked.
        ValueError: when the array has another shape, or values out of range.
    """
    given_shape = tuple(array.shape)
    _check_kind(array)
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


def _check_kind(array: np.ndarray) -> None:
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError("A masked array does not say what its masked pixels look like: pass `array.filled(value)`.")
    if array.dtype.kind not in "buif":
        raise TypeError(f"An image array must hold integers, floats or bools, got {array.dtype}.")


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


__all__ = [
    "FORMATS",
    "MAX_DECODED_PIXELS",
    "MAX_DRAFT_PIXELS",
    "decode_image",
    "image_from_array",
    "known_formats",
    "size_in_header",
    "to_rgb",
    "upright_rgb",
]
