"""Pictures to arrays, for training and for evaluation, with Pillow and NumPy alone.

Each random step draws from the generator it is given and from nothing else, so that a sample is a function of its
picture and its generator.
"""

import io
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance

from ram_hf.model.image_decoding import decode_image as decode_image_file
from ram_hf.model.image_decoding import upright_rgb
from ram_hf.model.images import read_image

# Sizes of the steps. The paper's recipe names the steps; where it gives no size the value here is ours, and mild.
FLIP_PROBABILITY = 0.5
PADDING = 10  # pixels of black around the square before the crop, from the recipe
COLOR_JITTER = 0.1  # brightness, contrast and saturation are each scaled by a factor in 1 +- this
MAX_ROTATION = 5.0  # degrees
MAX_SHEAR = 5.0  # degrees
MAX_SCALING = 0.05  # the picture is scaled by a factor in 1 +- this
ERASING_PROBABILITY = 0.5  # from the recipe
ERASING_AREA = (0.02, 0.33)  # share of the square, as in Random Erasing (arXiv 1708.04896)
ERASING_ASPECT = (0.3, 1 / 0.3)  # height over width, the same source
_ERASING_ATTEMPTS = 10  # a rectangle that does not fit is drawn again


def decode_image(source: bytes | str | os.PathLike, *, draft_size: int | None = None) -> Image.Image:
    """Decode a picture to upright RGB.

    Args:
        source: encoded bytes; path; URL; or an address that fsspec opens, such as `hf://datasets/...`.
        draft_size: None decodes every pixel. With a number, a JPEG is decoded at 1/2, 1/4 or 1/8 of its size as long
            as both sides keep that many pixels: much faster for large photographs, and scores change slightly. Twice
            the model's image size is a good value.

    Returns:
        PIL picture of mode RGB.

    Raises:
        ValueError: when the picture cannot be decoded.
        FileNotFoundError: when there is no such file.
    """
    if isinstance(source, str) and "://" in source and not source.startswith(("http://", "https://")):
        import fsspec  # comes with huggingface_hub; only rows of a remote folder need it

        with fsspec.open(source, "rb") as file:
            source = file.read()
    is_url = isinstance(source, str) and source.startswith(("http://", "https://", "data:"))
    if draft_size is None or is_url:
        return read_image(source)
    file = io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source)
    return upright_rgb(decode_image_file(file, "the picture", draft_size=draft_size))


class EvalTransform:
    """Squash a picture to the model's square and normalise it, as `RamProcessor` does with its PIL backend.

    Args:
        size: side of the square, in pixels.
        mean: mean of the red, green and blue channel, for pixels in [0, 1].
        std: standard deviation of the channels, for pixels in [0, 1].

    Raises:
        ValueError: when `size` is not positive, `mean` or `std` has not 3 entries, or one of `std` is not positive.
    """

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float]):
        if size < 1:
            raise ValueError(f"`size` must be positive, got {size}.")
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"`mean` and `std` must have 3 entries, those of `std` positive; got {mean} and {std}.")
        self.size = size
        self._scale = (1 / (255 * np.asarray(std, dtype=np.float64))).astype(np.float32)[:, None, None]
        self._offset = (-np.asarray(mean) / np.asarray(std)).astype(np.float32)[:, None, None]

    def __call__(self, image: Image.Image, rng: np.random.Generator | None = None) -> np.ndarray:
        """Transform an RGB picture to an array of shape (3, size, size), float32; `rng` is not used."""
        return self._normalize(self._squash(image))

    def _squash(self, image: Image.Image) -> Image.Image:
        return image.resize((self.size, self.size), Image.Resampling.BICUBIC)

    def _normalize(self, image: Image.Image) -> np.ndarray:
        pixels = np.asarray(image).transpose(2, 0, 1).astype(np.float32, order="C")
        pixels *= self._scale
        pixels += self._offset
        return pixels


class TrainTransform(EvalTransform):
    """Augment a picture: flip, pad and crop, colour noise, a small affine change, random erasing. Args as the base's.

    The whole picture is squashed to the square first and loses at most `PADDING` pixels at an edge: what stands at the
    edge is to be seen too.
    """

    def __call__(self, image: Image.Image, rng: np.random.Generator | None = None) -> np.ndarray:
        """Transform an RGB picture to an array of shape (3, size, size), float32.

        Args:
            image: PIL picture of mode RGB.
            rng: source of all that is random here.

        Raises:
            ValueError: when there is no `rng`.
        """
        if rng is None:
            raise ValueError("Augmentation needs `rng`, a NumPy generator; use EvalTransform for none.")
        image = self._squash(image)
        if rng.random() < FLIP_PROBABILITY:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = _pad_and_crop(image, rng)
        image = _jitter_color(image, rng)
        image = _jitter_geometry(image, rng)
        pixels = self._normalize(image)
        if rng.random() < ERASING_PROBABILITY:
            _erase(pixels, rng)
        return pixels


def _pad_and_crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    left, top = (int(shift) for shift in rng.integers(-PADDING, PADDING + 1, size=2))
    return image.crop((left, top, left + image.width, top + image.height))  # what lies outside is black


def _jitter_color(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    factors = rng.uniform(1 - COLOR_JITTER, 1 + COLOR_JITTER, size=3)
    for enhance, factor in zip(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), factors, strict=True
    ):
        image = enhance(image).enhance(float(factor))
    return image


def _jitter_geometry(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    angle, shear, scaling = rng.uniform(-1, 1, size=3)
    cosine, sine = np.cos(np.deg2rad(angle * MAX_ROTATION)), np.sin(np.deg2rad(angle * MAX_ROTATION))
    slant = np.tan(np.deg2rad(shear * MAX_SHEAR))
    # Pillow asks for the map from output to input pixels; it turns about the centre.
    matrix = np.array([[cosine, -sine], [sine, cosine]]) @ np.array([[1, slant], [0, 1]]) / (1 + scaling * MAX_SCALING)
    center = np.array(image.size) / 2
    shift = center - matrix @ center
    coefficients = (*matrix[0], shift[0], *matrix[1], shift[1])
    return image.transform(image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)


def _erase(pixels: np.ndarray, rng: np.random.Generator) -> None:
    """Set a rectangle to 0, the mean colour, in place."""
    _, height, width = pixels.shape
    for _ in range(_ERASING_ATTEMPTS):
        area = rng.uniform(*ERASING_AREA) * height * width
        aspect = np.exp(rng.uniform(*np.log(ERASING_ASPECT)))
        rows, columns = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < rows < height and 0 < columns < width:
            top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
            pixels[:, top : top + rows, left : left + columns] = 0
            return


__all__ = ["EvalTransform", "TrainTransform", "decode_image"]
