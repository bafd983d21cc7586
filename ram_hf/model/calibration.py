"""What turns evidence for a label into the probability that it is in the image: numbers that are fitted to data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from torch import Tensor

from .suggestions import did_you_mean

NOT_CALIBRATED = "This model is not calibrated, so it has no probabilities: see `ram-hf calibrate`."
# The names that a threshold can be asked for by.
BEST_F1 = "best-f1"


@dataclass(frozen=True)
class Calibration:
    """Weights of the evidence, and where to draw the line between present and absent.

    The probability of a label is `sigmoid(evidence_weights . evidence + statistics_weights . statistics + bias)`;
    evidence and statistics are those of [`ImageFeatures`] and [`label_evidence`].

    Args:
        evidence_weights: of the global and the local logit.
        statistics_weights: of the image's six statistics.
        bias: added to it all.
        threshold: the probability from which on F1 was best on the data that the numbers were fitted to.
        precision_thresholds: the lowest probability from which on this share of the reported labels was right, by
            the share as text, `{"0.9": 0.71}`.
        label_thresholds: those of labels with examples enough of their own, by name.
        labels_per_image: how many labels an image of the data had, of `num_labels`: what `bias` takes for usual.
        num_labels: how many labels were looked for in each image.

    Raises:
        ValueError: when a number is not finite or out of its range, or there are too few or too many.
    """

    evidence_weights: Sequence[float]
    statistics_weights: Sequence[float]
    bias: float
    threshold: float
    precision_thresholds: Mapping[str, float] = field(default_factory=dict)
    label_thresholds: Mapping[str, float] = field(default_factory=dict)
    labels_per_image: float | None = None
    num_labels: int | None = None

    def __post_init__(self) -> None:
        for name, length in (("evidence_weights", 2), ("statistics_weights", 6)):
            values = getattr(self, name)
            if not isinstance(values, list | tuple) or len(values) != length or not all(map(_is_number, values)):
                raise ValueError(f"`calibration.{name}` must be {length} finite numbers, got {values!r}.")
        if not _is_number(self.bias):
            raise ValueError(f"`calibration.bias` must be a finite number, got {self.bias!r}.")
        thresholds = {"threshold": self.threshold}
        for name in ("precision_thresholds", "label_thresholds"):
            values = getattr(self, name)
            if not isinstance(values, Mapping):
                raise ValueError(f"`calibration.{name}` must map names to probabilities, got {values!r}.")
            thresholds.update({f"{name}[{key!r}]": value for key, value in values.items()})
        for name, value in thresholds.items():
            if not _is_number(value) or not 0 <= value <= 1:
                raise ValueError(f"`calibration.{name}` must be a probability from 0 to 1, got {value!r}.")
        counts = (self.labels_per_image, self.num_labels)
        if counts != (None, None) and not (all(map(_is_number, counts)) and 0 < counts[0] < counts[1]):  # type: ignore
            raise ValueError(
                "`calibration.labels_per_image` must be above 0 and below `num_labels`, got "
                f"{counts[0]!r} of {counts[1]!r}."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """Of what stands in a configuration.

        Raises:
            ValueError: when a name is unknown or missing, or a number wrong.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"`calibration` must be a mapping, got {values!r}.")
        known = [each.name for each in fields(cls)]
        for name in values:
            if name not in known:
                raise ValueError(f"`calibration` holds {name!r}. {did_you_mean(str(name), known)}")
        missing = [name for name in known[:4] if name not in values]
        if missing:
            raise ValueError(f"`calibration` lacks {missing[0]!r}.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """For a configuration: what [`from_dict`] reads."""
        return asdict(self)

    def probabilities(self, global_logits: Tensor, local_logits: Tensor, statistics: Tensor) -> Tensor:
        """The probability of each label, (B, L), of the logits (B, L) and the statistics (B, 6) of images."""
        weights = statistics.new_tensor(self.statistics_weights)
        offset = (statistics * weights).sum(dim=1, keepdim=True) + self.bias
        of_global, of_local = self.evidence_weights
        return (of_global * global_logits + of_local * local_logits + offset).sigmoid()

    def named_threshold(self, name: str) -> float:
        """The threshold called "best-f1", or "precision=0.9" for a share of right labels.

        Raises:
            ValueError: when there is none of that name.
        """
        kind, _, share = name.partition("=")
        if name == BEST_F1:
            return self.threshold
        if kind == "precision" and share in self.precision_thresholds:
            return self.precision_thresholds[share]
        known = [BEST_F1, *(f"precision={each}" for each in self.precision_thresholds)]
        raise ValueError(f"The model has no threshold {name!r}. {did_you_mean(name, known)}")

    def thresholds_of(self, labels: Sequence[str], threshold: float | str | None = None) -> list[float]:
        """The probability from which on each label is reported.

        Args:
            labels: L label names.
            threshold: one for all, as a number or by the name that [`named_threshold`] knows; when None the best of
                each label's own where it has one, and else the best of all.
        """
        if threshold is None:
            return [self.label_thresholds.get(label, self.threshold) for label in labels]
        return [self.named_threshold(threshold) if isinstance(threshold, str) else threshold] * len(labels)

    def prior_shift(self, labels_per_image: float, num_labels: int) -> float:
        """What to add to all log-odds for images that have more or fewer labels than the data had.

        By Bayes' rule for a changed prior all odds are multiplied by the same number, the ratio of the odds of a label
        before an image is seen (Saerens, Latinne and Decaestecker, Neural Computation 2002). See [`shift_odds`].

        Args:
            labels_per_image: how many of the labels an image is expected to have.
            num_labels: how many labels there are.

        Raises:
            ValueError: when the numbers are out of range, or the calibration does not tell what its data had.
        """
        if self.labels_per_image is None or self.num_labels is None:
            raise ValueError("The calibration does not tell how many labels an image of its data had.")
        if not 0 < labels_per_image < num_labels:
            raise ValueError(
                f"The expected labels per image must be above 0 and below the number of labels ({num_labels}), got "
                f"{labels_per_image}."
            )
        return _log_odds(labels_per_image / num_labels) - _log_odds(self.labels_per_image / self.num_labels)


def shift_odds(probabilities: Tensor, shift: float) -> Tensor:
    """Probabilities, of any shape, with `shift` added to their log-odds."""
    return (probabilities.double().logit() + shift).sigmoid().to(probabilities.dtype)


def _log_odds(probability: float) -> float:
    return math.log(probability) - math.log1p(-probability)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


__all__ = ["BEST_F1", "NOT_CALIBRATED", "Calibration", "shift_odds"]
