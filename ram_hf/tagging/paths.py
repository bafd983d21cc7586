"""Which pictures are meant: files, folders, globs and lists; and how a path is written in an output."""

import glob
import os
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

EXTENSIONS = frozenset(
    ".avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .mpo .pbm .pgm .png .ppm .tif .tiff .webp".split()  # noqa: SIM905
)


def find_images(arguments: Iterable[str], *, stdin: BinaryIO | None = None) -> list[str]:
    """Find the pictures that the arguments of a command line mean.

    Args:
        arguments: each is one of

            - a file, which is taken whatever its name;
            - a folder, searched with all below it, in sorted order, for files with one of `EXTENSIONS` in any case.
              Names that begin with a dot are passed over. A folder behind symbolic links is searched once;
            - a glob, where `**` stands for any number of folders: its folders are searched, and of its files those
              with one of `EXTENSIONS` are taken, or all when the pattern ends with an extension;
            - `-`, for names that come on standard input.
        stdin: what `-` reads: names that end in NUL when there is one, in newlines otherwise. Each is a file or a
            folder, and need not exist: what cannot be read is told as such when its turn comes.

    Returns:
        Paths as given or below a given folder, none twice, in the order of the arguments. A folder within a folder
        that cannot be listed is among them, so that it is told with the pictures that cannot be read.

    Raises:
        FileNotFoundError: when an argument stands for nothing.
        PermissionError: when a given folder cannot be listed (or another OSError, as the system says).
        ValueError: when there is no picture at all.
    """
    arguments = list(arguments)
    found: dict[str, str] = {}  # by absolute path, in order
    for argument in arguments:
        for path in _read_names(stdin) if argument == "-" else _expand(argument):
            found.setdefault(os.path.abspath(path), path)
    if not found:
        where = ", ".join(repr(printable(argument)) for argument in arguments)
        raise ValueError(f"There is no picture in {where}; looked for {' '.join(sorted(EXTENSIONS))}.")
    return list(found.values())


def _expand(argument: str) -> Iterator[str]:
    if os.path.isdir(argument):
        os.scandir(argument).close()  # a given folder that cannot be listed is an error
        yield from _search(argument)
    elif os.path.lexists(argument):
        yield argument
    elif glob.has_magic(argument):
        yield from _matches(argument)
    else:
        raise FileNotFoundError(f"There is no file or folder {printable(argument)!r}.")


def _read_names(stdin: BinaryIO | None) -> Iterator[str]:
    content = stdin.read() if stdin is not None else b""
    for name in content.split(b"\0" if b"\0" in content else b"\n"):
        path = os.fsdecode(name)
        if os.path.isdir(path):
            yield from _search(path)
        elif path:
            yield path


def _matches(pattern: str) -> list[str]:
    names_extension = re.fullmatch(r"\.\w+", os.path.splitext(pattern)[1]) is not None
    matches = sorted(glob.glob(pattern, recursive=True))
    found = []
    for path in matches:
        if os.path.isdir(path):
            found += _search(path)
        elif names_extension or _has_extension(path):
            found.append(path)
    if not matches:
        raise FileNotFoundError(f"Nothing matches {printable(pattern)!r}.")
    return found


def _search(folder: str) -> list[str]:
    found: list[str] = []
    searched: set[tuple[int, int]] = set()
    folders = [folder]
    linked_folders: list[str] = []
    while folders or linked_folders:
        # Links last, so that a folder keeps the name that it has without them.
        current = folders.pop() if folders else linked_folders.pop()
        try:
            status = os.stat(current)
            if (status.st_dev, status.st_ino) in searched:
                continue
            searched.add((status.st_dev, status.st_ino))
            with os.scandir(current) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif entry.is_symlink() and os.path.isdir(entry.path):  # also False for a link to itself
                        linked_folders.append(entry.path)
                    elif _has_extension(entry.name):
                        found.append(entry.path)
        except OSError:
            found.append(current)
        linked_folders.sort(reverse=True)
    return sorted(found, key=lambda path: path.split(os.sep))  # by folder, as a walk would


def _has_extension(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in EXTENSIONS


def escape_path(path: str) -> str:
    r"""Write a path as valid Unicode, in a way that [`unescape_path`] undoes.

    A path that is valid Unicode stays as it is. Only where it holds bytes that are not (each a lone surrogate in
    Python, see `os.fsdecode`) these become `\xNN`, and each
    backslash doubles; so it does in a path that holds `\x` itself.
    """
    if "\\x" not in path and not _SURROGATE.search(path):
        return path
    return _SURROGATE.sub(lambda match: f"\\x{ord(match[0]) & 0xFF:02x}", path.replace("\\", "\\\\"))


def unescape_path(text: str) -> str:
    """The path that [`escape_path`] wrote."""
    if "\\x" not in text:
        return text
    return _ESCAPE.sub(lambda match: chr(0xDC00 | int(match[1], 16)) if match[1] else "\\", text)


def printable(path: str) -> str:
    """A path in one line that is safe to print: control characters and bytes that are no Unicode are escaped."""
    return "".join(
        char if char.isprintable() else repr(char)[1:-1] for char in escape_path(path)
    )  # a lone surrogate is escaped already


_SURROGATE = re.compile("[\udc80-\udcff]")
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|\\)")

__all__ = ["EXTENSIONS", "escape_path", "find_images", "printable", "unescape_path"]
