"""A corpus of scenes: images with known labels, boxes and captions as parquet shards."""

import io
import json
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from ..atomic import whole_folder, write_whole
from ..data.shards import ShardFiles, write_lines

if TYPE_CHECKING:
    from .renderer import Scene, SceneRenderer

_JPEG = {"quality": 92, "subsampling": 0}  # full colour resolution: in small images halved colours bleed


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
    `report.json`, and a `README.md` for `datasets` that names the sources of the images and their licences. The
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
    with whole_folder(output_dir) as folder:
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
        write_whole(folder / "report.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
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


__all__ = ["write_scenes"]
