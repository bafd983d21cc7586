"""`ram-hf evaluate`: names in, report out. Only the standard library is imported until it runs."""

import argparse
import os
import sys
from contextlib import nullcontext

from ..atomic import locked
from ..config_option import add_config_argument, with_config
from ..option_types import path, path_or_id, whole_number
from ..prompt_option import add_prompt_template_argument
from .dataset_options import add_dataset_arguments, dataset_spec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Rank the unseen labels alone (ZSL) and all labels (GZSL), or one plain list, and print mAP and precision, "
        "recall and F1 of the top 3 and 5, overall and per class."
    )
    parser.add_argument(
        "model", metavar="MODEL", type=path_or_id, help="a RAM or a CLIP (training-free), Hub id or folder"
    )
    parser.add_argument(
        "dataset", metavar="DATASET", type=path_or_id, help="Hub id, folder of shards or pictures, or files"
    )
    parser.add_argument(
        "--seen", metavar="FILE", type=path, help="labels of the training, one a line; or the plain list"
    )
    parser.add_argument("--unseen", metavar="FILE", type=path, help="labels that training never saw, one a line")
    parser.add_argument("--json", metavar="OUT", type=path, help="write everything, with a row for each label, here")
    parser.add_argument("--push", metavar="REPO", help="add the results to the card of this model on the Hub")
    parser.add_argument("--create-pr", action="store_true", help="with --push: propose it as a pull request")
    parser.add_argument("--per-label", action="store_true", help="print the average precision of each label too")
    parser.add_argument("--split", default="test", help="split to judge on (default: test)")
    add_prompt_template_argument(parser)
    parser.add_argument(
        "--refine", type=whole_number(1), metavar="N", help="judge N of a picture's best labels again, as `tag` does"
    )
    add_dataset_arguments(parser)
    parser.add_argument("--boxes-column", metavar="NAME", help="boxes of labels: play the pointing game too")
    add_config_argument(parser, beside=("seen", "unseen"))


def run(args: argparse.Namespace) -> int:
    """Judge, print the report, and write it where the arguments say.

    Raises:
        BlockingIOError: when another run writes that file.
        FileNotFoundError: when there is no folder for the report, no configuration file, model or dataset.
        IsADirectoryError: when the report is to take the place of a folder.
        ValueError: when a label list is needed and not given, something does not fit the dataset, or the
            configuration file says what no option takes.
    """
    args = with_config(args)
    if args.json is not None and not args.json.absolute().parent.is_dir():
        raise FileNotFoundError(f"There is no folder for {str(args.json)!r}.")  # before minutes of work
    if args.json is not None and args.json.is_dir():
        raise IsADirectoryError(f"`--json` names the folder {str(args.json)!r}; give a file in it.")
    if args.create_pr and not args.push:
        raise ValueError("`--create-pr` has no effect without `--push REPO`.")
    if args.push:
        from ..uploads import refuse_missing_repo, refuse_without_token

        refuse_without_token(args.push)
        refuse_missing_repo(args.push)
    writes = args.json is not None and os.environ.get("RANK", "0") == "0"  # of several processes the first
    with locked(args.json) if writes else nullcontext():
        _evaluate(args)
    return 0


def _evaluate(args: argparse.Namespace) -> None:
    from .by_name import evaluate
    from .report_file import report_content, write_report

    spec = dataset_spec(args, boxes_column=args.boxes_column)
    report = evaluate(
        args.model,
        spec,
        seen=args.seen or (),
        unseen=args.unseen or (),
        label_template=args.prompt_template,
        refine=args.refine,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        max_images=args.max_images,
        skip_broken=args.skip_broken,
    )
    if report is None:  # another process speaks
        return
    sys.stdout.write(report.to_table(per_label=args.per_label) + "\n")
    content = report_content(report, spec, label_template=args.prompt_template, refine=args.refine)
    if args.json is not None:
        write_report(args.json, content)
    if args.push:
        from ..uploads import tell_on_stderr
        from .pushed_results import push_results

        sys.stderr.write(f"{push_results(content, args.push, create_pr=args.create_pr, tell=tell_on_stderr)}\n")


__all__ = ["add_arguments", "run"]
