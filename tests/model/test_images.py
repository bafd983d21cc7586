import base64
import io
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from ram_hf.model.images import is_one_image, read_image

RAMP = np.linspace(0, 255, 8 * 6).astype(np.uint8).reshape(6, 8)
COLOURS = np.stack([RAMP, RAMP[::-1], 255 - RAMP], axis=-1)


def encoded(image, image_format="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def assert_shows(image, expected, tolerance=0):
    assert image.mode == "RGB"
    difference = np.abs(np.asarray(image).astype(int) - np.asarray(expected).astype(int))
    assert difference.max() <= tolerance


def test_every_way_to_hand_over_a_picture(tmp_path):
    picture = Image.fromarray(COLOURS)
    data = encoded(picture)
    path = tmp_path / "a picture.png"
    path.write_bytes(data)
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    channels_first = np.moveaxis(COLOURS, -1, 0)
    for source in (picture, data, bytearray(data), path, str(path), url, COLOURS, channels_first):
        assert_shows(read_image(source), COLOURS)
    for source in (torch.from_numpy(COLOURS.copy()), torch.from_numpy(channels_first.copy())):
        assert_shows(read_image(source), COLOURS)
        assert_shows(read_image(source / 255), COLOURS)
        assert_shows(read_image(source.float()), COLOURS)
        assert_shows(read_image((source / 255).bfloat16()), COLOURS, tolerance=1)


def test_open_files_wherever_reading_has_come_to(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(Image.fromarray(COLOURS)))
    in_memory = io.BytesIO(path.read_bytes())
    in_memory.seek(0, io.SEEK_END)
    assert_shows(read_image(in_memory), COLOURS)
    with path.open("rb") as file:
        assert_shows(read_image(file), COLOURS)
        assert is_one_image(file)
    with tempfile.SpooledTemporaryFile() as file:
        file.write(path.read_bytes())
        assert_shows(read_image(file), COLOURS)
    with pytest.raises(TypeError, match='must be opened as "rb"; reading this one gives str'):
        read_image(io.StringIO("text"))


def test_url():
    data = encoded(Image.fromarray(COLOURS))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert_shows(read_image(f"http://127.0.0.1:{server.server_port}/picture.png"), COLOURS)
    finally:
        server.shutdown()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(orientation):
    upright = Image.fromarray(COLOURS)
    transposes = [None, None, 0, 3, 1, 5, 4, 6, 2]  # what a camera that writes this tag did to the upright picture
    stored = upright
    if orientation > 1:
        inverse = {0: 0, 3: 3, 1: 1, 5: 5, 4: 2, 6: 6, 2: 4}[transposes[orientation]]
        stored = upright.transpose(Image.Transpose(inverse))
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_shows(read_image(encoded(stored, exif=exif)), COLOURS)


def test_transparency_lies_on_white():
    rgba = np.dstack([COLOURS, np.full((6, 8), 255, np.uint8)])
    rgba[:3, ..., 3] = 0
    rgba[:3, ..., :3] = 7  # what a transparent pixel hides must not show
    expected = COLOURS.copy()
    expected[:3] = 255
    assert_shows(read_image(Image.fromarray(rgba)), expected)
    assert_shows(read_image(encoded(Image.fromarray(rgba), "WEBP", lossless=True)), expected)
    assert_shows(read_image(rgba), expected)
    assert_shows(read_image(np.moveaxis(rgba, -1, 0) / 255), expected)
    assert_shows(read_image(Image.fromarray(np.dstack([RAMP, rgba[..., 3]]), "LA")).crop((0, 0, 8, 3)), expected[:3])


def test_palette_with_and_without_transparency():
    flat = np.zeros((4, 4), np.uint8)
    flat[:2] = 1
    palette = Image.fromarray(flat, "P")
    palette.putpalette([250, 10, 20, 30, 240, 50])
    expected = np.where(flat[..., None] == 1, [30, 240, 50], [250, 10, 20])
    assert_shows(read_image(encoded(palette)), expected)
    assert_shows(
        read_image(encoded(palette, transparency=0)), np.where(flat[..., None] == 1, [30, 240, 50], [255, 255, 255])
    )
    assert_shows(read_image(encoded(palette, "GIF")), expected)


def test_sixteen_bits_are_scaled_not_cut_off(tmp_path):
    deep = RAMP.astype(np.uint16) * 257
    expected = np.repeat(RAMP[..., None], 3, axis=-1)
    assert_shows(read_image(encoded(Image.fromarray(deep))), expected)
    assert_shows(read_image(encoded(Image.fromarray(deep), "TIFF")), expected)
    assert_shows(read_image(deep), expected)
    assert_shows(read_image(deep.astype(np.int32)), expected)
    assert_shows(read_image(Image.fromarray(RAMP.astype(np.float32) / 255)), expected)


def test_floats_that_overshoot_are_cut_off():
    overshot = COLOURS / 255 * 1.2 - 0.1
    expected = np.rint(np.clip(overshot, 0, 1) * 255)
    assert_shows(read_image(overshot), expected)
    assert_shows(read_image(overshot * 255), expected, tolerance=1)
    assert_shows(read_image(np.full((4, 4, 3), 1.0000001) * 0.5), np.full((4, 4, 3), 128))


def test_grey_bilevel_and_cmyk():
    grey = np.repeat(RAMP[..., None], 3, axis=-1)
    assert_shows(read_image(encoded(Image.fromarray(RAMP))), grey)
    assert_shows(read_image(RAMP), grey)
    assert_shows(read_image(RAMP[..., None]), grey)
    assert_shows(read_image(encoded(Image.fromarray(RAMP > 99))), np.repeat((RAMP > 99)[..., None] * 255, 3, axis=-1))
    assert_shows(read_image(RAMP > 99), np.repeat((RAMP > 99)[..., None] * 255, 3, axis=-1))
    flat = np.full((16, 16, 3), [200, 90, 30], np.uint8)
    cmyk = Image.fromarray(flat).convert("CMYK")
    assert_shows(read_image(encoded(cmyk, "TIFF")), flat)
    assert_shows(read_image(encoded(cmyk, "JPEG", quality=95)), flat, tolerance=6)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("no/such/picture.png", FileNotFoundError, "There is no file 'no/such/picture.png'"),
        (b"not a picture", ValueError, "Cannot read the given bytes as an image"),
        (
            17,
            TypeError,
            "a URL, bytes, an open file, a NumPy array or a tensor, got int",
        ),
        (np.zeros((0, 5, 3), np.uint8), ValueError, "holds no pixels"),
        (np.zeros((1, 5, 3), np.uint8), ValueError, "5 x 1 pixels: there is nothing to see"),
        (np.zeros((1, 1, 3), np.uint8), ValueError, "1 x 1 pixels"),
        (np.zeros((5, 5, 2), np.uint8), ValueError, r"with 1, 3 or 4 channels, got \(5, 5, 2\)"),
        (np.zeros(7), ValueError, "An image array must have shape"),
        (np.full((4, 4, 3), np.nan), ValueError, "NaN or infinite pixels"),
        (np.full((4, 4, 3), -1.0), ValueError, r"must lie in \[0, 1\], got \[-1.0, -1.0\]"),
        (np.full((4, 4, 3), 400.0), ValueError, r"must lie in \[0, 255\]"),
        (np.linspace(-2.1, 2.6, 48).reshape(4, 4, 3), ValueError, "Pass pictures before normalisation"),
        (np.full((4, 4, 3), 3e38, np.float32), ValueError, r"must lie in \[0, 255\]"),
        (np.full((4, 4, 3), None), TypeError, "must hold integers, floats or bools, got object"),
        (np.full((4, 4, 3), "red"), TypeError, "must hold integers, floats or bools, got <U3"),
        (np.full((4, 4, 3), 1j), TypeError, "must hold integers, floats or bools, got complex128"),
        (torch.full((3, 4, 4), 1j), TypeError, "must hold integers, floats or bools, got complex64"),
        (np.ma.masked_less(np.ones((4, 4)), 2), TypeError, r"pass `array.filled\(value\)`"),
        ("http://bad host/x.png", ValueError, "Cannot download 'http://bad host/x.png'"),
        (Image.new("RGB", (0, 9)), ValueError, "0 x 9 pixels"),
    ],
)
def test_what_is_no_picture_is_refused(source, error, message):
    with pytest.raises(error, match=message):
        read_image(source)


def test_truncated_file():
    data = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)), "JPEG")
    with pytest.raises(ValueError, match="Cannot read the given bytes as an image"):
        read_image(data[: len(data) // 2])
