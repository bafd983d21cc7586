"""An index of 100,000 pictures: bytes a picture, seconds of a search, pictures a second with 300 labels.

Run from the repository's root: `python benchmarks/index.py` (2 GB of disk in --folder, or the system's own for
temporary files). The features are made at random in the shape of a small model: speed does not depend on what they
say. With `--scenes FOLDERS`, of Parquet shards as `ram-hf scenes` writes, it also measures on
these how many of the best 20 pictures of each label a search that looks at a few in full finds.
"""

import argparse
import io
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ram_hf.pretrained import load_model
from ram_hf.tagging.feature_encoder import FeatureEncoder, feature_fingerprint
from ram_hf.tagging.index import SKETCH_MEANS, ImageIndex, IndexDescription, IndexedImage, IndexWriter, StoredFeatures
from ram_hf.tagging.search import LOOKED_AT, LabelSearch
from ram_hf.tagging.sketches import sketch_images
from ram_hf.tagging.tagger import Tagger
from ram_hf.tagging.vocabulary import Vocabulary

_AT_ONCE = 1000
_WORDS = ["red", "green", "small", "old", "wooden", "round", "car", "dog", "tree", "boat", "cup", "house"]


def random_features(encoder: FeatureEncoder, number: int, seed: int) -> StoredFeatures:
    """Unit vectors, and numbers of the usual size, in the model's shape."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = encoder.model.config.patch_grid()
    width = encoder.model.config.clip_config.projection_dim
    patches = F.normalize(torch.randn(number, rows * columns, width, generator=generator), dim=-1)
    whole = F.normalize(torch.randn(number, width, generator=generator), dim=-1)
    return StoredFeatures(
        whole.half().numpy(),
        torch.randn(number, 6, generator=generator).numpy(),
        patches.half().numpy(),
        torch.randn(number, rows * columns, generator=generator).numpy(),
        (5 + torch.randn(number, rows * columns, generator=generator)).numpy(),
        sketch_images(whole, patches, torch.from_numpy(encoder.basis), SKETCH_MEANS).numpy(),
    )


def write_index(folder: Path, encoder: FeatureEncoder, name: str, number: int, *, with_patches: bool) -> None:
    rows, columns = encoder.model.config.patch_grid()
    width = encoder.model.config.clip_config.projection_dim
    fingerprint = feature_fingerprint(encoder.model, encoder.processor)
    description = IndexDescription(
        name, fingerprint, width, rows * columns * with_patches, ("/photos",), complete=True
    )
    folder.mkdir()
    description.write(folder, encoder.basis)
    writer = IndexWriter(folder, description, shard_size=min(2**25 // description.bytes_per_image, 4096))
    for start in range(0, number, _AT_ONCE):
        images = [
            IndexedImage(0, f"2024/holidays/IMG_{start + each:06d}.JPG", 3_000_000, 2**60, 4032, 3024)
            for each in range(_AT_ONCE)
        ]
        writer.add(images, random_features(encoder, _AT_ONCE, start))
    writer.flush()


def bytes_per_image(folder: Path, number: int) -> float:
    return sum(file.stat().st_size for file in folder.iterdir()) / number


def time_searches(folder: Path, encoder: FeatureEncoder, texts: list[str]) -> tuple[list[float], list[float]]:
    """Seconds of each search, the index opened anew each time, the model loaded before: of the clock, of the CPU."""
    seconds, seconds_of_cpu = [], []
    for text in texts:
        begun, begun_of_cpu = time.perf_counter(), time.process_time()
        search = LabelSearch(ImageIndex(folder), encoder.model, encoder.processor)
        assert len(search.best(search.encode([text]), 20)) == 20
        seconds.append(time.perf_counter() - begun)
        seconds_of_cpu.append(time.process_time() - begun_of_cpu)
    return seconds, seconds_of_cpu


def tagged_a_second(folder: Path, encoder: FeatureEncoder, labels: list[str], number: int) -> float:
    """Pictures a second from the index to lists of tags."""
    tagger = Tagger(encoder.model, encoder.processor, Vocabulary.of(labels), top_k=5)
    index = ImageIndex(folder)
    begun = time.perf_counter()
    for start in range(0, number, 64):
        tagger.tag_stored(index.features(np.arange(start, min(start + 64, number))))
    return number / (time.perf_counter() - begun)


def scene_features(encoder: FeatureEncoder, folders: list[Path], number: int) -> StoredFeatures:
    """Features of the pictures in the Parquet shards of folders."""
    import pyarrow.parquet as pq
    from PIL import Image

    from ram_hf.model.pixels import squash

    parts: list[StoredFeatures] = []
    for file in [file for folder in folders for file in sorted(folder.glob("*.parquet"))]:
        for batch in pq.ParquetFile(file).iter_batches(64, columns=["image"]):
            images = [Image.open(io.BytesIO(each["bytes"])).convert("RGB") for each in batch["image"].to_pylist()]
            parts.append(encoder([np.asarray(squash(each, *encoder.square)) for each in images]))
            if sum(len(part.image_embeds) for part in parts) >= number:
                break
    return StoredFeatures(*(np.concatenate(each)[:number] for each in zip(*parts, strict=True)))


def recalls(folder: Path, encoder: FeatureEncoder, labels: list[str], shares: list[float]) -> dict[float, list[float]]:
    """By share looked at in full: how many of the best 1 and of the best 20 pictures of a label a search finds."""
    index = ImageIndex(folder)
    full = LabelSearch(index, encoder.model, encoder.processor, looked_at=len(index))
    found: dict[float, list[float]] = {}
    expected = {label: [hit.number for hit in full.best(full.encode([label]), 20)] for label in labels}
    for share in shares:
        search = LabelSearch(index, encoder.model, encoder.processor, looked_at=round(share * len(index)))
        hits = {label: {hit.number for hit in search.best(search.encode([label]), 20)} for label in labels}
        first = np.mean([expected[label][0] in hits[label] for label in labels])
        found[share] = [first, np.mean([len(hits[label] & set(expected[label])) / 20 for label in labels])]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="examples/ram-tiny")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--tagged", type=int, default=5_000, help="pictures of it that are tagged")
    parser.add_argument("--scenes", type=Path, nargs="+", default=[], help="folders of Parquet shards of pictures")
    parser.add_argument("--labels", type=Path, help="labels to search the scenes for, one a line")
    parser.add_argument("--folder", type=Path, help="where the indexes are written")
    args = parser.parse_args()
    model, processor = load_model(args.model)
    encoder = FeatureEncoder(model, processor)
    texts = [f"{first} {second}" for first in _WORDS[:6] for second in _WORDS[6:]]
    with tempfile.TemporaryDirectory(dir=args.folder) as place:
        for name, with_patches in (("patches", True), ("global", False)):
            folder = Path(place) / name
            write_index(folder, encoder, args.model, args.images, with_patches=with_patches)
            print(f"{name}: {bytes_per_image(folder, args.images):,.0f} bytes a picture", flush=True)
            time_searches(folder, encoder, texts[:3])  # files into the page cache
            seconds, of_cpu = time_searches(folder, encoder, texts)
            print(f"{name}: {np.median(seconds):.3f} s a search, {np.median(of_cpu):.3f} s of the CPU", flush=True)
        labels = [f"{text} {number}" for number in range(9) for text in texts][:300]
        rate = tagged_a_second(Path(place) / "patches", encoder, labels, args.tagged)
        print(f"tagged with 300 labels: {rate:,.0f} pictures/s, {args.images / rate:,.0f} s for all")
        if args.scenes:
            measure_recall(args, encoder, Path(place) / "scenes")


def measure_recall(args: argparse.Namespace, encoder: FeatureEncoder, folder: Path) -> None:
    features = scene_features(encoder, args.scenes, args.images)
    number, patches, width = features.patch_embeds.shape
    folder.mkdir()
    description = IndexDescription(args.model, "", width, patches, ("/",), complete=True)
    description.write(folder, encoder.basis)
    writer = IndexWriter(folder, description, shard_size=1024)
    writer.add([IndexedImage(0, str(each), 0, 0, 1, 1) for each in range(number)], features)
    writer.flush()
    labels = [line for line in args.labels.read_text().splitlines() if line]
    for share, (first, best) in recalls(folder, encoder, labels, [0.01, 0.02, LOOKED_AT / 100_000, 0.1]).items():
        print(f"of {number:,} scenes {share:.0%} looked at: {first:.3f} of the best, {best:.3f} of the best 20 found")


if __name__ == "__main__":
    main()
