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


def damage(content: bytes) -> list[str]:
    found: list[str] = []
    decode_image(io.BytesIO(content), "it", damage=found)
    return found


def with_wrong_checksum(content: bytes, kind: bytes) -> bytes:
    place = content.index(kind) - 4
    end = place + 12 + int.from_bytes(content[place : place + 4], "big")
    return content[: end - 4] + b"\0\1\2\3" + content[end:]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(), []),
        (with_chunk(png(), chunk(b"tEXt", b"Comment\0hello")), []),
        (with_chunk(png(), chunk(b"tEXt", b"Comment\0hello", checksum=7)), ["its 'tEXt' chunk has a wrong checksum"]),
        (with_chunk(png(), chunk(b"prVt", b"a", checksum=7)), ["its 'prVt' chunk has a wrong checksum"]),
        (with_wrong_checksum(png(), b"IDAT"), ["its 'IDAT' chunk has a wrong checksum"]),
        (png()[:-12], ["it ends before its end chunk"]),
        (png()[:-5], ["it ends before its end chunk"]),
        (png()[:-2], ["its 'IEND' chunk has a wrong checksum"]),
        (with_chunk(png(), chunk(b"iCCP", b"wide\0\7nonsense")), ["its colour profile cannot be read"]),
        (png(icc_profile=b"nonsense"), ["its colour profile cannot be read"]),
        (with_chunk(png(), chunk(b"eXIf", b"nonsense")), ["its EXIF cannot be read"]),
    ],
)
def test_damage_that_leaves_the_pixels_whole_is_told(content, expected):
    assert damage(content) == expected
    assert np.array_equal(np.asarray(decode_image(io.BytesIO(content), "it")), COLOURS)


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
def test_what_pixels_mean_must_have_its_checksum(kind):
    content = png(Image.fromarray(COLOURS).quantize(8))
    assert damage(content) == []
    with pytest.raises(ValueError, match="Cannot read it as an image"):
        damage(with_wrong_checksum(content, kind))
