"""Text files as people's programs write them: UTF-8, with or without a byte-order mark, or UTF-16 with one."""

import codecs
from pathlib import Path

# Windows writes these, and so does Excel's "Unicode text"; UTF-32's mark begins as UTF-16's does.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(file: Path) -> str:
    """The content of a text file, its line ends as they are.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when its bytes are no text; the message names the file.
    """
    data = file.read_bytes()
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8-sig")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{str(file)!r} is not text in UTF-8: byte {error.start} is {error.object[error.start]:#04x}. Save it as "
            "UTF-8."
        ) from None


__all__ = ["read_text"]
