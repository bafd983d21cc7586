"""PNG files whose metadata is too large, damaged or of no use."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ram_hf.model.image_decoding import decode_image

COLOURS = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
LARGE = b"prompt\0" + b"masterpiece, " * 300_000


def chunk(kind: bytes, content: bytes, *, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(image: Image.Image | None = None, **options) -> bytes:
    file = io.BytesIO()
    (image or Image.fromarray(COLOURS)).save(file, "PNG", **options)
    return file.getvalue()


def with_chunk(content: bytes, extra: bytes, *, last: bool = False) -> bytes:
    place = len(content) - 12 if last else 33  # before IEND, or after IHDR
    return content[:place] + extra + content[place:]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"prompt\0\0" + zlib.compress(LARGE)),
        chunk(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(LARGE)),
        chunk(b"tEXt", b"prompt\0" + bytes(range(32, 127)) * 800_000),
        chunk(b"iCCP", b"wide\0\0" + zlib.compress(bytes(2_000_000))),
        chunk(b"iCCP", b"wide\0\0" + zlib.compress(bytes(20_000_000))),
        chunk(b"iCCP", b"wide\0\7nonsense"),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(LARGE)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LARGE)),
        chunk(b"tEXt", b"Comment\0hello", checksum=7),
        chunk(b"eXIf", b"MM\0*nonsense", checksum=7),
        chunk(b"gAMA", b""),
        chunk(b"prVt", b"private", checksum=7),
    ],
    ids=lambda extra: extra[4:30].decode("ascii", "replace"),
)
def test_metadata_does_not_hide_the_pixels(extra, last):
    image = decode_image(io.BytesIO(with_chunk(png(), extra, last=last)), "it")
    assert np.array_equal(np.asarray(image), COLOURS)


def test_the_orientation_is_kept_wherever_it_is_written():
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = exif.tobytes().removeprefix(b"Exif\0\0")
    hexadecimal = b"\nexif\n%8d\n" % (len(raw) + 6) + (b"Exif\0\0" + raw).hex().encode() + b"\n"
    text = b"Raw profile type exif\0\0" + zlib.compress(hexadecimal)
    xmp = PngImagePlugin.PngInfo()
    xmp.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>')
    expected = np.rot90(COLOURS, -1)
    for content in (png(exif=exif), with_chunk(png(), chunk(b"zTXt", text)), png(pnginfo=xmp)):
        assert np.array_equal(np.asarray(decode_image(io.BytesIO(content), "it")), expected)


def test_transparency_is_kept():
    rgb = Image.fromarray(COLOURS)
    transparent = tuple(int(value) for value in COLOURS[0, 0])
    image = decode_image(io.BytesIO(png(rgb, transparency=transparent)), "it")
    assert image.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("length", [0, 40, 0xFFFFFFFF])
def test_what_is_cut_short_or_lies_about_its_length_is_refused_at_once(length):
    content = png()[:33] + struct.pack(">I", length) + b"IDAT" + b"few"
    with pytest.raises(ValueError, match="Cannot read it as an image"):
        decode_image(io.BytesIO(content), "it")


def test_damaged_pixels_are_still_an_error():
    content = bytearray(png())
    content[content.index(b"IDAT") + 30] ^= 0xFF
    with pytest.raises(ValueError, match="Cannot read it as an image"):
        decode_image(io.BytesIO(bytes(content)), "it")
