"""Encoded files to upright RGB images."""

import io
import subprocess
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from ram_hf.model import image_decoding
from ram_hf.model.image_decoding import decode_image
from ram_hf.model.images import read_image


def smooth_image(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], axis=-1).astype(np.uint8))


def encoded(image: Image.Image, form: str, **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file


def test_draft_decodes_fewer_pixels_and_keeps_the_image_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    file = encoded(smooth_image(800, 640), "JPEG", exif=exif)
    full, draft = decode_image(file, "it"), decode_image(file, "it", draft_size=150)
    assert full.size == (640, 800)
    assert draft.size == (160, 200)
    difference = np.asarray(full.resize((64, 64))).astype(int) - np.asarray(draft.resize((64, 64)))
    assert np.abs(difference).mean() < 3


def test_draft_leaves_other_formats_alone():
    file = encoded(smooth_image(64, 48), "PNG")
    whole, draft = decode_image(file, "it"), decode_image(file, "it", draft_size=8)
    assert np.array_equal(np.asarray(whole), np.asarray(draft))


@pytest.mark.parametrize("draft_size", [None, 32])
def test_what_cannot_be_decoded(draft_size, tmp_path):
    whole = encoded(smooth_image(200, 200), "JPEG").getvalue()
    for content in (b"not an image", whole[: len(whole) // 2]):
        with pytest.raises(ValueError, match="Cannot read it as an image"):
            decode_image(io.BytesIO(content), "it", draft_size=draft_size)
    with pytest.raises(FileNotFoundError):
        decode_image(str(tmp_path / "missing.jpg"), "it", draft_size=draft_size)


@pytest.mark.parametrize("form", ["EPS", "PCX", "ICO"])
@pytest.mark.parametrize("name", ["figure.eps", "figure.jpg", "figure"])
def test_formats_that_are_no_photographs_are_refused_before_they_start_a_program(form, name, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("another program was started"))
    content = encoded(smooth_image(30, 20), form).getvalue()
    (tmp_path / name).write_bytes(content)
    for source in (content, tmp_path / name):
        with pytest.raises(ValueError, match="as an image: it is of no known format"):
            read_image(source)


def test_every_format_of_the_list_is_read():
    for form in ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM", "WEBP", "TIFF", "MPO", "JPEG2000"):
        assert decode_image(encoded(smooth_image(30, 20), form), "it").size == (30, 20)


def test_limits_are_its_own_and_the_programs_stay(tmp_path, monkeypatch):
    """Whatever Pillow's limits and warnings are set to, and also in threads, for which they are one."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    monkeypatch.setattr(image_decoding, "MAX_DECODED_PIXELS", 2_000)
    filters = list(warnings.filters)
    files = [encoded(smooth_image(40, 40), "PNG"), encoded(smooth_image(50, 50), "PNG")] * 50
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(outcome, files))
    refused = "Cannot read it as an image: 50 x 50 pixels are more than the 2,000 that are decoded at most"
    assert answers == [(40, 40), refused] * 50
    assert Image.MAX_IMAGE_PIXELS == 10
    assert warnings.filters == filters


def outcome(file: io.BytesIO) -> tuple[int, int] | str:
    try:
        return decode_image(file, "it").size
    except ValueError as error:
        return str(error)


def test_the_processor_has_the_limits_of_the_tagger(monkeypatch):
    monkeypatch.setattr(image_decoding, "MAX_DECODED_PIXELS", 2_000)
    for form in ("PNG", "JPEG", "TIFF"):
        with pytest.raises(ValueError, match="50 x 50 pixels are more than the 2,000"):
            read_image(encoded(smooth_image(50, 50), form).getvalue())


@pytest.mark.parametrize("draft_size", [None, 32])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"quality": 95, "subsampling": 0}, {"restart_marker_rows": 1}]
)
def test_a_jpeg_is_whole_without_its_end_marker_and_not_without_its_last_rows(options, draft_size):
    content = encoded(photograph(100, 83), "JPEG", **options).getvalue()
    expected = decode_image(io.BytesIO(content), "it", draft_size=draft_size)
    for missing in (1, 2):
        found = decode_image(io.BytesIO(content[:-missing]), "it", draft_size=draft_size)
        assert np.array_equal(np.asarray(found), np.asarray(expected))
    for missing in (30, len(content) // 8, len(content) // 2):
        with pytest.raises(ValueError, match="truncated"):
            decode_image(io.BytesIO(content[:-missing]), "it", draft_size=draft_size)


def photograph(width: int, height: int) -> Image.Image:
    grain = np.random.default_rng(0).normal(0, 8, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(smooth_image(width, height)) + grain, 0, 255).astype(np.uint8))
