"""What became of the images of an index since it was made: still there, moved, changed, gone or new."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from .index import IndexedImage
from .paths import escape_path, printable

Place = tuple[int, str]  # number of the folder, and the path below it


class FoundFile(NamedTuple):
    """A file that is there now: `path` to open it; `place`, size in bytes and last change as an index keeps them."""

    path: str
    place: Place
    size: int
    modified_ns: int


class Changes(NamedTuple):
    """What an index must become.

    Attributes:
        places: for each of its images where it is now, or None where it is nowhere or changed.
        todo: files to encode.
    """

    places: list[Place | None]
    todo: list[FoundFile]

    def num_moved(self, indexed: Sequence[IndexedImage]) -> int:
        """How many images are elsewhere now."""
        return sum(
            place not in (None, (image.folder, image.path)) for image, place in zip(indexed, self.places, strict=True)
        )


def find_changes(indexed: Sequence[IndexedImage], found: Sequence[FoundFile]) -> Changes:
    """Compare an index with the files that are there.

    A file is the one that it was when size and time of change are the same. One that is gone from its place is
    recognised elsewhere by size, time and name, where just one new file has these.
    """
    there = {file.place: file for file in found}
    places: list[Place | None] = []
    gone: dict[tuple[int, int, str], list[int]] = defaultdict(list)
    for number, image in enumerate(indexed):
        place = (image.folder, image.path)
        file = there.get(place)
        is_same = file is not None and (file.size, file.modified_ns) == (image.size, image.modified_ns)
        places.append(place if is_same else None)
        if is_same:
            del there[place]
        elif file is None:
            gone[image.size, image.modified_ns, os.path.basename(image.path)].append(number)
    new: dict[tuple[int, int, str], list[FoundFile]] = defaultdict(list)
    for file in there.values():
        new[file.size, file.modified_ns, os.path.basename(file.place[1])].append(file)
    for key, numbers in gone.items():
        if len(numbers) == len(new.get(key, ())) == 1:
            places[numbers[0]] = new[key][0].place
            del there[new[key][0].place]
    return Changes(places, list(there.values()))


def state_of(path: str, image: IndexedImage) -> str | None:
    """What became of a file since it was indexed: "gone", "changed", or None."""
    try:
        status = os.stat(path)
    except OSError:
        return "gone"
    is_same = (status.st_size, status.st_mtime_ns) == (image.size, image.modified_ns)
    return None if is_same else "changed"


def find_files(paths: Sequence[str], folders: Sequence[str]) -> list[FoundFile]:
    """Ask each file for its size and time of change; one that is gone in between has neither, and is told in its turn.

    Args:
        paths: of images, each below one of the folders.
        folders: absolute paths.
    """
    return [_found(path, folders) for path in paths]


def _found(path: str, folders: Sequence[str]) -> FoundFile:
    number = next(number for number, folder in enumerate(folders) if _is_below(path, folder))
    place = (number, escape_path(os.path.relpath(path, folders[number])))
    try:
        status = os.stat(path)
    except OSError:
        return FoundFile(path, place, 0, 0)
    return FoundFile(path, place, status.st_size, status.st_mtime_ns)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


def join_folders(named: Sequence[str], indexed: Sequence[str], index: Path) -> tuple[str, ...]:
    """The folders that an index has from now on: those that it had, in their order, and new ones.

    A new folder takes the place of one that is no longer there: it was moved.

    Args:
        named: folders of the command line, absolute paths.
        indexed: those that the index had.
        index: its own folder, for the message.

    Raises:
        ValueError: when one that the index had is neither named nor replaced: its images would be lost.
    """
    new = iter([folder for folder in dict.fromkeys(named) if folder not in indexed])
    folders = []
    for folder in indexed:
        replacement = folder if folder in named else None if os.path.isdir(folder) else next(new, None)
        if replacement is None:
            what = "" if os.path.isdir(folder) else ", which is not there now"
            raise ValueError(
                f"The index {str(index)!r} is also of the folder {printable(folder)!r}{what}: name it too (or the "
                "place that it was moved to), or choose another `--output`."
            )
        folders.append(replacement)
    return (*folders, *new)


def refuse_emptied(folders: Sequence[str], indexed: Sequence[IndexedImage], found: Sequence[FoundFile]) -> None:
    """Refuse to drop all images of a folder: more likely its disk is not there.

    Raises:
        ValueError: when a folder had images and has none.
    """
    for number in _emptied({image.folder for image in indexed}, {file.place[0] for file in found}):
        num_images = sum(image.folder == number for image in indexed)
        raise ValueError(
            f"There is no picture in {printable(folders[number])!r} now, and the index has {num_images:,} of it: is "
            "its disk there? To drop them, remove the index and make it again."
        )


def _emptied(had: set[int], have: set[int]) -> Iterator[int]:
    return iter(sorted(had - have))


__all__ = ["Changes", "FoundFile", "find_changes", "find_files", "join_folders", "refuse_emptied", "state_of"]
