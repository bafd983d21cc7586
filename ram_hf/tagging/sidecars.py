"""A file with the tags beside each picture. Pictures themselves are only read."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..atomic import NoRoomError, whole_file, write_whole
from .outputs import TaggedImage, TagOptions
from .paths import printable
from .xmp import add_keywords, is_marked


class TextSidecars:
    """`NAME.txt` beside `NAME.jpg`: its labels, with the separator between, as captions of training data are read.

    A file that exists is never changed: it may hold somebody's own caption. Where it holds words that this run cannot
    give, that is told as the picture's error. Of two pictures that differ in nothing but their extension, the second
    has no place for its labels, which is told too.

    Args:
        paths: all pictures to come.
        options: what the labels come of.
    """

    def __init__(self, paths: Sequence[str], options: TagOptions) -> None:
        self._options = options
        self._separator = options.vocabulary.separator
        self._owners = _owners(paths, _text_sidecar)

    def refuse_existing(self, paths: Sequence[str]) -> None:
        """See [`Output`]."""
        existing = [path for path in paths if os.path.exists(_text_sidecar(path))]  # also where a name is too long
        if existing:
            raise FileExistsError(
                f"{len(existing):,} of {len(paths):,} pictures have a .txt file beside them, the first is "
                f"{printable(existing[0])!r}. Pass `--resume` to pass over these, or remove their files."
            )

    def holds(self, path: str) -> bool:
        """See [`Output`]."""
        return _owns(self._owners, path, _text_sidecar) and self._has_right_words(_text_sidecar(path))

    def write(self, images: Sequence[TaggedImage]) -> list[TaggedImage]:
        """See [`Output`]."""
        return [image if image.error else self._write(image) for image in images]

    def finish(self) -> None:
        """Every file is complete."""

    def _write(self, image: TaggedImage) -> TaggedImage:
        sidecar = _text_sidecar(image.path)
        if not _owns(self._owners, image.path, _text_sidecar):
            return image.failed(f"{sidecar.name} belongs to another picture of the same name")
        try:
            if os.path.exists(sidecar):
                is_right = self._has_right_words(sidecar)
                return (
                    image if is_right else image.failed(f"{sidecar.name} has words that are not of this run; it stays")
                )
            write_whole(sidecar, self._separator.join(tag["label"] for tag in image.tags) + "\n")
        except NoRoomError:  # nor is there for the pictures to come
            raise
        except OSError as error:
            return image.failed(f"cannot write {sidecar.name}: {error.strerror}")
        return image

    def _has_right_words(self, sidecar: Path) -> bool:
        try:
            caption = sidecar.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return False
        return self._options.can_give(caption.split(self._separator) if caption else [])


class XmpSidecars:
    """An XMP file beside each picture: its labels among the keywords that are there already; see [`add_keywords`].

    `NAME.jpg.xmp`, as digiKam and darktable write it, where that exists; else `NAME.xmp`, as Lightroom writes it,
    where that exists: a new file beside it would hide what it holds. Of two pictures that share one, the second has no
    place for its labels, which is told as its error.

    Args:
        paths: all pictures to come.
        options: what the labels come of; files are marked with them.
        name: of new files: "extension" (`NAME.jpg.xmp`) or "stem" (`NAME.xmp`).
        resume: go on with what is there, instead of adding to it.

    Raises:
        ValueError: when resuming, and the files are marked with other options.
    """

    def __init__(self, paths: Sequence[str], options: TagOptions, *, name: str = "extension", resume: bool = False):
        self._name = name
        self._vocabulary = options.vocabulary
        self._mark = f"_{options.mark}"
        self._owners = _owners(paths, self._place)
        self._held: set[str] = set()
        if resume:
            self._hold_marked()

    def _hold_marked(self) -> None:
        others = []
        for path in self._owners.values():
            try:
                packet = self._place(path).read_bytes()
            except OSError:
                continue
            if is_marked(packet, self._mark):
                self._held.add(path)
            elif is_marked(packet):
                others.append(path)
        if others and not self._held:  # beside those that it holds, tags of an earlier run are no surprise
            raise ValueError(
                f"{str(self._place(others[0]))!r} was tagged with other labels, `--top-k` or `--threshold`. Resume "
                "with the options it was begun with, or leave out `--resume` to add to the tags that are there."
            )

    def refuse_existing(self, paths: Sequence[str]) -> None:
        """Nothing is overwritten: tags come to those that are there."""

    def holds(self, path: str) -> bool:
        """See [`Output`]."""
        return path in self._held

    def write(self, images: Sequence[TaggedImage]) -> list[TaggedImage]:
        """See [`Output`]."""
        return [image if image.error else self._write(image) for image in images]

    def finish(self) -> None:
        """Every file is complete."""

    def _write(self, image: TaggedImage) -> TaggedImage:
        sidecar = self._place(image.path)
        if not _owns(self._owners, image.path, self._place):
            return image.failed(f"{sidecar.name} belongs to another picture of the same name")
        try:
            old = sidecar.read_bytes() if os.path.exists(sidecar) else None
            labels = [tag["label"] for tag in image.tags]
            above = {label: self._vocabulary.levels_above(label) for label in labels}
            new = add_keywords(old, labels, self._mark, above=above)
            if new != old:
                target = sidecar if old is None else Path(os.path.realpath(sidecar))  # a link stays one
                with whole_file(target) as unfinished:
                    unfinished.write_bytes(new)
                    if old is not None:
                        shutil.copymode(target, unfinished)
        except ValueError as error:
            return image.failed(f"cannot add to {sidecar.name}: {error}")
        except NoRoomError:  # nor is there for the pictures to come
            raise
        except OSError as error:
            return image.failed(f"cannot write {sidecar.name}: {error.strerror}")
        return image

    def _place(self, path: str) -> Path:
        by_extension, by_stem = Path(f"{path}.xmp"), Path(path).with_suffix(".xmp")
        for existing in (by_extension, by_stem):
            if os.path.exists(existing):
                return existing
        return by_stem if self._name == "stem" else by_extension


def _owners(paths: Sequence[str], place: Callable[[str], Path]) -> dict[str, str]:
    """The first picture of each sidecar."""
    owners: dict[str, str] = {}
    for path in paths:
        owners.setdefault(os.path.abspath(place(path)), path)
    return owners


def _owns(owners: Mapping[str, str], path: str, place: Callable[[str], Path]) -> bool:
    return owners.get(os.path.abspath(place(path)), path) == path


def _text_sidecar(path: str) -> Path:
    return Path(path).with_suffix(".txt")


__all__ = ["TextSidecars", "XmpSidecars"]
