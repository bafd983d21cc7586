"""`ram-hf pretrain`: the small CLIPs that come with the package, a stage each."""

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the stages of `ram-hf pretrain` to a parser, each with its own arguments."""
    stages = parser.add_subparsers(required=True, metavar="STAGE", title="stages")

    clip = stages.add_parser("clip-on-scenes", help="train a CLIP from scratch on scenes that are composed as it goes")
    clip.add_argument("--config", required=True, metavar="YAML", help="keys are fields of ClipPretrainingArguments")
    clip.add_argument("--source", help="folder with the parts of scenes, in place of the YAML's")
    clip.add_argument("--output_dir", help="folder for checkpoints, log and CLIP, in place of the YAML's")
    clip.set_defaults(stage=_clip_on_scenes)

    bundle = stages.add_parser("bundle", help="write a trained model as it comes with the package")
    bundle.add_argument("trained", metavar="RUN", help="folder of the trained model")
    bundle.add_argument("folder", metavar="FOLDER", help="folder to write, beside what stands there")
    bundle.set_defaults(stage=_bundle)


def run(args: argparse.Namespace) -> int:
    """Run the stage that a command line asks for.

    Returns:
        Exit status 0.
    """
    args.stage(args)
    return 0


def _clip_on_scenes(args: argparse.Namespace) -> None:
    import yaml
    from transformers import HfArgumentParser

    from .scene_clip import ClipPretrainingArguments, pretrain_clip

    values = yaml.safe_load(Path(args.config).read_text(encoding="utf-8"))
    given = {"source": args.source, "output_dir": args.output_dir}
    values.update({name: value for name, value in given.items() if value is not None})
    (arguments,) = HfArgumentParser(ClipPretrainingArguments).parse_dict(values)
    pretrain_clip(arguments)


def _bundle(args: argparse.Namespace) -> None:
    from .bundling import write_bundle

    size = write_bundle(args.trained, args.folder)
    sys.stdout.write(f"{args.folder}: {size / 1e6:.1f} MB of weights\n")


__all__ = ["add_arguments", "run"]
