"""Text as people's editors and tables write it. Standard library alone."""

import codecs
import os
from pathlib import Path

_MARKS = (  # those of UTF-32 begin like those of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)
_WITHOUT_MARK = ("UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE")
_OLD = "WINDOWS-1252"


def read_text(file: str | os.PathLike) -> str:
    """Read a text file; see [`decode_text`].

    Raises:
        OSError: when it cannot be read.
        ValueError: when it is in no encoding that can be told.
    """
    return decode_text(Path(file).read_bytes(), repr(os.fspath(file)))


def decode_text(content: bytes, name: str) -> str:
    """Text of UTF-8, or of what a byte-order mark says: UTF-16 or UTF-32, as Notepad and Excel write them.

    Args:
        content: the bytes.
        name: what an error calls them.

    Raises:
        ValueError: when they are in another encoding, with how to convert them.
    """
    try:
        text = without_mark(content).decode()
        if "\0" not in text:
            return text
        reason = "it holds zero bytes"
    except UnicodeDecodeError as error:
        reason = f"byte {error.object[error.start]:#04x} at {error.start}"
    encoding = next((each for each in _WITHOUT_MARK if _looks_like(content, each)), _OLD)
    if encoding == _OLD and b"\0" in content:
        raise ValueError(f"{name} is not text in UTF-8 ({reason}), nor any other text.")
    what = "" if encoding == _OLD else f", but looks like {encoding} without a byte-order mark"
    raise ValueError(
        f"{name} is not text in UTF-8 ({reason}){what}. Save it as UTF-8, or convert it: "
        f"iconv -f {encoding} -t UTF-8 OLD > NEW"
    )


def without_mark(content: bytes) -> bytes:
    """What begins with a byte-order mark in UTF-8 without one; anything else as it is.

    Raises:
        UnicodeDecodeError: when it is not in the encoding of its mark.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding).encode()
    return content


def _looks_like(content: bytes, encoding: str) -> bool:
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return b"\0" in content and all(char.isprintable() or char.isspace() for char in text)


__all__ = ["decode_text", "read_text", "without_mark"]
