"""Tags on standard output: for people in columns, for programs with tabs between."""

from collections.abc import Sequence
from typing import TextIO

from .outputs import TaggedImage
from .paths import printable

_NONE = "none of these labels"
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

    def write(self, images: Sequence[TaggedImage]) -> Sequence[TaggedImage]:
        """Print a batch."""
        for image in images:
            self._stream.write(self._terminal_line(image) if self._is_terminal else self._lines(image))
        self._stream.flush()
        return images

    def finish(self) -> None:
        """Everything is printed."""

    def _terminal_line(self, image: TaggedImage) -> str:
        if image.error is not None:
            tags = printable(image.error)
        else:
            cells = [f"{printable(tag['label'])} {tag['score']:.2f}" for tag in image.tags]
            tags = "  ".join(f"{cell:{self._tag_width}}" for cell in cells).rstrip() or _NONE
        return f"{printable(image.path):{self._path_width}}  {tags}\n"

    @staticmethod
    def _lines(image: TaggedImage) -> str:
        path = printable(image.path)
        return "".join(f"{path}\t{printable(tag['label'])}\t{tag['score']:.6g}\n" for tag in image.tags)


__all__ = ["Table"]
