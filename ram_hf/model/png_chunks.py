"""What of a PNG is needed to see it: so that nothing else in it can hide it."""

import io
import os
import struct
import zlib
from typing import BinaryIO, NamedTuple

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST_METADATA = 2**20  # bytes of text that may hold the orientation
_MOST_PROFILE = 2**24  # bytes of a colour profile: those of printing presses take 4 million
_MOST_PIXELS = 2**31  # bytes of them that are looked at where a checksum is wrong
_AT_ONCE = 2**20
_ORIENTATION_TEXTS = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")


class SeenPng(NamedTuple):
    """A PNG with what is needed alone, the colour profile that was in it, and what of it is damaged."""

    file: io.BytesIO
    profile: bytes | None
    damage: list[str]


def without_metadata(file: BinaryIO) -> SeenPng:
    """Copy a PNG without texts, frames of an animation and other chunks that its first image can be seen without.

    As other readers do, a chunk with a wrong checksum that is not critical is passed over. So is the checksum of
    pixels whose compressed stream has a right one of its own. What would tell the orientation is kept, the profile is
    handed out; each is passed over when it is too large.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(len(PNG_SIGNATURE))
    chunks: list[_Chunk] = []
    profile, damage, kind = None, [], b""
    while kind != b"IEND" and len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        chunk = _Chunk(head, kind, file.read(min(length + 4, size)))
        if not chunk.is_sound:
            damage.append(f"its {kind.decode('latin-1')!r} chunk has a wrong checksum")
        if kind == b"iCCP":
            profile = _profile(chunk.content[:-4])
            damage += ["its colour profile cannot be read"] * (profile is None)
        elif chunk.is_critical or (chunk.is_sound and _tells_something(kind, chunk.content[:-4])):
            chunks.append(chunk)
    if kind != b"IEND":
        damage.append("it ends before its end chunk")
    if not all(chunk.is_sound for chunk in chunks if chunk.kind == b"IDAT") and _are_pixels_whole(chunks):
        chunks = [chunk.mended() if chunk.kind == b"IDAT" else chunk for chunk in chunks]
    return SeenPng(
        io.BytesIO(PNG_SIGNATURE + b"".join(chunk.head + chunk.content for chunk in chunks)), profile, damage
    )


class _Chunk(NamedTuple):
    """Length and kind as they are written; the kind; and the content with its checksum."""

    head: bytes
    kind: bytes
    content: bytes

    @property
    def is_critical(self) -> bool:
        return not self.kind[0] & 0x20

    @property
    def is_sound(self) -> bool:
        return self._checksum() == self.content[-4:]

    def mended(self) -> "_Chunk":
        return self._replace(content=self.content[:-4] + self._checksum())

    def _checksum(self) -> bytes:
        return struct.pack(">I", zlib.crc32(self.kind + self.content[:-4]))


def _are_pixels_whole(chunks: list[_Chunk]) -> bool:
    inflater = zlib.decompressobj()
    num_bytes = 0
    try:
        for chunk in chunks:
            rest = chunk.content[:-4] if chunk.kind == b"IDAT" else b""
            while rest and num_bytes < _MOST_PIXELS:
                num_bytes += len(inflater.decompress(rest, _AT_ONCE))
                rest = inflater.unconsumed_tail
    except zlib.error:
        return False
    return inflater.eof  # and the checksum at its end was right


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
