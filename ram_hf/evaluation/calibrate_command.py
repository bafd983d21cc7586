"""`ram-hf calibrate`: a model becomes one with probabilities. Only the standard library is imported until it runs."""

import argparse
import sys
from pathlib import Path

from ..option_types import path, path_or_id, whole_number
from ..prompt_option import add_prompt_template_argument
from .dataset_options import add_dataset_arguments, dataset_spec

_COMMON_NOUNS = "common-nouns"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Give a model probabilities: fit them to pictures whose labels are known, with labels left out of the "
        "model's reference labels in turn, so that they hold for labels that it was never trained on. Writes the "
        "calibrated model, with thresholds and a reliability diagram, in place or to another folder. Probabilities "
        "are of labels in the sentences that they were fitted with: those of --prompt-template become the model's own."
    )
    parser.add_argument(
        "model", metavar="MODEL", type=path_or_id, help="a RAM or a CLIP (training-free), Hub id or folder"
    )
    parser.add_argument(
        "dataset", metavar="DATASET", type=path_or_id, help="Hub id, folder of shards or pictures, or files"
    )
    parser.add_argument("--labels", metavar="FILE", type=path, help="labels to fit by, one a line")
    parser.add_argument(
        "--reference",
        metavar=f"FILE|{_COMMON_NOUNS}",
        type=path,
        help="labels that pictures are read with (default: the model's own, else those it was trained on, "
        f"else {_COMMON_NOUNS})",
    )
    parser.add_argument("--output", metavar="FOLDER", type=path, help="write here (default: MODEL itself, a folder)")
    parser.add_argument("--folds", type=whole_number(2), default=5, metavar="N", help="turns of labels (default: 5)")
    parser.add_argument("--seed", type=whole_number(0), default=0, metavar="S", help="deals labels (default: 0)")
    add_prompt_template_argument(parser)
    parser.add_argument("--split", default="train", help="split to fit to (default: train)")
    add_dataset_arguments(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Calibrate, write and tell what was found.

    Raises:
        BlockingIOError: when another run writes into that folder.
        FileExistsError: when the folder for the result holds something.
        FileNotFoundError: when there is no model, dataset or file of labels.
        ValueError: when there is nowhere to write to, no label list, or too little to fit to.
    """
    from ..model.common_nouns import COMMON_NOUNS
    from .calibrate import calibrate

    spec = dataset_spec(args)
    told = calibrate(
        args.model,
        spec,
        labels=args.labels or (),
        label_template=args.prompt_template,
        reference=COMMON_NOUNS if args.reference == Path(_COMMON_NOUNS) else args.reference,
        output=args.output,
        folds=args.folds,
        seed=args.seed,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        max_images=args.max_images,
        skip_broken=args.skip_broken,
        show_progress=not args.quiet,
    )
    sys.stdout.write(f"{told}\n")
    return 0


__all__ = ["add_arguments", "run"]
