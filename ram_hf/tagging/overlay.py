"""Pictures with their tags drawn, in a folder of their own."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..atomic import NoRoomError, whole_file
from .outputs import TaggedImage, TagOptions
from .paths import printable
from .reader import load_image

_DRAFT_SIZE = 1600  # pixels: what drawing makes of a larger picture anyway
_COMMENT = "drawn by ram-hf tag "  # of the JPEG file, with what the options are marked by
_MARK = re.compile(rb"drawn by ram-hf tag [0-9a-f]+")
_NUM_BYTES_OF_HEADER = 4096


class Overlays:
    """For each picture a JPEG below `folder`, at the picture's own path with `.jpg` behind.

    Args:
        folder: where to write; made when it is not there.
        paths: all pictures to come.
        options: what the tags come of; files are marked with them.
        resume: go on with what is there, instead of refusing it.

    Raises:
        NotADirectoryError: when `folder` is something else.
        ValueError: when two pictures would be drawn into one file; when resuming, and a file is there that was not
            drawn with these options.
    """

    def __init__(self, folder: Path, paths: Sequence[str], options: TagOptions, *, resume: bool = False):
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"{str(folder)!r} is not a folder.")
        self._folder = folder
        self._comment = f"{_COMMENT}{options.mark}"
        self._refuse_shared_places(paths)
        for path in paths if resume else ():
            place = self._place(path)
            if os.path.exists(place) and _comment_of(place) != self._comment:  # also where a name is too long
                raise ValueError(
                    f"{str(place)!r} was drawn with other labels, `--top-k` or `--threshold`. Resume with the options "
                    "it was begun with, or choose another folder."
                )

    def _refuse_shared_places(self, paths: Sequence[str]) -> None:
        owners: dict[Path, str] = {}
        for path in paths:
            owner = owners.setdefault(self._place(path), path)
            if owner != path:
                raise ValueError(
                    f"{printable(owner)!r} and {printable(path)!r} would both be drawn as "
                    f"{printable(str(self._place(path)))!r}; draw one of them in a run with another `--overlay`."
                )

    def refuse_existing(self, paths: Sequence[str]) -> None:
        """See [`Output`]."""
        existing = [path for path in paths if self.holds(path)]
        if existing:
            raise FileExistsError(
                f"{str(self._folder)!r} holds {len(existing):,} of {len(paths):,} pictures, the first is "
                f"{printable(existing[0])!r}. Pass `--resume` to pass over these, or choose another folder."
            )

    def holds(self, path: str) -> bool:
        """See [`Output`]."""
        return os.path.exists(self._place(path))  # also where the name would be too long

    def write(self, images: Sequence[TaggedImage]) -> list[TaggedImage]:
        """See [`Output`]."""
        return [image if image.error or self.holds(image.path) else self._write(image) for image in images]

    def finish(self) -> None:
        """Every file is complete."""

    def _write(self, tagged: TaggedImage) -> TaggedImage:
        from ..visualize import draw_tags

        place = self._place(tagged.path)
        try:
            image = load_image(tagged.path, draft_size=_DRAFT_SIZE)
            place.parent.mkdir(parents=True, exist_ok=True)
            drawn = draw_tags(image, [_with_region(tag, image.size) for tag in tagged.tags])
            with whole_file(place) as unfinished:
                drawn.save(unfinished, "JPEG", quality=90, comment=self._comment)
        except NoRoomError:  # nor is there for the pictures to come
            raise
        except (OSError, ValueError) as error:
            return tagged.failed(f"cannot draw its tags: {error}")
        return tagged

    def _place(self, path: str) -> Path:
        # Nothing is written outside the folder: neither a root nor a step upwards is taken over.
        parts = [part for part in Path(path).parts if part not in (Path(path).anchor, os.pardir)]
        return self._folder.joinpath(*parts[:-1], f"{parts[-1]}.jpg")


def leave_out_drawn(paths: Sequence[str], folder: Path) -> list[str]:
    """The pictures without those that [`Overlays`] has written into a folder, whose tags would be drawn again."""
    inside = os.path.join(os.path.realpath(folder), "")
    return [path for path in paths if not (os.path.realpath(path).startswith(inside) and _is_drawn(path))]


def _is_drawn(path: str) -> bool:
    try:
        return os.path.isfile(path) and _comment_of(Path(path)) is not None  # a pipe would never end
    except OSError:  # told when its turn comes
        return False


def _comment_of(place: Path) -> str | None:
    """What a file of ours was marked with; None for any other file."""
    with place.open("rb") as file:
        mark = _MARK.search(file.read(_NUM_BYTES_OF_HEADER))
    return mark[0].decode() if mark else None


def _with_region(tag: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    from ..model.regions import label_region

    heat_map = tag.get("heat_map")
    if heat_map is None:  # forced, found nowhere
        return dict(tag)
    return {**tag, **label_region(heat_map.ravel(), grid=heat_map.shape, size=size)}


__all__ = ["Overlays", "leave_out_drawn"]
