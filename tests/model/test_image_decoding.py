"""Encoded files to upright RGB images."""

import io

import numpy as np
import pytest
from PIL import Image

from ram_hf.model.image_decoding import decode_image


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
