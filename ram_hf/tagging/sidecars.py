"""A file with the tags beside each picture. Pictures themselves are only read."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..atomic import whole_file, write_whole
from .outputs import TaggedImage
from .paths import printable
from .xmp import add_keywords, is_marked


class TextSidecars:
    """`NAME.txt` beside `NAME.jpg`: its labels, best first, with ", " between, as captions of training data are read.

    A file that exists is never changed: it may hold somebody's own caption. Of two pictures that differ in nothing but
    their extension, the second has no place for its labels, which is told as its error.
    """

    def __init__(self) -> None:
        self._written: set[Path] = set()

    def refuse_existing(self, paths: Sequence[str]) -> None:
        """See [`Output`]."""
        existing = [path for path in paths if self.holds(path)]
        if existing:
            raise FileExistsError(
                f"{len(existing):,} of {len(paths):,} pictures have a .txt file beside them, the first is "
                f"{printable(existing[0])!r}. Pass `--resume` to pass over these, or remove their files."
            )

    def holds(self, path: str) -> bool:
        """See [`Output`]."""
        return os.path.exists(_text_sidecar(path))  # also where the name would be too long

    def write(self, images: Sequence[TaggedImage]) -> list[TaggedImage]:
        """See [`Output`]."""
        return [image if image.error else self._write(image) for image in images]

    def finish(self) -> None:
        """Every file is complete."""

    def _write(self, image: TaggedImage) -> TaggedImage:
        sidecar = _text_sidecar(image.path)
        if sidecar in self._written:
            return image.failed(f"{sidecar.name} belongs to another picture of the same name")
        if self.holds(image.path):
            return image
        try:
            write_whole(sidecar, ", ".join(tag["label"] for tag in image.tags) + "\n")
        except OSError as error:
            return image.failed(f"cannot write {sidecar.name}: {error.strerror}")
        self._written.add(sidecar)
        return image


class XmpSidecars:
    """`NAME.jpg.xmp` beside `NAME.jpg`: its labels among the keywords (`dc:subject`) that are there already.

    The name with the extension, as digiKam and darktable write it and others read it: two pictures that differ in
    their extension alone have a file each. What the file holds stays; see [`add_keywords`].
    """

    def refuse_existing(self, paths: Sequence[str]) -> None:
        """Nothing is overwritten: tags come to those that are there."""

    def holds(self, path: str) -> bool:
        """See [`Output`]."""
        try:
            return is_marked(_xmp_sidecar(path).read_bytes())
        except OSError:
            return False

    def write(self, images: Sequence[TaggedImage]) -> list[TaggedImage]:
        """See [`Output`]."""
        return [image if image.error else self._write(image) for image in images]

    def finish(self) -> None:
        """Every file is complete."""

    @staticmethod
    def _write(image: TaggedImage) -> TaggedImage:
        sidecar = _xmp_sidecar(image.path)
        try:
            old = sidecar.read_bytes() if os.path.exists(sidecar) else None
            new = add_keywords(old, [tag["label"] for tag in image.tags])
            if new != old:
                with whole_file(sidecar) as unfinished:
                    unfinished.write_bytes(new)
                    if old is not None:
                        shutil.copymode(sidecar, unfinished)
        except ValueError as error:
            return image.failed(f"cannot add to {sidecar.name}: {error}")
        except OSError as error:
            return image.failed(f"cannot write {sidecar.name}: {error.strerror}")
        return image


def _text_sidecar(path: str) -> Path:
    return Path(path).with_suffix(".txt")


def _xmp_sidecar(path: str) -> Path:
    return Path(f"{path}.xmp")


__all__ = ["TextSidecars", "XmpSidecars"]
