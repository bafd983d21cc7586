"""Which pictures are meant: files, folders, globs and lists; and how a path is written in an output."""

import fnmatch
import functools
import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from ..matching_paths import matching_paths
from ..model.image_decoding import known_formats
from ..text_files import without_mark

# In which files of a folder a picture is looked for, by what Pillow calls the format.
_EXTENSIONS = {
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"),
    "PNG": (".apng", ".png"),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "JPEG2000": (".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "JXL": (".jxl",),
}
_BY_PLUG_IN = frozenset(_EXTENSIONS["HEIF"] + _EXTENSIONS["JXL"])
# Pictures that nothing here reads: they are told when a folder holds them.
_UNREAD = frozenset((".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"))  # of cameras
_UNREAD |= {".eps", ".exr", ".ico", ".psd", ".svg", ".tga", ".xcf"}
_LEFT_OUT = ("@eaDir",)  # thumbnails of a network storage; those of desktops begin with a dot


class FoundImages(NamedTuple):
    """What the arguments of a command line mean."""

    paths: list[str]
    passed_over: Counter[str]  # how many pictures of formats that are not read were in the folders, by extension
    idle_patterns: list[str]  # patterns of `exclude` that match nothing

    def tell_passed_over(self) -> str:
        """What was passed over and why, in one sentence; empty when nothing was."""
        if not self.passed_over:
            return ""
        number = self.passed_over.total()
        kinds = ", ".join(f"{count:,} {extension}" for extension, count in sorted(self.passed_over.items()))
        advice = ""
        if _BY_PLUG_IN & self.passed_over.keys():
            advice = " `pip install 'ram_hf[formats]'` adds HEIC and JPEG XL."
        return f"{number:,} picture{'s' * (number != 1)} passed over, of formats that are not read: {kinds}.{advice}"


@functools.cache
def searched_extensions() -> frozenset[str]:
    """Extensions of the files of a folder that are taken for pictures: of the formats that can be decoded here."""
    return frozenset(extension for name in known_formats() for extension in _EXTENSIONS[name])


def find_images(
    arguments: Iterable[str], *, stdin: BinaryIO | None = None, exclude: Sequence[str] = ()
) -> FoundImages:
    """Find the pictures that the arguments of a command line mean.

    Args:
        arguments: each is one of

            - a file, which is taken whatever its name;
            - a folder, searched with all below it, in sorted order, for files with one of [`searched_extensions`] in
              any case. Names that begin with a dot and folders of thumbnails (`@eaDir`) are passed over. A folder
              behind symbolic links is searched once;
            - a glob, see [`matching_paths`]: its folders are searched, and of its files those with one of the
              extensions are taken, or all when the pattern ends with an extension;
            - one of these with `~` in the place of the home;
            - `-`, for names that come on standard input.
        stdin: what `-` reads: names that end in NUL when there is one, in newlines otherwise. Each is a file or a
            folder, and need not exist: what cannot be read is told as such when its turn comes.
        exclude: patterns, where `*` stands for anything; files and folders that are not given themselves are left out
            when their name, or their path below a given folder, matches one.

    Returns:
        Paths as given or below a given folder, none twice, in the order of the arguments. A folder within a folder
        that cannot be listed is among them, so that it is told with the pictures that cannot be read.

    Raises:
        FileNotFoundError: when an argument stands for nothing.
        PermissionError: when a given folder cannot be listed (or another OSError, as the system says).
        ValueError: when there is no picture at all.
    """
    arguments = list(arguments)
    search = _Search(exclude)
    paths: dict[str, str] = {}  # by absolute path, in order
    for argument in arguments:
        for path in search.names(stdin) if argument == "-" else search.expand(argument):
            paths.setdefault(os.path.abspath(path), path)
    found = FoundImages(list(paths.values()), Counter(_extension(path) for path in search.passed_over), search.idle)
    if not paths:
        where = ", ".join(repr(printable(argument)) for argument in arguments)
        looked_for = " ".join(sorted(searched_extensions()))
        raise ValueError(
            f"There is no picture in {where}; looked for {looked_for}. {found.tell_passed_over()}".rstrip()
        )
    return found


class _Search:
    def __init__(self, exclude: Sequence[str]):
        self._exclude = {pattern.rstrip("/" + os.sep): pattern for pattern in exclude}
        self.idle = list(exclude)
        self.passed_over: set[str] = set()  # absolute paths of pictures that nothing here reads

    def expand(self, argument: str) -> Iterator[str]:
        if not os.path.lexists(argument):
            argument = os.path.expanduser(argument)
        if os.path.isdir(argument):
            os.scandir(argument).close()  # a given folder that cannot be listed is an error
            yield from self._folder(argument)
        elif os.path.lexists(argument):
            yield argument
        elif glob.has_magic(argument):
            yield from self._matches(argument)
        else:
            raise FileNotFoundError(f"There is no file or folder {printable(argument)!r}.")

    def names(self, stdin: BinaryIO | None) -> Iterator[str]:
        content = without_mark(stdin.read() if stdin is not None else b"")
        for name in content.split(b"\0") if b"\0" in content else content.replace(b"\r\n", b"\n").split(b"\n"):
            path = os.fsdecode(name)
            if os.path.isdir(path):
                yield from self._folder(path)
            elif path:
                yield path

    def _matches(self, pattern: str) -> list[str]:
        names_extension = re.fullmatch(r"\.\w+", os.path.splitext(pattern)[1]) is not None
        matches = matching_paths(pattern)
        if not matches:
            raise FileNotFoundError(f"Nothing matches {printable(pattern)!r}.")
        found = []
        for path in matches:
            if self._is_excluded(*path.split(os.sep), path):
                continue
            if os.path.isdir(path):
                found += self._folder(path)
            elif names_extension or self._is_image(path):
                found.append(path)
        return found

    def _folder(self, folder: str) -> list[str]:
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
                        if entry.name.startswith(".") or self._is_excluded(
                            entry.name, os.path.relpath(entry.path, folder)
                        ):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                        elif entry.is_symlink() and os.path.isdir(entry.path):  # also False for a link to itself
                            linked_folders.append(entry.path)
                        elif self._is_image(entry.path):
                            found.append(entry.path)
            except OSError:
                found.append(current)
            linked_folders.sort(reverse=True)
        return sorted(found, key=lambda path: path.split(os.sep))  # by folder, as a walk would

    def _is_excluded(self, *names: str) -> bool:
        matching = [
            given
            for pattern, given in self._exclude.items()
            if any(name == pattern or fnmatch.fnmatchcase(name, pattern) for name in names)
        ]
        self.idle = [pattern for pattern in self.idle if pattern not in matching]
        return bool(matching) or any(name in _LEFT_OUT for name in names)

    def _is_image(self, path: str) -> bool:
        extension = _extension(path)
        if extension in searched_extensions():
            return True
        if extension in _UNREAD or extension in _BY_PLUG_IN:
            self.passed_over.add(os.path.abspath(path))
        return False


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower()


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
        char if char.isprintable() or char in _JOINERS else repr(char)[1:-1] for char in escape_path(path)
    )  # a lone surrogate is escaped already


_JOINERS = "\u200c\u200d"  # within words of Persian and Indic languages, and within emoji
_SURROGATE = re.compile("[\udc80-\udcff]")
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|\\)")

__all__ = ["FoundImages", "escape_path", "find_images", "printable", "searched_extensions", "unescape_path"]
