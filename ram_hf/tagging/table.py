"""Tags on standard output: for people in columns, for programs with tabs between."""

from collections.abc import Sequence
from typing import TextIO

from .outputs import TaggedPicture
from .paths import printable

_WIDEST_PATH, _WIDEST_LABEL = 60, 20  # characters of an aligned column; longer ones push the rest to the right


class Table:
    """A line for each picture on a terminal; elsewhere a line `path<TAB>label<TAB>score` for each tag.

    Control characters and bytes that are no Unicode are escaped. Where a program reads, a picture that failed has no
    line.

    Args:
        stream: where to write.
        paths: all pictures to come, and
        labels: all labels, for the widths of their columns.
    """

    def __init__(self, stream: TextIO, paths: Sequence[str], labels: Sequence[str]):
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._path_width = min(max(map(len, map(printable, paths)), default=0), _WIDEST_PATH)
        self._tag_width = min(max(map(len, labels), default=0), _WIDEST_LABEL) + len(" 0.00")

    def refuse_existing(self, paths: Sequence[str]) -> None:
        """Nothing is there to overwrite."""

    def holds(self, path: str) -> bool:
        """Nothing is kept."""
        return False

    def write(self, pictures: Sequence[TaggedPicture]) -> Sequence[TaggedPicture]:
        """Print a batch."""
        for picture in pictures:
            self._stream.write(self._terminal_line(picture) if self._is_terminal else self._lines(picture))
        self._stream.flush()
        return pictures

    def finish(self) -> None:
        """Everything is printed."""

    def _terminal_line(self, picture: TaggedPicture) -> str:
        if picture.error is not None:
            tags = printable(picture.error)
        else:
            cells = [f"{printable(tag['label'])} {tag['score']:.2f}" for tag in picture.tags]
            tags = "  ".join(f"{cell:{self._tag_width}}" for cell in cells).rstrip() or "-"
        return f"{printable(picture.path):{self._path_width}}  {tags}\n"

    @staticmethod
    def _lines(picture: TaggedPicture) -> str:
        path = printable(picture.path)
        return "".join(f"{path}\t{printable(tag['label'])}\t{tag['score']:.6g}\n" for tag in picture.tags)


__all__ = ["Table"]
