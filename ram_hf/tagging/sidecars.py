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
    """An XMP file beside each picture: its labels among the keywords that are there already; see [`add_keywords`].

    `NAME.jpg.xmp`, as digiKam and darktable write it, where that exists; else `NAME.xmp`, as Lightroom writes it,
    where that exists: a new file beside it would hide what it holds. Of two pictures that share one, the second has no
    place for its labels, which is told as its error.

    Args:
        paths: all pictures to come.
        name: of new files: "extension" (`NAME.jpg.xmp`) or "stem" (`NAME.xmp`).
    """

    def __init__(self, paths: Sequence[str], name: str = "extension"):
        self._name = name
        self._owners: dict[str, str] = {}  # the first picture of each file
        for path in paths:
            self._owners.setdefault(os.path.abspath(self._place(path)), path)

    def refuse_existing(self, paths: Sequence[str]) -> None:
        """Nothing is overwritten: tags come to those that are there."""

    def holds(self, path: str) -> bool:
        """See [`Output`]."""
        try:
            return self._owns(path) and is_marked(self._place(path).read_bytes())
        except OSError:
            return False

    def write(self, images: Sequence[TaggedImage]) -> list[TaggedImage]:
        """See [`Output`]."""
        return [image if image.error else self._write(image) for image in images]

    def finish(self) -> None:
        """Every file is complete."""

    def _write(self, image: TaggedImage) -> TaggedImage:
        sidecar = self._place(image.path)
        if not self._owns(image.path):
            return image.failed(f"{sidecar.name} belongs to another picture of the same name")
        try:
            old = sidecar.read_bytes() if os.path.exists(sidecar) else None
            new = add_keywords(old, [tag["label"] for tag in image.tags])
            if new != old:
                target = sidecar if old is None else Path(os.path.realpath(sidecar))  # a link stays one
                with whole_file(target) as unfinished:
                    unfinished.write_bytes(new)
                    if old is not None:
                        shutil.copymode(target, unfinished)
        except ValueError as error:
            return image.failed(f"cannot add to {sidecar.name}: {error}")
        except OSError as error:
            return image.failed(f"cannot write {sidecar.name}: {error.strerror}")
        return image

    def _owns(self, path: str) -> bool:
        return self._owners.get(os.path.abspath(self._place(path)), path) == path

    def _place(self, path: str) -> Path:
        by_extension, by_stem = Path(f"{path}.xmp"), Path(path).with_suffix(".xmp")
        for existing in (by_extension, by_stem):
            if os.path.exists(existing):
                return existing
        return by_stem if self._name == "stem" else by_extension


def _text_sidecar(path: str) -> Path:
    return Path(path).with_suffix(".txt")


__all__ = ["TextSidecars", "XmpSidecars"]
