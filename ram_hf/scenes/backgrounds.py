"""What scenes stand on: crops of photographs, and textures that need none."""

import io
import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from .draws import Draws
from .parts import Photo

_CROPS = (1.0, 0.85, 0.72, 0.61, 0.52, 0.45)  # sides, as shares of the photograph's shorter one
_PHOTO_SHARE = 0.05  # of the scenes, for each photograph, ...
_LARGEST_PHOTO_SHARE = 0.7  # ... up to this: with few photographs, textures keep things varied
_HALF = [value // 2 for value in range(256)]
_LUMA = (0.299, 0.587, 0.114)
# How colours turn about grey, the tangent of a hue rotation: the cross product with the grey axis.
_TURN = ((0.0, -0.577, 0.577), (0.577, 0.0, -0.577), (-0.577, 0.577, 0.0))


class Backgrounds:
    """Endless backgrounds of one size.

    Args:
        photos: what to crop; may be empty.
        size: width and height, pixels.
        texture_share: share of procedural textures, in [0, 1]; None for a share that falls with the number of
            photographs, from 1 for none to 0.3 for fourteen or more.
    """

    def __init__(self, photos: Sequence[Photo], *, size: int, texture_share: float | None = None):
        if texture_share is None:
            texture_share = 1 - min(_LARGEST_PHOTO_SHARE, _PHOTO_SHARE * len(photos))
        if not 0 <= texture_share <= 1:
            raise ValueError(f"`texture_share` must be in [0, 1], got {texture_share}.")
        self._photos = photos
        self._scales: dict[tuple[int, int], Image.Image] = {}
        self._size = size
        self.texture_share = texture_share if photos else 1.0
        axis = (np.arange(size, dtype=np.float32) + 0.5) / size
        self._x, self._y = axis[None, :], axis[:, None]
        self._fields: tuple[Callable[[Draws], np.ndarray | Image.Image], ...] = (
            self._gradient,
            self._noise,
            self._stripes,
            self._checks,
            self._blobs,
        )

    def draw(self, draws: Draws) -> Image.Image:
        """Draw a background, RGB."""
        if draws.chance(self.texture_share):
            return self._texture(draws)
        return self._crop(draws).convert("RGB", recolour(draws, hue=12, brightness=(0.7, 1.2), contrast=(0.6, 1.1)))

    # --- photographs ---

    def _crop(self, draws: Draws) -> Image.Image:
        image = self._scaled(draws.integer(0, len(self._photos) - 1), draws.integer(0, len(_CROPS) - 1))
        x, y = draws.integer(0, image.width - self._size), draws.integer(0, image.height - self._size)
        crop = image.crop((x, y, x + self._size, y + self._size))
        return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draws.chance(0.5) else crop

    def _scaled(self, number: int, crop: int) -> Image.Image:
        """A photograph of which the image's size is the share `_CROPS[crop]`; kept, as scaling takes longest."""
        if (number, crop) not in self._scales:
            with Image.open(io.BytesIO(self._photos[number].data)) as image:
                factor = self._size / (_CROPS[crop] * min(image.size))
                width, height = (max(self._size, round(side * factor)) for side in image.size)
                scaled = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
            self._scales[number, crop] = scaled
        return self._scales[number, crop]

    # --- textures: two colours mixed by a field, and a third by another ---

    def _texture(self, draws: Draws) -> Image.Image:
        size = (self._size, self._size)
        first, second, third = (_colour(draws) for _ in range(3))
        image = Image.composite(Image.new("RGB", size, first), Image.new("RGB", size, second), self._mask(draws))
        if draws.chance(0.4):
            image.paste(third, (0, 0, *size), self._mask(draws).point(_HALF))
        if draws.chance(0.5):
            image = Image.blend(image, self._grain(draws), draws.uniform(0.03, 0.15))
        return image

    def _mask(self, draws: Draws) -> Image.Image:
        field = draws.choice(self._fields)(draws)
        if isinstance(field, Image.Image):
            return field
        return Image.fromarray((field * 255).astype(np.uint8))

    def _grain(self, draws: Draws) -> Image.Image:
        return Image.fromarray(draws.noise(self._size, self._size)).convert("RGB")

    def _along(self, draws: Draws) -> np.ndarray:
        """How far each pixel is along a random direction: 0 in the middle, 1 apart from edge to edge."""
        angle = draws.uniform(0, 2 * math.pi)
        return (self._x - 0.5) * np.float32(math.cos(angle)) + (self._y - 0.5) * np.float32(math.sin(angle))

    def _gradient(self, draws: Draws) -> np.ndarray:
        return np.clip(self._along(draws) * np.float32(draws.uniform(0.7, 2.0)) + np.float32(0.5), 0, 1)

    def _noise(self, draws: Draws) -> Image.Image:
        """Soft noise in two sizes."""
        coarse = self._scaled_noise(draws, draws.integer(3, 6))
        return Image.blend(coarse, self._scaled_noise(draws, draws.integer(10, 24)), draws.uniform(0.1, 0.5))

    def _stripes(self, draws: Draws) -> np.ndarray:
        along = self._along(draws) * np.float32(draws.uniform(3, 12)) + np.float32(draws.random())
        return _soft_steps(along, draws)

    def _checks(self, draws: Draws) -> np.ndarray:
        angle, count = draws.uniform(0, math.pi / 2), draws.uniform(2, 7)
        cosine, sine = np.float32(math.cos(angle) * count), np.float32(math.sin(angle) * count)
        x, y = self._x - np.float32(draws.random()), self._y - np.float32(draws.random())
        columns, rows = np.floor(x * cosine + y * sine), np.floor(y * cosine - x * sine)
        return (columns + rows) % 2

    def _blobs(self, draws: Draws) -> np.ndarray:
        level, gain = np.float32(draws.uniform(90, 140)), np.float32(draws.uniform(0.02, 0.08))
        return np.clip((np.asarray(self._scaled_noise(draws, draws.integer(4, 10))) - level) * gain, 0, 1)

    def _scaled_noise(self, draws: Draws, cells: int) -> Image.Image:
        noise = Image.fromarray(draws.noise(cells, cells))
        return noise.resize((self._size, self._size), Image.Resampling.BICUBIC)


def recolour(
    draws: Draws, *, hue: float, brightness: tuple[float, float], contrast: tuple[float, float]
) -> tuple[float, ...]:
    """Draw a mild change of colour, for `Image.convert("RGB", matrix)`.

    Args:
        draws: where the numbers come from.
        hue: largest turn of the hue, degrees either way.
        brightness: smallest and largest factor.
        contrast: smallest and largest factor about mid grey; saturation changes within the same limits.

    Returns:
        The 12 numbers of a 3 x 4 matrix, row by row.
    """
    turn = math.radians(draws.uniform(-hue, hue))
    factor, steepness = draws.uniform(*brightness), draws.uniform(*contrast)
    saturation = draws.uniform(*contrast)
    gain = factor * steepness
    chroma, sine = gain * saturation * math.cos(turn), gain * saturation * math.sin(turn)
    offset = 128 * (1 - steepness)
    matrix = []
    for row in range(3):
        for column in range(3):
            luma = _LUMA[column]
            matrix.append(gain * luma + chroma * ((row == column) - luma) + sine * _TURN[row][column])
        matrix.append(offset)
    return tuple(matrix)


def _colour(draws: Draws) -> tuple[int, int, int]:
    """A colour of medium saturation: drawings are vivid, and should stand out."""
    grey = draws.uniform(40, 235)
    red, green, blue = (min(255, max(0, int(grey + draws.uniform(-55, 55)))) for _ in range(3))
    return red, green, blue


def _soft_steps(values: np.ndarray, draws: Draws) -> np.ndarray:
    """A wave of period 1 between 0 and 1, from a triangle to nearly a square."""
    triangle = np.abs(values % 1 - np.float32(0.5)) * 2
    return np.clip((triangle - np.float32(0.5)) * np.float32(draws.uniform(1, 8)) + np.float32(0.5), 0, 1)


__all__ = ["Backgrounds", "recolour"]
