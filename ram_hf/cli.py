"""The `ram-hf` command. Only the standard library is imported until a subcommand runs, so that `--help` is instant."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run `ram-hf`. Returns the exit status: 0 for success, 1 for an error, which is told in one line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    try:
        if argv[:1] == ["train"]:  # its options are the fields of its configuration, which has a parser of its own
            return _train([option for option in argv[1:] if option != "--debug"])
        arguments = _make_parser().parse_args(argv)
        return arguments.run(arguments)
    except KeyboardInterrupt as interruption:
        sys.stderr.write(f"ram-hf: {str(interruption) or 'interrupted'}\n")
        return 130
    except Exception as error:
        if debug:
            raise
        message = " ".join(str(error).split()) or type(error).__name__  # some libraries' messages are paragraphs
        sys.stderr.write(f"ram-hf: error: {message}\n")
        return 1


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ram-hf", description="Recover and Match: tag pictures with any list of label names."
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    commands.add_parser(
        "train", help="train on a dataset (ram-hf train --config FILE; in several processes: accelerate launch)"
    )
    _add_tag(commands, shared)
    _add_evaluate(commands.add_parser("evaluate", parents=[shared], help="judge a model on a dataset"))
    _add_prepare(commands)
    _add_scenes(commands)
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


def _add_tag(commands, shared: argparse.ArgumentParser) -> None:
    from .tagging.command import add_arguments, run  # standard library alone

    parser = commands.add_parser("tag", parents=[shared], help="tag files and folders with any list of labels")
    add_arguments(parser)
    parser.set_defaults(run=run)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Rank the unseen labels alone (ZSL) and all labels (GZSL), or one plain list, and print mAP and precision, "
        "recall and F1 of the top 3 and 5, overall and per class."
    )
    parser.add_argument("model", metavar="MODEL", help="a RAM or a CLIP (training-free), Hub id or folder")
    parser.add_argument("dataset", metavar="DATASET", help="Hub id, folder of shards or pictures, or files")
    parser.add_argument("--seen", metavar="FILE", help="labels of the training, one a line; or the plain list")
    parser.add_argument("--unseen", metavar="FILE", help="labels that training never saw, one a line")
    parser.add_argument("--json", metavar="OUT", type=Path, help="write everything, with a row for each label, here")
    parser.add_argument("--per-label", action="store_true", help="print the average precision of each label too")
    parser.add_argument("--split", default="test", help="split to judge on (default: test)")
    parser.add_argument("--name", help="configuration of the dataset on the Hub")
    parser.add_argument("--revision", help="branch, tag or commit of the dataset on the Hub")
    parser.add_argument("--image-column", default="image", metavar="NAME", help="(default: image)")
    parser.add_argument("--label-column", metavar="NAME", help="dots lead into structs (default: labels)")
    parser.add_argument("--label-columns", nargs="+", metavar="NAME", help="columns of 0 and 1, instead")
    parser.add_argument("--boxes-column", metavar="NAME", help="boxes of labels: play the pointing game too")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="(default: 32)")
    parser.add_argument("--num-workers", type=int, default=4, metavar="N", help="threads that decode (default: 4)")
    parser.add_argument("--max-images", type=int, metavar="N", help="judge by the first N pictures")
    parser.add_argument("--no-streaming", action="store_true", help="copy the dataset into the local cache first")
    parser.set_defaults(run=_evaluate)


def _add_prepare(commands) -> None:
    from .data.prepare import add_arguments, run  # standard library alone

    parser = commands.add_parser("prepare", help="turn pictures and annotations on disk into shards")
    add_arguments(parser)
    parser.set_defaults(run=run)


def _add_scenes(commands) -> None:
    from .scenes.corpus import add_arguments, run  # standard library alone

    parser = commands.add_parser("scenes", help="compose a corpus of pictures with known labels and boxes")
    add_arguments(parser)
    parser.set_defaults(run=run)


def _train(argv: list[str]) -> int:
    from .training.arguments import parse_arguments
    from .training.loop import train

    train(parse_arguments(argv))
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from .evaluation.command import evaluate

    if arguments.json is not None and not arguments.json.absolute().parent.is_dir():
        raise FileNotFoundError(f"There is no folder for {str(arguments.json)!r}.")  # before minutes of work
    report = evaluate(
        arguments.model,
        arguments.dataset,
        seen=arguments.seen,
        unseen=arguments.unseen,
        split=arguments.split,
        name=arguments.name,
        revision=arguments.revision,
        image_column=arguments.image_column,
        label_column=arguments.label_column,
        label_columns=arguments.label_columns,
        boxes_column=arguments.boxes_column,
        batch_size=arguments.batch_size,
        num_workers=arguments.num_workers,
        max_images=arguments.max_images,
        streaming=not arguments.no_streaming,
    )
    if report is None:  # another process speaks
        return 0
    sys.stdout.write(report.to_table(per_label=arguments.per_label) + "\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report.to_dict(), indent=1) + "\n")
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    from .conversion import convert_to_folder

    model = convert_to_folder(arguments.checkpoint, arguments.out_dir, tokenizer=arguments.tokenizer)
    sys.stdout.write(f"{model.num_parameters():,} parameters saved in {arguments.out_dir}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
