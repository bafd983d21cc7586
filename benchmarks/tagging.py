"""`ram-hf tag` on 2,000 pictures and 50 hostile files: pictures a second, against the bare model; killed and resumed.

Run from the repository's root: `python benchmarks/tagging.py`. The pictures are copies of `../shared/coco128` with
changes (crops, flips, sizes, qualities). All rates are of one run: first the bare model on tensors that lie ready,
then the command as a process of its own; then it is killed half way and resumed, to the same output as undisturbed.
"""

import argparse
import io
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from ram_hf.model.bundled import DEFAULT_MODEL
from ram_hf.pretrained import load_model


def write_pictures(source: Path, folder: Path, count: int) -> None:
    """Copies with changes, as JPEG, some as PNG or WebP."""
    originals = pq.read_table(source, columns=["image"])["image"].to_pylist()
    rng = np.random.default_rng(0)
    for number in range(count):
        image = Image.open(io.BytesIO(originals[number % len(originals)])).convert("RGB")
        left, top = (int(rng.uniform(0, 0.2) * side) for side in image.size)
        image = image.crop((left, top, image.width, image.height))
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        scale = rng.uniform(0.6, 2.5)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        place = folder / f"{number % 20:02}" / f"{number:05}"
        place.parent.mkdir(parents=True, exist_ok=True)
        kind = ("jpg",) * 8 + ("png", "webp")
        image.save(place.with_suffix("." + kind[number % len(kind)]), quality=int(rng.integers(70, 96)))


def write_hostile_files(folder: Path, count: int) -> None:
    """Truncated, empty, bombs, wrong names, links in a circle, text."""
    folder.mkdir(parents=True)
    file = io.BytesIO()
    Image.effect_noise((640, 480), 90).convert("RGB").save(file, "JPEG")
    jpeg = file.getvalue()
    for number in range(count):
        place = folder / f"hostile-{number:02}"
        kind = number % 7
        if kind == 0:
            place.with_suffix(".jpg").write_bytes(jpeg[: len(jpeg) // 2])
        elif kind == 1:
            place.with_suffix(".png").write_bytes(_png_header(60_000, 60_000))
        elif kind == 2:
            place.with_suffix(".jpg").write_bytes(b"")
        elif kind == 3:
            place.with_suffix(".png").write_text("no picture at all")
        elif kind == 4:
            place.with_suffix(".jpg").symlink_to(place.with_suffix(".jpg").name)
        elif kind == 5:
            (folder / f"line\nbreak-{number}.png").write_bytes(jpeg)  # a JPEG with another name: to be tagged
        else:
            place.with_suffix(".gif").write_bytes(b"GIF89a" + bytes(range(200)))


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def bare_rate(name: str, labels: list[str], batch_size: int, seconds: float, dtype: str) -> float:
    """Pictures a second of the model alone, label features and pixels ready."""
    model, processor = load_model(name, dtype=getattr(torch, dtype))
    side = model.config.clip_config.vision_config.image_size
    pixels = torch.randn(batch_size, 3, side, side)
    with torch.inference_mode():
        features = model.eval().get_label_features(**processor(labels=labels))
        model(pixels, label_features=features)
        start, batches = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            model(pixels, label_features=features)
            batches += 1
    return batches * batch_size / (time.perf_counter() - start)


def command(options: argparse.Namespace, target: Path, *places: Path, more: tuple[str, ...] = ()) -> list[str]:
    names = ["--labels-file", options.labels, "--model", options.model, "--batch-size", str(options.batch_size)]
    names += ["--dtype", options.dtype]
    return [sys.executable, "-m", "ram_hf", "tag", *map(str, places), *names, "--output", str(target), *more]


def timed(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(arguments, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--source", type=Path, default=Path("../shared/coco128/train.parquet"), help="photographs")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model to tag with")
    parser.add_argument("--labels", default="examples/labels.txt", help="label file")
    parser.add_argument("--pictures", type=int, default=2000, help="readable pictures")
    parser.add_argument("--hostile", type=int, default=50, help="files of strangers")
    parser.add_argument("--batch-size", type=int, default=16, help="of the command and the bare model")
    parser.add_argument("--dtype", default="float32", help="of the command and the bare model")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    labels = [line for line in Path(options.labels).read_text().splitlines() if line and not line.startswith("#")]

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(options.source, folder / "pictures", options.pictures)
        write_hostile_files(folder / "pictures" / "hostile", options.hostile)
        bare = bare_rate(options.model, labels, options.batch_size, seconds=15, dtype=options.dtype)
        one = next((folder / "pictures" / "00").iterdir())
        start_up = min(timed(command(options, folder / f"one-{number}.jsonl", one)) for number in range(2))
        whole = timed(command(options, folder / "whole.jsonl", folder / "pictures"))
        count = options.pictures + options.hostile
        rate = count / (whole - start_up)
        print(f"bare model on ready tensors: {bare:.1f} pictures/s ({len(labels)} labels)")
        print(f"ram-hf tag: {count} files in {whole:.1f} s, {count / whole:.1f} pictures/s")
        print(
            f"  without its start-up of {start_up:.1f} s: {rate:.1f} pictures/s, {rate / bare:.2f} of the bare model"
        )

        undisturbed = (folder / "whole.jsonl").read_bytes()
        resumed = folder / "resumed.jsonl"
        process = subprocess.Popen(command(options, resumed, folder / "pictures"), stderr=subprocess.DEVNULL)
        while process.poll() is None and not (resumed.exists() and resumed.stat().st_size > len(undisturbed) / 2):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = len(resumed.read_bytes().splitlines())
        timed(command(options, resumed, folder / "pictures", more=("--resume",)))
        same = resumed.read_bytes() == undisturbed
        failed = undisturbed.count(b'"error": "')
        print(f"{failed} files could not be read, each with its reason")
        print(f"killed after {before} rows and resumed: {'the same bytes' if same else 'NOT the same bytes'}")


if __name__ == "__main__":
    main()
