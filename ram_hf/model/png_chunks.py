"""What of a PNG is needed to see it: so that nothing else in it can hide it."""

import io
import os
import struct
import zlib
from typing import BinaryIO, NamedTuple

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST_METADATA = 2**20  # bytes of text that may hold the orientation
_MOST_PROFILE = 2**24  # bytes of a colour profile: those of printing presses take 4 million
_ORIENTATION_TEXTS = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")


class SeenPng(NamedTuple):
    """A PNG with what is needed alone, and the colour profile that was in it."""

    file: io.BytesIO
    profile: bytes | None


def without_metadata(file: BinaryIO) -> SeenPng:
    """Copy a PNG without texts, frames of an animation and other chunks that its first image can be seen without.

    As other readers do: of the chunks that are left, one with a wrong checksum that is not critical is passed over.
    What would tell the orientation is kept, the profile is handed out; each is passed over when it is too large.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(len(PNG_SIGNATURE))
    kept, profile = io.BytesIO(), None
    kept.write(PNG_SIGNATURE)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if not _may_be_needed(kind):
            file.seek(length + 4, os.SEEK_CUR)
            continue
        content = file.read(min(length + 4, size))
        if kind == b"iCCP":
            profile = _profile(content[:-4])
        elif _is_critical(kind) or (_is_sound(kind, content) and _tells_something(kind, content[:-4])):
            kept.write(head + content)
        if kind == b"IEND":
            break
    return SeenPng(kept, profile)


def _is_critical(kind: bytes) -> bool:
    return not kind[0] & 0x20


def _may_be_needed(kind: bytes) -> bool:
    return _is_critical(kind) or kind in (b"tRNS", b"eXIf", b"iCCP", b"zTXt", b"tEXt", b"iTXt")


def _is_sound(kind: bytes, content: bytes) -> bool:
    return zlib.crc32(kind + content[:-4]) == int.from_bytes(content[-4:], "big")


def _tells_something(kind: bytes, content: bytes) -> bool:
    if kind in (b"tRNS", b"eXIf"):
        return True
    if len(content) > _MOST_METADATA or not content.startswith(_ORIENTATION_TEXTS):
        return False
    _, _, text = content.partition(b"\0")
    if kind == b"zTXt":
        return _inflate(text[1:], _MOST_METADATA) is not None
    return kind == b"tEXt" or not text.startswith(b"\1")  # nobody compresses XMP: it is to be found by its letters


def _profile(content: bytes) -> bytes | None:
    _, _, compressed = content.partition(b"\0")
    return _inflate(compressed[1:], _MOST_PROFILE)


def _inflate(compressed: bytes, limit: int) -> bytes | None:
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(compressed, limit)
    except zlib.error:
        return None
    return None if inflater.unconsumed_tail else content


__all__ = ["PNG_SIGNATURE", "SeenPng", "without_metadata"]
