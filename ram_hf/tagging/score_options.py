"""The options of commands that say which number of a label counts, and from which value on."""

import argparse
from typing import TYPE_CHECKING

from ..option_types import positive_number, threshold

if TYPE_CHECKING:
    from .scoring import Scoring
    from .vocabulary import Vocabulary


def add_score_arguments(group: "argparse._ArgumentGroup | argparse.ArgumentParser") -> None:
    """Add `--score`, `--threshold` and `--expected-labels-per-image`."""
    group.add_argument(
        "--score",
        choices=("probability", "paper"),
        help="each label's own probability, whatever else is looked for, or the paper's score, which ranks this list "
        "of labels (default: probability where the model is calibrated)",
    )
    group.add_argument(
        "--threshold",
        type=threshold,
        metavar="T",
        help="only labels that score at least T, from 0 to 1; of probabilities also best-f1 or precision=0.9, as the "
        "model's calibration found them (default there: best-f1, and a label's own where it has one)",
    )
    group.add_argument(
        "--expected-labels-per-image",
        type=positive_number,
        metavar="N",
        help="how many of the labels a picture has on average: moves all probabilities up or down",
    )


def scoring_of(args: argparse.Namespace, model: str, vocabulary: "Vocabulary") -> "Scoring":
    """What these options come to with the model of that name, of which the configuration alone is read.

    Raises:
        OSError: when there is no such model.
        ValueError: see [`choose_scoring`].
    """
    from ..pretrained import load_config
    from .scoring import choose_scoring

    return choose_scoring(
        load_config(model),
        vocabulary,
        score=args.score,
        threshold=args.threshold,
        expected_labels=args.expected_labels_per_image,
    )


__all__ = ["add_score_arguments", "scoring_of"]
