"""Images of an index in the place of files: tagged from their features, without being opened."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .index import ImageIndex, StoredFeatures
from .index_changes import state_of
from .paths import unescape_path


class StoredImage(NamedTuple):
    """An image of an index by its number, or why it cannot be tagged; `damage` is always None."""

    path: str
    number: int
    error: str | None
    damage: None = None


class StoredImages:
    """The images of an index.

    Args:
        folder: of the index.
        beside: whether something is written beside the files, or of them: those that are gone or changed are then
            not tagged.
    """

    def __init__(self, folder: str, *, beside: bool):
        self.index = ImageIndex(Path(folder))
        self._images = self.index.images()
        self._beside = beside
        self.paths = [self.index.path_of(image) for image in self._images]
        self._numbers = {path: number for number, path in enumerate(self.paths)}

    def read(self, paths: Sequence[str]) -> Iterator[StoredImage]:
        """Those of some paths, in order."""
        for path in paths:
            number = self._numbers[path]
            image = self._images[number]
            error = image.error and unescape_path(image.error)
            if error is None and self._beside and (state := state_of(path, image)):
                error = f"the file has {'gone' if state == 'gone' else 'changed'} since it was indexed"
            yield StoredImage(path, number, error)

    def features(self, images: Sequence[StoredImage]) -> StoredFeatures:
        """Features of images, in order."""
        numbers = np.array([image.number for image in images])
        order = numbers.argsort(kind="stable")
        found = self.index.features(numbers[order])
        back = order.argsort()
        parts = {name: values[back] for name, values in found._asdict().items() if values is not None}
        return StoredFeatures(**parts)


def refuse_indexes_among(paths: Sequence[str]) -> None:
    """Raise ValueError where an index is one of several paths: it is tagged by itself."""
    from .index import is_index

    for path in paths:
        if os.path.isdir(path) and is_index(path):
            raise ValueError(f"{path!r} is an index, which is tagged by itself: leave out the other paths.")


__all__ = ["StoredImage", "StoredImages", "refuse_indexes_among"]
