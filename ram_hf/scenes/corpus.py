"""`ram-hf scenes`: composes pictures with known labels and boxes, and writes them as parquet shards."""

import argparse
import io
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.shards import ShardFiles, appearing_whole, refuse_used_folder, write_lines

if TYPE_CHECKING:
    from .renderer import Scene, SceneRenderer

_JPEG = {"quality": 92, "subsampling": 0}  # full colour resolution: in small pictures halved colours bleed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ram-hf scenes` to a parser."""
    parser.description = (
        "Compose scenes from a folder of drawings, cut-out photographs and backgrounds, and write parquet shards with "
        "image, labels, boxes and caption; labels_seen.txt, labels_unseen.txt and report.json. Each scene follows "
        "from the seed, the split, its number and these options."
    )
    parser.add_argument("source", metavar="SOURCE", type=Path, help="folder with concepts.json, icons.parquet, ...")
    parser.add_argument("output_dir", metavar="OUT_DIR", type=Path, help="folder to write; new or empty")
    parser.add_argument("--images", type=int, required=True, metavar="N", help="number of scenes")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of all scenes (default: 0)")
    parser.add_argument(
        "--split",
        choices=("train", "test"),
        default="train",
        help="train and test share no scene, no photograph and no stamp, where there are several (default: train)",
    )
    parser.add_argument("--size", type=int, default=96, metavar="PIXELS", help="width and height (default: 96)")
    parser.add_argument(
        "--objects", type=_int_range, default=(1, 6), metavar="N|LOW-HIGH", help="objects of a scene (default: 1-6)"
    )
    parser.add_argument(
        "--object-sizes",
        type=_float_range,
        metavar="LOW-HIGH",
        help="their longer side as a share of the picture's (default: smaller the more there are)",
    )
    parser.add_argument(
        "--concepts",
        default="all",
        metavar="seen|unseen|all|FILE",
        help="what may be shown; a file has one label a line (default: all)",
    )
    parser.add_argument(
        "--styles",
        nargs="+",
        metavar="STYLE",
        help="styles of drawings; fluent-emoji and fluent-emoji-flat are one (default: all that the licences allow)",
    )
    parser.add_argument(
        "--stamps", choices=("none", "only", "mixed"), default="none", help="cut-out photographs (default: none)"
    )
    parser.add_argument(
        "--backgrounds",
        choices=("none", "cc0", "all"),
        default="all",
        help="photographs behind the objects, besides procedural textures (default: all that the licences allow)",
    )
    parser.add_argument(
        "--texture-share",
        type=float,
        metavar="SHARE",
        help="share of scenes on procedural textures (default: 0.3 with fourteen photographs, more with fewer)",
    )
    parser.add_argument(
        "--licenses",
        choices=("permissive", "all"),
        default="permissive",
        help="permissive: what an Apache-2.0 package can carry: no share-alike or GNU work, and only CC0 or public "
        "domain photographs (default: permissive)",
    )
    parser.add_argument(
        "--captions",
        choices=("salient", "all"),
        default="all",
        help="name the largest object, sometimes two, or every one (default: all)",
    )
    parser.add_argument("--shard-size", type=int, default=1000, metavar="N", help="scenes of a shard (default: 1000)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Run `ram-hf scenes` with the arguments of [`add_arguments`].

    Returns:
        Exit status: 0, or 1 after an error, which is explained on stderr and leaves nothing behind.
    """
    from .renderer import SceneRenderer

    try:
        refuse_used_folder(args.output_dir)
        renderer = SceneRenderer(
            args.source,
            size=args.size,
            seed=args.seed,
            split=args.split,
            objects=args.objects,
            object_sizes=args.object_sizes,
            styles=args.styles,
            concepts=args.concepts,
            stamps=args.stamps,
            backgrounds=args.backgrounds,
            licenses=args.licenses,
            texture_share=args.texture_share,
            captions=args.captions,
        )
        report = write_scenes(
            renderer, args.output_dir, images=args.images, shard_size=args.shard_size, show_progress=not args.quiet
        )
    except (OSError, ValueError) as error:
        sys.stderr.write(f"ram-hf scenes: {error}\n")
        return 1
    counts = f"{report['images']} scenes of {len(report['images_of_label'])} labels"
    sys.stderr.write(f"{args.output_dir}: {counts} in {len(report['shards'])} shards.\n")
    return 0


def write_scenes(
    renderer: "SceneRenderer",
    output_dir: str | os.PathLike,
    *,
    images: int,
    shard_size: int = 1000,
    show_progress: bool = False,
) -> dict[str, Any]:
    """Write the first scenes of a renderer as parquet shards.

    The columns are `image` (JPEG), `labels` and `boxes` ({label, x0, y0, x1, y1} of the visible pixels, half-open) of
    the objects, the one with the largest visible area first, and `caption`. Beside the shards stand
    `labels_seen.txt` and `labels_unseen.txt` with the labels that scenes can hold (no file where there are none),
    `report.json`, and a `README.md` for `datasets` that names the sources of the pictures and their licences. The
    same options give the same bytes.

    Args:
        renderer: composes the scenes; its split names the shards.
        output_dir: folder to write, which must be new or empty; it appears when all is written, and not before.
        images: number of scenes.
        shard_size: scenes of one shard; the last may have fewer.
        show_progress: show a progress bar on stderr.

    Returns:
        The content of `report.json`.

    Raises:
        FileExistsError: when `output_dir` holds something.
        ValueError: when a number is below 1, or objects find no room.
    """
    from datasets import Image, List, Value
    from tqdm import tqdm

    if images < 1:
        raise ValueError(f"The number of images must be at least 1, got {images}.")
    corners = {name: Value("float32") for name in ("x0", "y0", "x1", "y1")}
    columns = {
        "image": Image(),
        "labels": List(Value("string")),
        "boxes": List({"label": Value("string"), **corners}),
        "caption": Value("string"),
    }
    counts: Counter[str] = Counter()
    with appearing_whole(Path(output_dir)) as folder:
        files = ShardFiles(folder, columns, split=renderer.split, shard_size=shard_size)
        for index in tqdm(range(images), unit=" scenes", disable=not show_progress):
            scene = renderer.scene(index)
            counts.update(scene.labels)
            files.add(_row(scene))
        report = _report(renderer, counts, images)
        report["shards"] = files.finish(_note(report))
        for name in ("seen", "unseen"):
            if labels := report[f"labels_{name}"]:
                write_lines(folder / f"labels_{name}.txt", labels)
        text = json.dumps(report, indent=1, ensure_ascii=False)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    return report


def _row(scene: "Scene") -> dict[str, Any]:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(scene.image).save(file, "JPEG", **_JPEG)
    return {
        "image": {"bytes": file.getvalue(), "path": None},
        "labels": scene.labels,
        "boxes": scene.boxes,
        "caption": scene.caption,
    }


def _report(renderer: "SceneRenderer", counts: Counter[str], images: int) -> dict[str, Any]:
    return {
        "split": renderer.split,
        "seed": renderer.seed,
        "size": renderer.size,
        "images": images,
        "texture_share": renderer.texture_share,
        "labels_seen": renderer.seen_labels,
        "labels_unseen": renderer.unseen_labels,
        "images_of_label": {label: counts[label] for label in renderer.seen_labels + renderer.unseen_labels},
        "made_from": renderer.parts.attributions,
    }


def _note(report: dict[str, Any]) -> str:
    sources = "\n".join(f"- {line}" for line in report["made_from"])
    return (
        "Written by `ram-hf scenes`; `report.json` has the details. The scenes are changed versions of the pictures "
        f"below, whose licences apply to them; textures are procedural.\n\n{sources}"
    )


def _int_range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    return int(low), int(high or low)


def _float_range(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    return float(low), float(high or low)


__all__ = ["add_arguments", "run", "write_scenes"]
