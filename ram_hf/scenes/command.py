"""`ram-hf scenes`: composes images with known labels and boxes, and writes them as parquet shards."""

import argparse
import sys
from typing import Any

from ..option_types import path, share, share_range, whole_number, whole_number_range


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ram-hf scenes` to a parser."""
    parser.description = (
        "Compose scenes from a folder of drawings, cut-out photographs and backgrounds, and write parquet shards with "
        "image, labels, boxes and caption; labels_seen.txt, labels_unseen.txt and report.json. Each scene follows "
        "from the seed, the split, its number and these options."
    )
    parser.add_argument("source", metavar="SOURCE", type=path, help="folder with concepts.json, icons.parquet, ...")
    parser.add_argument("output_dir", metavar="OUT_DIR", type=path, help="folder to write; new or empty")
    parser.add_argument("--images", type=whole_number(1), required=True, metavar="N", help="number of scenes")
    parser.add_argument("--seed", type=whole_number(0), default=0, metavar="S", help="seed of all scenes (default: 0)")
    parser.add_argument(
        "--split",
        choices=("train", "test"),
        default="train",
        help="train and test share no scene, no photograph and no stamp, where there are several (default: train)",
    )
    parser.add_argument(
        "--size", type=whole_number(1), default=96, metavar="PIXELS", help="width and height (default: 96)"
    )
    parser.add_argument(
        "--objects",
        type=whole_number_range,
        default=(1, 6),
        metavar="N|LOW-HIGH",
        help="objects of a scene (default: 1-6)",
    )
    parser.add_argument(
        "--object-sizes",
        type=share_range,
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
        type=share,
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
    parser.add_argument(
        "--shard-size", type=whole_number(1), default=1000, metavar="N", help="scenes of a shard (default: 1000)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Run `ram-hf scenes` with the arguments of [`add_arguments`].

    Returns:
        Exit status 0.

    Raises:
        BlockingIOError: when another run writes into the folder.
        OSError, ValueError: see [`SceneRenderer`] and [`write_scenes`].
    """
    from ..atomic import locked, refuse_used_folder

    if args.styles and args.stamps == "only":
        raise ValueError("`--styles` are of drawings: they have no effect with `--stamps only`.")
    if args.texture_share is not None and args.backgrounds == "none":
        raise ValueError("`--texture-share` has no effect with `--backgrounds none`: then there are only textures.")
    with locked(args.output_dir):  # and refused before anything is read
        refuse_used_folder(args.output_dir)
        report = _compose(args)
    counts = f"{report['images']} scenes of {len(report['images_of_label'])} labels"
    sys.stderr.write(f"{args.output_dir}: {counts} in {len(report['shards'])} shards.\n")
    return 0


def _compose(args: argparse.Namespace) -> dict[str, Any]:
    from .corpus import write_scenes
    from .renderer import SceneRenderer

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
    return write_scenes(
        renderer, args.output_dir, images=args.images, shard_size=args.shard_size, show_progress=not args.quiet
    )


__all__ = ["add_arguments", "run"]
