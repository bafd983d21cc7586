import os
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from PIL import Image

from ram_hf.model import image_decoding
from ram_hf.tagging import reader
from ram_hf.tagging.reader import ReadImage, SquareSize, num_workers_for, read_ahead, read_square

from ..model.profiles import PROPHOTO, matrix_profile
from .hostile import photograph, save_frames, save_photographs, save_png_bomb, save_truncated

SIZE = SquareSize(32)


def wide(image: Image.Image) -> Image.Image:
    image.info["icc_profile"] = matrix_profile(PROPHOTO, 1.8)
    return image


def read(path, size=SIZE) -> np.ndarray:
    result = read_square(str(path), size)
    assert result.error is None
    return result.pixels


def reason(path) -> str:
    result = read_square(str(path), SIZE)
    assert result.pixels is None
    assert "\n" not in result.error
    return result.error


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("small.jpg", photograph(100, 70)),
        ("upright.jpg", photograph(70, 100)),
        ("grey.png", photograph(90, 90).convert("L")),
        ("transparent.png", photograph(50, 60).convert("RGBA").rotate(30, fillcolor=(0, 0, 0, 0))),
        ("palette.gif", photograph(50, 60).convert("P")),
        ("sixteen_bits.png", Image.fromarray(np.linspace(0, 65535, 48 * 48).reshape(48, 48).astype(np.uint16))),
        ("picture.webp", photograph(64, 64)),
        ("wide.jpg", wide(photograph(40, 30))),
        ("wide.png", wide(photograph(64, 64))),
        ("cmyk.tif", photograph(64, 64).convert("CMYK")),
    ],
)
def test_pixels_are_the_processors(name, image, tmp_path, tiny_processor):
    image.save(tmp_path / name, icc_profile=image.info.get("icc_profile"))
    expected = tiny_processor(images=[str(tmp_path / name)])["pixel_values"]
    pixels = read(tmp_path / name)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    actual = tiny_processor.image_processor([pixels], do_resize=False, return_tensors="pt")["pixel_values"]
    assert actual.equal(expected)


def test_orientation_is_honoured_with_draft_decoding_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph(800, 400).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    expected = photograph(800, 400).transpose(Image.Transpose.ROTATE_270).resize((32, 32), Image.Resampling.BICUBIC)
    difference = np.abs(read(tmp_path / "turned.jpg").astype(int) - np.asarray(expected).astype(int))
    assert difference.mean() < 3


def test_damaged_exif_does_not_hide_the_picture(tmp_path):
    photograph(40, 30).save(tmp_path / "odd.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffnonsense")
    photograph(40, 30).save(tmp_path / "worse.jpg", exif=b"Exif\0\0no header at all")
    assert np.array_equal(read(tmp_path / "odd.jpg"), read(tmp_path / "worse.jpg"))


def test_draft_decoding_is_for_large_jpegs_only_and_changes_little(tmp_path, monkeypatch):
    drafts = []
    original = reader.decode_image

    def noting(file, name, **options):
        image = original(file, name, **options)
        drafts.append(image.size)
        return image

    monkeypatch.setattr(reader, "decode_image", noting)
    for width in (127, 1600):
        image = photograph(width, width)
        image.save(tmp_path / "picture.jpg", quality=95)
        decoded = Image.open(tmp_path / "picture.jpg").resize((32, 32), Image.Resampling.BICUBIC)
        difference = np.abs(read(tmp_path / "picture.jpg").astype(int) - np.asarray(decoded).astype(int))
        assert difference.max() == 0 if width == 127 else difference.mean() < 2
    assert drafts == [(127, 127), (200, 200)]


def test_panorama_of_thirty_thousand_pixels(tmp_path):
    image = photograph(30_000, 2_000)
    image.save(tmp_path / "panorama.jpg")
    difference = read(tmp_path / "panorama.jpg").astype(int) - np.asarray(image.resize((32, 32), 3)).astype(int)
    assert np.abs(difference).mean() < 3


def test_a_jpeg_above_pillows_limit_is_reduced_as_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)  # as if Pillow's own limit were this low
    photograph(1000, 500).save(tmp_path / "large.jpg")
    assert read(tmp_path / "large.jpg").shape == (32, 32, 3)
    assert Image.MAX_IMAGE_PIXELS == 100_000


def test_decompression_bomb_is_refused_at_once(tmp_path):
    save_png_bomb(tmp_path / "bomb.png")
    start, memory = time.perf_counter(), psutil.Process().memory_info().rss
    assert "pixels" in reason(tmp_path / "bomb.png")
    assert time.perf_counter() - start < 1
    assert psutil.Process().memory_info().rss - memory < 100e6


def test_limits_count_what_is_decoded(tmp_path, monkeypatch):
    image = photograph(600, 400)
    for name, options in (("plain.jpg", {}), ("progressive.jpg", {"progressive": True}), ("plain.png", {})):
        image.save(tmp_path / name, **options)
    monkeypatch.setattr(image_decoding, "MAX_DECODED_PIXELS", 100_000)
    assert read(tmp_path / "plain.jpg").shape == (32, 32, 3)
    for name in ("progressive.jpg", "plain.png"):
        assert reason(tmp_path / name).startswith(
            "Cannot read the file as an image: 600 x 400 pixels are more than the 100,000"
        )


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "JPEG2000"])
def test_truncated_files(image_format, tmp_path):
    save_truncated(tmp_path / "half", image_format)
    assert reason(tmp_path / "half").startswith("Cannot read the file as an image: ")


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "JPEG2000"])
def test_the_content_decides_not_the_extension(image_format, tmp_path):
    photograph(40, 30).save(tmp_path / "picture.jpg", image_format)
    photograph(40, 30).save(tmp_path / "picture.txt", image_format)
    assert np.array_equal(read(tmp_path / "picture.jpg"), read(tmp_path / "picture.txt"))


@pytest.mark.parametrize("name", ["animated.gif", "animated.png", "animated.webp", "pages.tiff", "photographs.mpo"])
def test_first_frame_of_several(name, tmp_path):
    save_frames(tmp_path / name)
    red = read(tmp_path / name).astype(int)
    assert np.abs(red - [255, 0, 0]).max() < 10


def test_what_is_no_picture(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    # Pillow would start another program for this one.
    photograph(40, 30).save(tmp_path / "figure.eps")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    Image.new("RGB", (1, 5)).save(tmp_path / "line.png")
    assert reason(tmp_path / "empty.jpg") == "the file is empty"
    for name in ("page.jpg", "figure.eps"):
        assert reason(tmp_path / name) == "Cannot read the file as an image: it is of no known format"
    assert reason(tmp_path / "pipe.jpg") == "this is not a regular file"
    assert reason("/dev/zero") == "this is not a regular file"
    assert reason(tmp_path / "gone.jpg") == "No such file or directory"
    assert reason(tmp_path / "loop.jpg") == "Too many levels of symbolic links"
    assert reason(tmp_path / ("x" * 300)) == "File name too long"
    assert reason(tmp_path) == "this is a folder"
    assert reason(tmp_path / "line.png") == "The image is 1 x 5 pixels: there is nothing to see in it."


def test_damaged_bytes_never_raise(tmp_path):
    """Whatever a decoder makes of flipped bytes: pixels or a reason."""
    rng = np.random.default_rng(3)
    outcomes = set()
    for image_format in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "JPEG2000"):
        photograph(30, 30).save(tmp_path / "whole", image_format)
        content = np.frombuffer((tmp_path / "whole").read_bytes(), np.uint8)
        for _ in range(30):
            damaged = content.copy()
            damaged[rng.integers(0, min(len(content), 300), 4)] = rng.integers(0, 256, 4)
            (tmp_path / "damaged").write_bytes(damaged.tobytes())
            result = read_square(str(tmp_path / "damaged"), SIZE)
            assert (result.pixels is None) == (result.error is not None)
            outcomes.add(result.error is None)
    assert outcomes == {True, False}


def test_a_flood_of_memory_is_an_error_of_the_picture(tmp_path, monkeypatch):
    def flood(*_, **__):
        raise MemoryError

    photograph(30, 30).save(tmp_path / "picture.png")
    monkeypatch.setattr(reader, "decode_image", flood)
    assert reason(tmp_path / "picture.png") == "there is not enough memory to decode it"


def test_worker_processes_give_the_same_in_order(tmp_path):
    paths = [str(path) for path in save_photographs(tmp_path, 20)]
    paths[7] = str(tmp_path / "gone.jpg")
    here = list(read_ahead(paths, SIZE, workers=0, ahead=4))
    there = list(read_ahead(paths, SIZE, workers=2, ahead=4))
    assert [result.path for result in there] == paths
    assert [result.error for result in there] == [result.error for result in here]
    assert [result.error is None for result in here].count(False) == 1
    for first, second in zip(here, there, strict=True):
        assert np.array_equal(first.pixels, second.pixels)


def worker_processes() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_a_worker_that_is_killed_costs_nothing(tmp_path):
    """As the kernel does when memory is short, in the middle of a picture that is not to blame."""
    paths = [str(path) for path in save_photographs(tmp_path, 30)]
    results = read_ahead(paths, SIZE, workers=1, ahead=1)
    found = [next(results)]
    for _ in range(3):
        (worker,) = worker_processes()
        worker.kill()
        worker.wait()
        found.append(next(results))
    found += results
    assert [result.path for result in found] == paths
    assert [result.error for result in found] == [None] * len(paths)
    assert worker_processes() == []


def test_a_picture_that_workers_die_of_costs_no_other(tmp_path, monkeypatch):
    """As a decoder that crashes: its process ends twice, and the next one goes on."""
    paths = [str(path) for path in save_photographs(tmp_path, 6)]
    results = read_ahead(paths, SIZE, workers=1, ahead=1)
    found = [next(results)]
    start, started = reader._Worker._start, []

    def start_and_kill(self):
        start(self)
        started.append(self)
        if len(started) == 1:
            self._process.kill()
            self._process.join()

    monkeypatch.setattr(reader._Worker, "_start", start_and_kill)
    (worker,) = worker_processes()
    worker.kill()
    worker.wait()
    found += results
    assert [result.path for result in found] == paths
    assert len(started) == 2
    failed = [result for result in found if result.error]
    assert [result.path for result in failed] == paths[1:2]
    assert "ended its process (out of memory, or a crash in the decoder)" in failed[0].error
    assert worker_processes() == []


@pytest.mark.parametrize("deaths", [2, 3])
def test_a_worker_that_is_killed_as_it_starts_is_started_again(tmp_path, monkeypatch, deaths):
    paths = [str(path) for path in save_photographs(tmp_path, 3)]
    context, started = reader._Worker._context, []

    class Killed:
        def __init__(self, **options):
            self._process = context.Process(**options)
            self.kill, self.join = self._process.kill, self._process.join

        def start(self):
            self._process.start()
            started.append(self)
            if len(started) <= deaths:
                self.kill()

    class Context:
        Pipe, Process = context.Pipe, Killed

    monkeypatch.setattr(reader._Worker, "_context", Context)
    results = read_ahead(paths, SIZE, workers=1, ahead=1)
    if deaths == 3:
        with pytest.raises(RuntimeError, match="ended as it started; try `--workers 0`"):
            list(results)
    else:
        assert [result.error for result in results] == [None] * 3
    assert len(started) == 3
    assert worker_processes() == []


def test_a_picture_that_takes_forever_is_given_up(tmp_path, monkeypatch):
    paths = [str(path) for path in save_photographs(tmp_path, 3)]
    results = read_ahead(paths, SIZE, workers=1, ahead=1)
    assert next(results).error is None
    (worker,) = worker_processes()
    worker.suspend()
    monkeypatch.setattr(reader, "MAX_SECONDS", 0.2)
    assert next(results).error == "decoding it took longer than 0.2 s"
    monkeypatch.undo()
    assert next(results).error is None


def test_stopping_early_leaves_no_process(tmp_path):
    results = read_ahead([str(path) for path in save_photographs(tmp_path, 30)], SIZE, workers=2, ahead=8)
    assert isinstance(next(results), ReadImage)
    results.close()
    assert worker_processes() == []


def test_workers_import_neither_torch_nor_transformers():
    code = (
        "import sys, ram_hf.tagging.reader\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'scipy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("orientation", [1, 6])
def test_size_is_that_of_the_whole_upright_picture(tmp_path, orientation):
    """A JPEG is decoded at a part of its size, and turned by its EXIF."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    photograph(800, 600).save(tmp_path / "large.jpg", exif=exif)
    photograph(50, 30).save(tmp_path / "small.png")
    read = read_square(str(tmp_path / "large.jpg"), SquareSize(32))
    assert read.size == ((800, 600) if orientation == 1 else (600, 800))
    assert read_square(str(tmp_path / "small.png"), SquareSize(32)).size == (50, 30)
    (tmp_path / "broken.jpg").write_bytes(b"")
    assert read_square(str(tmp_path / "broken.jpg"), SquareSize(32)).size == (0, 0)


def test_workers_start_only_for_many_pictures(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert [num_workers_for(number) for number in (1, 8, 9, 10_000)] == [0, 0, 8, 8]
