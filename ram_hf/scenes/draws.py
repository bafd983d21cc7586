"""Quick random decisions: thousands of small draws from a NumPy generator, fetched a hundred at a time."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

_BLOCK = 128  # numbers fetched at once; a call into NumPy costs as much as sixty of them

T = TypeVar("T")


class Draws:
    """Random decisions that follow from a generator and from nothing else.

    Only `Generator.random` is used, whose stream NumPy changes least.

    Args:
        rng: where the numbers come from; it is moved on by blocks.
    """

    def __init__(self, rng: np.random.Generator):
        self._rng = rng
        self._numbers: list[float] = []

    def random(self) -> float:
        """A number in [0, 1)."""
        if not self._numbers:
            self._numbers = self._rng.random(_BLOCK).tolist()
        return self._numbers.pop()

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self.random()

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.random() < probability

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int((high - low + 1) * self.random())

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(len(options) * self.random())]

    def sample(self, population: int, count: int) -> list[int]:
        """`count` different numbers below `population`, in random order; quick where `count` is much smaller."""
        chosen: dict[int, None] = {}
        while len(chosen) < count:
            chosen[int(population * self.random())] = None
        return list(chosen)

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """The options in random order."""
        return [options[number] for number in self.sample(len(options), len(options))]

    def noise(self, height: int, width: int) -> np.ndarray:
        """Independent pixels: array of shape (height, width), uint8."""
        return (self._rng.random((height, width), dtype=np.float32) * 256).astype(np.uint8)


__all__ = ["Draws"]
