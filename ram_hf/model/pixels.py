"""Upright RGB images to the numbers that a model takes, with Pillow and NumPy alone.

`RamProcessor` leaves this to transformers; what decodes ahead, in threads and processes, does the same without torch.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image


def squash(image: Image.Image, side: int, resample: int = Image.Resampling.BICUBIC) -> Image.Image:
    """Resize an image to `side` x `side` pixels, whatever its shape, with Pillow's filter of number `resample`."""
    return image.resize((side, side), Image.Resampling(resample))


class Normalization:
    """Subtracts the mean of each colour and divides by its standard deviation, for pixels in [0, 1].

    Args:
        mean: of the red, green and blue channel.
        std: of the channels.

    Raises:
        ValueError: when `mean` or `std` has not 3 entries, or one of `std` is not positive.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"`mean` and `std` must have 3 entries, those of `std` positive; got {mean} and {std}.")
        self._scale = (1 / (255 * np.asarray(std, dtype=np.float64))).astype(np.float32)[:, None, None]
        self._offset = (-np.asarray(mean) / np.asarray(std)).astype(np.float32)[:, None, None]

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Normalise an RGB image: array of shape (3, H, W), float32."""
        pixels = np.asarray(image).transpose(2, 0, 1).astype(np.float32, order="C")
        pixels *= self._scale
        pixels += self._offset
        return pixels


__all__ = ["Normalization", "squash"]
