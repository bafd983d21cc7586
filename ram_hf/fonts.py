"""A font that has the letters of a text: Pillow's own has those of Western Europe alone."""

import functools
import logging
import os
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

logger = logging.getLogger(__name__)

_NO_LETTER = "\U0010ffff"  # drawn as what stands for a letter that a font lacks
_PROBE_SIZE = 24  # pixels
_ENDINGS = (".ttf", ".otf", ".ttc")
_PLAIN = ("dejavusans.", "notosans-regular", "notosanscjk-regular", "arialuni", "segoeui.", "arial.")  # tried first


def font_for(text: str, size: int) -> Font:
    """Pillow's own font, or the first of the system's that has every letter of a text; a warning where none has.

    Args:
        text: to draw.
        size: pixels.
    """
    letters = frozenset(letter for letter in text if _is_drawn(letter))
    file = _file_for(letters)
    return ImageFont.truetype(str(file), size) if file is not None else ImageFont.load_default(size)


@functools.lru_cache(maxsize=1024)
def _file_for(letters: frozenset[str]) -> Path | None:
    """A font file with all the letters; None for Pillow's own font."""
    missing = _missing(ImageFont.load_default(_PROBE_SIZE), letters)
    if not missing:
        return None
    for file in _font_files():
        try:
            font = ImageFont.truetype(str(file), _PROBE_SIZE)
        except OSError:
            continue
        if not _missing(font, letters):
            return file
    logger.warning(
        "No font here has the letters %s: boxes are drawn for them. Install one that has, such as Noto.",
        " ".join(sorted(missing)),
    )
    return None


def _missing(font: Font, letters: frozenset[str]) -> set[str]:
    box = bytes(font.getmask(_NO_LETTER))
    return {letter for letter in letters if bytes(font.getmask(letter)) == box}


def _is_drawn(letter: str) -> bool:
    return unicodedata.category(letter)[0] not in "ZC"  # neither space nor joiner


@functools.lru_cache(maxsize=1)
def _font_files() -> tuple[Path, ...]:
    def rank(file: Path) -> tuple[int, str]:
        name = file.name.lower()
        return next((place for place, start in enumerate(_PLAIN) if name.startswith(start)), len(_PLAIN)), str(file)

    found = (Path(folder, name) for top in _folders() for folder, _, names in os.walk(top) for name in names)
    return tuple(sorted((file for file in found if file.suffix.lower() in _ENDINGS), key=rank))


def _folders() -> Iterator[Path]:
    """Where systems keep fonts."""
    home = Path.home()
    if sys.platform == "win32":
        yield Path(os.environ.get("WINDIR", r"C:\Windows"), "Fonts")
        yield home / "AppData/Local/Microsoft/Windows/Fonts"
    elif sys.platform == "darwin":
        yield from (Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts")
    else:
        yield from (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
        yield from (home / ".local/share/fonts", home / ".fonts")


__all__ = ["font_for"]
