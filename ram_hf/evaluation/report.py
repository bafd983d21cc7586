"""What an evaluation found: numbers for a program (`to_dict`), for a log (`metrics`) and for a reader (`to_table`)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..model.losses import UNKNOWN
from .pointing import PointingGame
from .ranking import TopKMetrics, check_scores_and_targets, mean_average_precision, top_k_metrics
from .reliability import brier_score, expected_calibration_error, f1_at, reliability


@dataclass(frozen=True)
class LabelResult:
    """How well one label ranks the images.

    Attributes:
        name: the label.
        num_positives: number of images that hold it.
        average_precision: in [0, 1]; None without a positive image.
    """

    name: str
    num_positives: int
    average_precision: float | None


@dataclass(frozen=True)
class PointingResult:
    """How often the peak of a label's column lies on the object; see `ram_hf.evaluation.pointing`.

    Attributes:
        accuracy: hits / total, in [0, 1].
        mean_accuracy: mean over labels of each label's accuracy.
        hits: number of image-label pairs pointed at rightly.
        total: number of image-label pairs with a box.
    """

    accuracy: float
    mean_accuracy: float
    hits: int
    total: int

    @classmethod
    def from_game(cls, game: PointingGame) -> "PointingResult":
        """Sum up a game in which at least one label had a box."""
        return cls(game.accuracy, game.mean_accuracy, int(game.hits.sum()), int(game.total.sum()))


@dataclass(frozen=True)
class ProbabilityResult:
    """How well the probabilities of one list of labels rank, and how far they can be believed.

    Attributes:
        mean_average_precision: as of the scores.
        ece: expected calibration error of the probabilities above 0.05, in 15 bins; None where there is none.
        brier: mean squared distance of probability and truth, over all known entries.
        threshold: that the model stores.
        f1: over all labels and images, when the labels from the threshold on are reported.
        num_reported: how many labels an image then has, on average.
    """

    mean_average_precision: float | None
    ece: float | None
    brier: float
    threshold: float
    f1: float
    num_reported: float


@dataclass(frozen=True)
class SettingReport:
    """How well one list of labels is ranked.

    Attributes:
        num_images: number of images.
        num_images_without_positives: how many of them hold no label of this list. They count all the same: every label
            predicted for them is wrong, which bounds the overall precision from above.
        mean_average_precision: mAP over the labels with a positive image, in [0, 1]; None when there is none.
        top_k: for each k, the metrics of the k best labels of each image.
        labels: one result for each label, in the order of the list.
        pointing: results of the pointing game by what points, `transport_plan` and `similarity`; empty without boxes.
        num_images_passed_over: how many more there are that could not be read.
        probabilities: what was found of them; None for a model that is not calibrated.
    """

    num_images: int
    num_images_without_positives: int
    mean_average_precision: float | None
    top_k: Mapping[int, TopKMetrics]
    labels: Sequence[LabelResult]
    pointing: Mapping[str, PointingResult]
    num_images_passed_over: int = 0
    probabilities: ProbabilityResult | None = None

    @property
    def left_out_labels(self) -> list[str]:
        """Labels without a positive image, which no mean over labels contains."""
        return [label.name for label in self.labels if label.average_precision is None]

    def metrics(self) -> dict[str, float]:
        """All means, flat, as fractions: `mAP`, `OP@3` ... `pointing/transport_plan` ... `probability/ECE` ..."""
        named: dict[str, float] = {}
        if self.mean_average_precision is not None:
            named["mAP"] = self.mean_average_precision
        for k, values in self.top_k.items():
            named.update(values.named(k))
        named.update({f"pointing/{name}": result.accuracy for name, result in self.pointing.items()})
        if (found := self.probabilities) is not None:
            judged = {"mAP": found.mean_average_precision, "ECE": found.ece, "Brier": found.brier, "F1": found.f1}
            named.update({f"probability/{name}": value for name, value in judged.items() if value is not None})
        return named

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain Python objects that JSON can hold."""
        return {
            "num_images": self.num_images,
            "num_images_without_positives": self.num_images_without_positives,
            "num_images_passed_over": self.num_images_passed_over,
            "mAP": self.mean_average_precision,
            **{name: value for k, values in self.top_k.items() for name, value in values.named(k).items()},
            "left_out_labels": self.left_out_labels,
            "pointing": {name: dict(vars(result)) for name, result in self.pointing.items()},
            **({} if self.probabilities is None else {"probabilities": dict(vars(self.probabilities))}),
            "labels": [dict(vars(label)) for label in self.labels],
        }


@dataclass(frozen=True)
class EvaluationReport:
    """What an evaluation found, for each setting.

    Attributes:
        settings: reports by name of the setting: `zsl`, `gzsl` or `plain`, or whatever the caller named them.
    """

    settings: Mapping[str, SettingReport]

    def metrics(self) -> dict[str, float]:
        """All means, flat, for a log, as fractions: `zsl/mAP`, `gzsl/OF1@3`, ..."""
        return {
            f"{setting}/{name}": value
            for setting, report in self.settings.items()
            for name, value in report.metrics().items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain Python objects that JSON can hold; undefined numbers are None, fractions in [0, 1]."""
        return {name: report.to_dict() for name, report in self.settings.items()}

    def to_table(self, *, per_label: bool = False) -> str:
        """A table for people, in percent: one line for each metric, one column for each setting, then remarks.

        Args:
            per_label: add the average precision and the number of positive images of each label.
        """
        columns = {name: report.metrics() for name, report in self.settings.items()}
        rows = list(dict.fromkeys(row for metrics in columns.values() for row in metrics))
        first_width = max(map(len, ["in percent", *rows]))
        widths = {name: max(len(name), len("100.00")) for name in columns}
        lines = ["  ".join(["in percent".ljust(first_width), *(name.rjust(widths[name]) for name in columns)])]
        lines.append("  ".join("-" * width for width in (first_width, *widths.values())))
        for row in rows:
            cells = [_percent(metrics.get(row)).rjust(widths[name]) for name, metrics in columns.items()]
            lines.append("  ".join([row.ljust(first_width), *cells]))
        lines.append("")
        lines.extend(f"{name}: {_remarks(report)}" for name, report in self.settings.items())
        if per_label:
            lines.extend(line for name, report in self.settings.items() for line in _label_lines(name, report))
        return "\n".join(lines)


def _label_lines(setting: str, report: SettingReport) -> list[str]:
    width = max(len("label"), *(len(label.name) for label in report.labels))
    head = ["", f"{setting}: {'label'.ljust(width)}  positives      AP"]
    indent = " " * (len(setting) + 2)
    return head + [
        f"{indent}{label.name.ljust(width)}  {label.num_positives:9}  {_percent(label.average_precision):>6}"
        for label in report.labels
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _remarks(report: SettingReport) -> str:
    left_out = report.left_out_labels
    remarks = [f"{report.num_images} images", f"{len(report.labels)} labels"]
    if report.num_images_without_positives:
        remarks.append(f"{report.num_images_without_positives} images hold none of them")
    if report.num_images_passed_over:
        remarks.append(f"{report.num_images_passed_over} more could not be read and were passed over")
    if (found := report.probabilities) is not None:
        remarks.append(f"from a probability of {found.threshold:.3f} on {found.num_reported:.2f} labels an image")
    if left_out:
        shown = ", ".join(left_out[:5]) + (", ..." if len(left_out) > 5 else "")
        remarks.append(f"{len(left_out)} labels without a positive image left out of the means ({shown})")
    return "; ".join(remarks)


def evaluate_scores(
    scores: ArrayLike,
    targets: ArrayLike,
    *,
    label_names: Sequence[str],
    ks: Sequence[int] = (3, 5),
    pointing: Mapping[str, PointingGame] | None = None,
    probabilities: ArrayLike | None = None,
    threshold: float = 0.5,
) -> SettingReport:
    """Judge the scores of one list of labels.

    Args:
        scores: finite, higher is likelier, shape (N, L).
        targets: 1 where the label is in the image, 0 where not, -1 where unknown, shape (N, L).
        label_names: the L labels.
        ks: how many labels are predicted for each image, each from 1 to L.
        pointing: games played with these labels, to be reported along.
        probabilities: of the labels, to be judged too, shape (N, L).
        threshold: probability from which on a label is reported.

    Returns:
        [`SettingReport`]; conventions for empty denominators and unknown targets are those of
        [`ram_hf.evaluation.ranking`].

    Raises:
        ValueError: when a score is NaN or infinite, a target is none of 1, 0 and -1, a `k` is out of range, or a shape
            does not fit.
    """
    scores, targets = check_scores_and_targets(scores, targets)
    if len(label_names) != scores.shape[1]:
        raise ValueError(f"{len(label_names)} `label_names` were given for {scores.shape[1]} columns of `scores`.")
    mean, per_label, _ = mean_average_precision(scores, targets)
    positive = targets == 1
    return SettingReport(
        num_images=scores.shape[0],
        num_images_without_positives=int((~positive.any(axis=1)).sum()),
        mean_average_precision=_none_for_nan(mean),
        top_k={k: top_k_metrics(scores, targets, k=k) for k in ks},
        labels=[
            LabelResult(name, int(num_positives), _none_for_nan(float(value)))
            for name, num_positives, value in zip(label_names, positive.sum(axis=0), per_label, strict=True)
        ],
        pointing={name: PointingResult.from_game(game) for name, game in (pointing or {}).items() if game.total.any()},
        probabilities=None if probabilities is None else _judge(probabilities, targets, threshold),
    )


def _judge(probabilities: ArrayLike, targets: NDArray[np.int8], threshold: float) -> ProbabilityResult | None:
    probabilities, targets = check_scores_and_targets(probabilities, targets)
    if not (targets != UNKNOWN).any():
        return None
    return ProbabilityResult(
        mean_average_precision=_none_for_nan(mean_average_precision(probabilities, targets).mean),
        ece=expected_calibration_error(reliability(probabilities, targets)),
        brier=brier_score(probabilities, targets),
        threshold=threshold,
        f1=f1_at(probabilities, targets, threshold),
        num_reported=float((probabilities >= threshold).sum(axis=1).mean()),
    )


def _none_for_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


__all__ = [
    "EvaluationReport",
    "LabelResult",
    "PointingResult",
    "ProbabilityResult",
    "SettingReport",
    "evaluate_scores",
]
