"""Which number of a label is reported, and from which value on: a calibrated model has two to choose from."""

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from ..model.configuration_ram import RamConfig

PROBABILITY, PAPER = "probability", "paper"
SCORES = (PROBABILITY, PAPER)
HOW_TO_CALIBRATE = (
    "This model is not calibrated: its scores rank the labels of this list and sum to 1 over them. "
    "`ram-hf calibrate` gives it probabilities."
)


class Scoring(NamedTuple):
    """What a run reports.

    Attributes:
        score: one of [`SCORES`].
        vocabulary: that of the run, with the model's thresholds where nobody gave one.
        threshold: of labels without one of their own; None for none.
        expected_labels: how many of the labels a picture has on average; None for what the calibration has seen.
    """

    score: str
    vocabulary: Vocabulary
    threshold: float | None
    expected_labels: float | None = None


def choose_scoring(
    config: "RamConfig | None",
    vocabulary: Vocabulary,
    *,
    score: str | None,
    threshold: float | str | None,
    expected_labels: float | None,
) -> Scoring:
    """What to report, of what was asked for and what the model has.

    Probabilities are the default where the model is calibrated. Their threshold is, in this order: the label's own in
    the vocabulary, the vocabulary's, the one asked for, the label's own that calibration found, the best for F1.

    Args:
        config: the model's; None for a CLIP, which has no calibration.
        vocabulary: of the run.
        score: one of [`SCORES`]; None for the best that the model has.
        threshold: as a number or by its name in the calibration.
        expected_labels: how many of the labels a picture has on average.

    Raises:
        ValueError: when the model is not calibrated and something is asked for that needs it, there is no threshold of
            that name, or the expected number of labels is out of range.
    """
    is_calibrated = config is not None and config.calibration is not None and bool(config.reference_labels)
    if score == PAPER or not is_calibrated:
        needing = [f"`--score {PROBABILITY}`"] * (score == PROBABILITY)
        needing += [f"`--threshold {threshold}`"] * isinstance(threshold, str)
        needing += [f"`--expected-labels-per-image {expected_labels}`"] * (expected_labels is not None)
        if needing:
            why = "with `--score paper` there are none" if score == PAPER else "this model is not calibrated"
            raise ValueError(f"{needing[0]} is about probabilities, and {why}: see `ram-hf calibrate`.")
        return Scoring(PAPER, vocabulary, threshold)  # type: ignore[arg-type]  # no name, see above

    from ..model.calibration import Calibration

    calibration = Calibration.from_dict(config.calibration)  # type: ignore[union-attr, arg-type]
    if expected_labels is not None:
        calibration.prior_shift(expected_labels, len(vocabulary.matched))
    if isinstance(threshold, str):
        threshold = calibration.named_threshold(threshold)
    elif threshold is None and vocabulary.threshold is None:
        threshold = calibration.threshold
        own = calibration.label_thresholds
        labels = tuple(
            replace(label, threshold=own[label.name])
            if label.threshold is None and label.matched == (label.name,) and label.name in own
            else label
            for label in vocabulary.labels
        )
        vocabulary = replace(vocabulary, labels=labels)
    return Scoring(PROBABILITY, vocabulary, threshold, expected_labels)


__all__ = ["HOW_TO_CALIBRATE", "PAPER", "PROBABILITY", "SCORES", "Scoring", "choose_scoring"]
