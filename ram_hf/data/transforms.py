"""Images to arrays, for training and for evaluation, with Pillow and NumPy alone.

Each random step draws from the generator it is given and from nothing else, so that a sample is a function of its
image and its generator.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageEnhance

from ..model.pixels import Normalization, squash

# Sizes of the steps. The paper's recipe names the steps; where it gives no size the value here is ours, and mild.
FLIP_PROBABILITY = 0.5
PADDING = 10  # pixels of black around the square before the crop, from the recipe
COLOR_JITTER = 0.1  # brightness, contrast and saturation are each scaled by a factor in 1 +- this
MAX_ROTATION = 5.0  # degrees
MAX_SHEAR = 5.0  # degrees
MAX_SCALING = 0.05  # the image is scaled by a factor in 1 +- this
ERASING_PROBABILITY = 0.5  # from the recipe
ERASING_AREA = (0.02, 0.33)  # share of the square, as in Random Erasing (arXiv 1708.04896)
ERASING_ASPECT = (0.3, 1 / 0.3)  # height over width, the same source
_ERASING_ATTEMPTS = 10  # a rectangle that does not fit is drawn again

Transform = TypeVar("Transform", bound="EvalTransform")


class EvalTransform:
    """Squash an image to the model's square and normalise it, as `RamProcessor` does with its PIL backend.

    Args:
        size: side of the square, in pixels.
        mean: mean of the red, green and blue channel, for pixels in [0, 1].
        std: standard deviation of the channels, for pixels in [0, 1].
        resample: number of Pillow's filter that squashes.

    Raises:
        ValueError: when `size` is not positive, `mean` or `std` has not 3 entries, or one of `std` is not positive.
    """

    def __init__(
        self,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        resample: int = Image.Resampling.BICUBIC,
    ):
        if size < 1:
            raise ValueError(f"`size` must be positive, got {size}.")
        self.size = size
        self.resample = resample
        self._normalize = Normalization(mean, std)

    @classmethod
    def of(cls: type[Transform], processor: Any) -> Transform:
        """The transform that makes of an image what a `RamProcessor` does, before augmentation.

        Raises:
            ValueError: when the processor does not squash to a square: the model would be trained or judged on other
                parts of an image than those it tags.
        """
        settings = processor.image_processor
        size = dict(settings.size)
        side = size.get("height")
        if not processor.squash or not settings.do_resize or side is None or size.get("width") != side:
            raise ValueError(
                "Training and evaluation squash the whole image to a square, this processor does not "
                f"(`squash={processor.squash}`, `size={size}`): load it with `squash=True`."
            )
        unit = 255 * settings.rescale_factor if settings.do_rescale else 255.0  # of the pixels that it normalises
        mean, std = (settings.image_mean, settings.image_std) if settings.do_normalize else ((0.0,) * 3, (1.0,) * 3)
        return cls(side, [value / unit for value in mean], [value / unit for value in std], int(settings.resample))

    def __call__(self, image: Image.Image, rng: np.random.Generator | None = None) -> np.ndarray:
        """Transform an RGB image to an array of shape (3, size, size), float32; `rng` is not used."""
        return self._normalize(squash(image, self.size, self.resample))


class TrainTransform(EvalTransform):
    """Augment an image: flip, pad and crop, colour noise, a small affine change, random erasing. Args as the base's.

    The whole image is squashed to the square first and loses at most `PADDING` pixels at an edge: what stands at the
    edge is to be seen too.
    """

    def __call__(self, image: Image.Image, rng: np.random.Generator | None = None) -> np.ndarray:
        """Transform an RGB image to an array of shape (3, size, size), float32.

        Args:
            image: PIL image of mode RGB.
            rng: source of all that is random here.

        Raises:
            ValueError: when there is no `rng`.
        """
        if rng is None:
            raise ValueError("Augmentation needs `rng`, a NumPy generator; use EvalTransform for none.")
        image = squash(image, self.size, self.resample)
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


__all__ = ["EvalTransform", "TrainTransform"]
