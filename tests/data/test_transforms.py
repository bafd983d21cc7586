import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ram_hf import RamProcessor
from ram_hf.data.transforms import EvalTransform, TrainTransform
from ram_hf.model.images import read_image

from .conftest import encoded_picture

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def smooth_picture(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("size", [(50, 31), (31, 50), (16, 16), (300, 3)])
def test_eval_transform_equals_the_processor(size, tiny_processor):
    picture = read_image(encoded_picture(0, size=size))
    expected = tiny_processor(images=[picture], return_tensors="np")["pixel_values"][0]
    actual = EvalTransform.of(tiny_processor)(picture)
    assert actual.dtype == np.float32
    assert actual.flags.c_contiguous
    np.testing.assert_allclose(actual, expected, atol=2e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"resample": Image.Resampling.BILINEAR},
        {"resample": Image.Resampling.NEAREST, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]},
        {"do_normalize": False},
        {"do_rescale": False, "image_mean": [99.0, 100.0, 101.0], "image_std": [50.0, 60.0, 70.0]},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
    ],
)
def test_every_setting_of_the_processor_counts(settings, tiny_processor):
    image_processor = CLIPImageProcessorPil(size={"height": 24, "width": 24}, **settings)
    processor = RamProcessor(image_processor, tiny_processor.tokenizer)
    picture = smooth_picture(90, 70)
    expected = processor(images=[picture], return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(EvalTransform.of(processor)(picture), expected, rtol=1e-5, atol=2e-5)
    assert TrainTransform.of(processor).resample == image_processor.resample


@pytest.mark.parametrize("size", [{"shortest_edge": 24}, {"height": 24, "width": 24}])
def test_a_processor_that_crops_is_refused(size, tiny_processor):
    cropping = RamProcessor(CLIPImageProcessorPil(size=size), tiny_processor.tokenizer, squash=False)
    for transform in (EvalTransform, TrainTransform):
        with pytest.raises(ValueError, match=r"this processor does not \(`squash=False`.*load it with `squash=True`"):
            transform.of(cropping)


def test_training_transform_is_a_function_of_its_generator():
    transform, picture = TrainTransform(64, MEAN, STD), smooth_picture(90, 70)
    results = [transform(picture, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert results[0].shape == (3, 64, 64)
    assert results[0].dtype == np.float32
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_training_transform_stays_near_the_picture():
    """Each step is mild: over many draws the mean picture is the picture itself, flipped half of the time."""
    transform, picture = TrainTransform(64, (0.5,) * 3, (0.5,) * 3), smooth_picture(80, 80)
    plain = EvalTransform(64, (0.5,) * 3, (0.5,) * 3)(picture)
    mean = np.mean([transform(picture, np.random.default_rng(seed)) for seed in range(200)], axis=0)
    inside = (slice(None), slice(16, 48), slice(16, 48))
    expected = (plain + plain[:, :, ::-1]) / 2
    assert np.abs(mean - expected)[inside].max() < 0.25


def test_erasing_and_flipping_happen_half_of_the_time():
    picture = smooth_picture(64, 64)
    transform = TrainTransform(64, (2.0,) * 3, (1.0,) * 3)  # every pixel is below the mean, so 0 is what was erased
    results = [transform(picture, np.random.default_rng(seed)) for seed in range(300)]
    erased = np.mean([np.any(pixels == 0) for pixels in results])
    flipped = np.mean([pixels[0, 32, 20] > pixels[0, 32, 44] for pixels in results if not np.any(pixels == 0)])
    assert 0.4 < erased < 0.6
    assert 0.35 < flipped < 0.65


def test_training_transform_needs_a_generator():
    with pytest.raises(ValueError, match="Augmentation needs `rng`"):
        TrainTransform(8, MEAN, STD)(smooth_picture(9, 9))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, MEAN, STD), "`size` must be positive, got 0."),
        ((8, MEAN[:2], STD), "must have 3 entries"),
        ((8, MEAN, (0.1, 0.0, 0.1)), "those of `std` positive"),
    ],
)
def test_wrong_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        EvalTransform(*arguments)


def test_importing_it_needs_no_datasets():
    code = "import sys, ram_hf.data.transforms; print({'datasets', 'torch', 'torchvision'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
