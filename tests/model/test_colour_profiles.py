"""Images in other colours than sRGB, with their profiles embedded."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from ram_hf.model.images import read_image

from .profiles import DISPLAY_P3, PROPHOTO, grey_profile, matrix_profile, seen_in_srgb

COLOURS = np.random.default_rng(0).integers(40, 200, (6, 8, 3), np.uint8)
WIDE = matrix_profile(PROPHOTO, 1.8)


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def shown(source) -> np.ndarray:
    return np.asarray(read_image(source)).astype(int)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(("primaries", "gamma"), [(PROPHOTO, 1.8), (DISPLAY_P3, 2.2)])
def test_colours_are_what_the_profile_means(primaries, gamma, form):
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(Image.fromarray(COLOURS), form, icc_profile=matrix_profile(primaries, gamma), **options)
    expected = seen_in_srgb(COLOURS, primaries, gamma)
    assert np.abs(expected - COLOURS).max() > 10
    assert np.abs(shown(content) - expected).max() <= 2


def test_a_jpeg_too_and_an_image_that_is_open_already():
    flat = np.full((16, 16, 3), [180, 90, 60], np.uint8)
    content = encoded(Image.fromarray(flat), "JPEG", icc_profile=WIDE, quality=95)
    expected = seen_in_srgb(flat, PROPHOTO, 1.8)
    assert np.abs(shown(content) - expected).max() <= 6
    assert np.array_equal(shown(Image.open(io.BytesIO(content))), shown(content))


def test_reading_twice_converts_once():
    once = read_image(encoded(Image.fromarray(COLOURS), icc_profile=WIDE))
    assert np.array_equal(shown(once), np.asarray(once))


def test_transparent_palette_and_deep_images():
    expected = seen_in_srgb(COLOURS, PROPHOTO, 1.8)
    alpha = np.full((6, 8), 255, np.uint8)
    alpha[:2] = 0
    transparent = shown(encoded(Image.fromarray(np.dstack([COLOURS, alpha])), icc_profile=WIDE))
    assert (transparent[:2] == 255).all()
    assert np.abs(transparent - expected)[2:].max() <= 2
    palette = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8), "P")
    palette.putpalette(COLOURS.reshape(-1).tolist())
    assert np.abs(shown(encoded(palette, icc_profile=WIDE)) - expected).max() <= 2
    ramp = np.linspace(0, 255, 48).round().astype(np.uint8).reshape(6, 8)
    grey = shown(encoded(Image.fromarray(ramp), icc_profile=grey_profile(1.0)))
    assert grey[0, 4, 0] > ramp[0, 4] + 20
    assert np.array_equal(
        shown(encoded(Image.fromarray(ramp.astype(np.uint16) * 257), icc_profile=grey_profile(1.0))), grey
    )
    with_alpha = Image.merge("LA", (Image.fromarray(ramp), Image.fromarray(alpha)))
    assert np.array_equal(shown(encoded(with_alpha, icc_profile=grey_profile(1.0)))[2:], grey[2:])


@pytest.mark.parametrize(
    "profile",
    [b"no profile", WIDE[:200], WIDE[:128] + bytes(len(WIDE) - 128), grey_profile(1.0), bytes(17_000_000)],
    ids=["text", "cut short", "empty table", "of grey", "too large"],
)
def test_a_profile_that_cannot_be_followed_is_passed_over(profile):
    image = Image.fromarray(COLOURS)
    image.info["icc_profile"] = profile
    assert np.array_equal(shown(image), COLOURS)
    assert np.array_equal(shown(encoded(image)), COLOURS)


def test_srgb_stays_as_it_is_to_the_last_bit():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(shown(encoded(Image.fromarray(COLOURS), icc_profile=profile)), COLOURS)
