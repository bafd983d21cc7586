"""`ram-hf convert`: a checkpoint of the method's published training code in, a folder for `from_pretrained` out."""

import argparse
import sys

from ..option_types import path, path_or_id


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ram-hf convert` to a parser."""
    parser.description = (
        "Read a checkpoint of the method's published training code (.pth or .safetensors), infer all sizes, and save "
        "a folder that RamModel.from_pretrained and RamProcessor.from_pretrained take."
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=path, help="the file to read")
    parser.add_argument("out_dir", metavar="OUT_DIR", type=path, help="the folder to write")
    parser.add_argument(
        "--tokenizer", metavar="ID", type=path_or_id, help="CLIP tokenizer, Hub id or folder (default: OpenAI's)"
    )


def run(args: argparse.Namespace) -> int:
    """Run `ram-hf convert` with the arguments of [`add_arguments`].

    Returns:
        Exit status 0.

    Raises:
        BlockingIOError: when another run writes into the folder.
        OSError, ValueError: see [`convert_to_folder`].
    """
    from ..atomic import locked_folder
    from .original_checkpoint import convert_to_folder

    with locked_folder(args.out_dir):
        model = convert_to_folder(args.checkpoint, args.out_dir, tokenizer=args.tokenizer)
    sys.stdout.write(f"{model.num_parameters():,} parameters saved in {args.out_dir}\n")
    return 0


__all__ = ["add_arguments", "run"]
