"""The `ram-hf` command. Only the standard library is imported until a subcommand runs, so that `--help` is instant."""

import argparse
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run `ram-hf`. Returns the exit status: 0 for success, 1 for an error, which is told in one line."""
    parser = _make_parser()
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("ram-hf: interrupted\n")
        return 130
    except Exception as error:
        if arguments.debug:
            raise
        sys.stderr.write(f"ram-hf: error: {error}\n")
        return 1


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ram-hf", description="Recover and Match: tag pictures with any list of label names."
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    convert = commands.add_parser(
        "convert",
        parents=[shared],
        help="import a checkpoint of the method's published training code",
        description="Read a checkpoint of the method's published training code (.pth or .safetensors), infer all "
        "sizes, and save a folder that RamModel.from_pretrained and RamProcessor.from_pretrained take.",
    )
    convert.add_argument("checkpoint", metavar="CHECKPOINT", help="the file to read")
    convert.add_argument("out_dir", metavar="OUT_DIR", help="the folder to write")
    convert.add_argument("--tokenizer", metavar="ID", help="CLIP tokenizer, Hub id or folder (default: OpenAI's)")
    convert.set_defaults(run=_convert)
    return parser


def _convert(arguments: argparse.Namespace) -> int:
    from .conversion import convert_to_folder

    model = convert_to_folder(arguments.checkpoint, arguments.out_dir, tokenizer=arguments.tokenizer)
    sys.stdout.write(f"{model.num_parameters():,} parameters saved in {arguments.out_dir}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
