"""Colours as an embedded profile means them, in sRGB, which models are trained on."""

import functools
import io

import numpy as np
from PIL import Image, ImageCms

_MOST_PROFILE = 2**24  # bytes
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # how Pillow calls the colours of a profile
_STEPS = 9  # of each channel, where a profile is compared with sRGB
_SEEN = 2  # of 255: a smaller difference comes from rounding


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an image without transparency to RGB, by its ICC profile where it has one that can be read.

    A profile that is damaged, too large, of other colours than the image's, or sRGB itself changes nothing.
    """
    transform = _transform(profile) if isinstance(profile, bytes) and len(profile) <= _MOST_PROFILE else None
    if transform is None or not _fits(image, transform):
        return image if image.mode == "RGB" else image.convert("RGB")
    try:
        converted = transform.apply(image.convert(transform.input_mode))
    except (OSError, ValueError):
        return image.convert("RGB")
    converted.info.pop("icc_profile", None)  # it is done, whoever reads this image again
    return converted


def _fits(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> bool:
    if transform.input_mode == "RGB":
        return image.mode not in ("CMYK", "LAB")
    return image.mode == transform.input_mode


@functools.lru_cache(maxsize=16)
def is_damaged(profile: bytes) -> bool:
    """Whether an ICC profile cannot be read, so that it is passed over."""
    try:
        ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except ImportError:  # nobody can tell
        return False
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return True
    return False


@functools.lru_cache(maxsize=16)  # a camera writes the same profile into all of its images
def _transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES[source.profile.xcolor_space.strip()]
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        return None if _changes_nothing(transform) else transform
    except (ImageCms.PyCMSError, ImportError, KeyError, OSError, TypeError, ValueError):
        return None  # also where Pillow was built without it


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    if transform.input_mode == "CMYK":
        return False
    steps = np.linspace(0, 255, _STEPS).round().astype(np.uint8)
    channels = 3 if transform.input_mode == "RGB" else 1
    colours = np.stack(np.meshgrid(*[steps] * channels), axis=-1).reshape(1, -1, channels)
    image = Image.fromarray(colours if channels == 3 else colours[..., 0])
    found = np.asarray(transform.apply(image)).astype(int)
    return bool(np.abs(found - colours).max() <= _SEEN)


__all__ = ["is_damaged", "to_srgb"]
