"""What a calibration found: words and a table for people, JSON for programs, and a diagram."""

import os
from typing import Any

from ..model.run_record import CALIBRATED
from .calibration import LEAST_POSITIVES_OF_A_LABEL, PRECISIONS, CalibrationFit


def report_content(fit: CalibrationFit, *, num_reference_labels: int, passed_over: int) -> dict[str, Any]:
    """Everything but the weights, as plain Python objects that JSON can hold; fractions in [0, 1]."""
    calibration = fit.calibration
    return {
        CALIBRATED: {"images": fit.num_images, "labels": calibration.num_labels, "positives": fit.num_positives},
        "known": fit.num_known,
        "passed_over": passed_over,
        "reference_labels": num_reference_labels,
        "folds": fit.num_folds,
        "ece": fit.ece,
        "brier": fit.brier,
        "f1": fit.f1,
        "threshold": calibration.threshold,
        "precision_thresholds": dict(calibration.precision_thresholds),
        "label_thresholds": len(calibration.label_thresholds),
        "bins": [each._asdict() for each in fit.bins],
    }


def report_text(content: dict[str, Any]) -> str:
    """For people: what was found, in a few lines, and the table of what was said against what was true."""
    data = content[CALIBRATED]
    lines = [
        f"{data['images']:,} images, {data['labels']:,} labels in {content['folds']} folds, {data['positives']:,} of "
        f"them present; {content['reference_labels']:,} reference labels.",
    ]
    if content["passed_over"]:
        lines.append(f"{content['passed_over']:,} more images could not be read and were passed over.")
    ece = "-" if content["ece"] is None else f"{content['ece']:.3f}"
    lines.append(f"Of labels left out: ECE {ece}, Brier score {content['brier']:.4f}, F1 {100 * content['f1']:.1f} %.")
    lines.append(f"Thresholds: best F1 {content['threshold']:.3f}{_precisions(content)}.")
    if content["label_thresholds"]:
        lines.append(
            f"{content['label_thresholds']:,} labels are in at least {LEAST_POSITIVES_OF_A_LABEL} images: they have "
            "thresholds of their own."
        )
    lines += ["", "       said  mean  true   count"]
    lines += [
        f"{each['lowest']:.2f}-{each['highest']:.2f}  {each['mean_probability']:.3f} {each['share_present']:.3f} "
        f"{each['num_entries']:7}"
        for each in content["bins"]
    ]
    return "\n".join(lines)


def _precisions(content: dict[str, Any]) -> str:
    found = content["precision_thresholds"]
    reached = "".join(f", precision {share} from {value:.3f}" for share, value in found.items())
    missing = [share for share in PRECISIONS if share not in found]
    return reached + (f"; a precision of {', '.join(missing)} is reached nowhere" if missing else "")


def draw_diagram(content: dict[str, Any], file: str | os.PathLike[str]) -> None:
    """Write the reliability diagram as PNG.

    Raises:
        ImportError: without matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4), layout="constrained")
    axis = FigureCanvasAgg(figure).figure.add_subplot()
    axis.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    said, true = ([each[name] for each in content["bins"]] for name in ("mean_probability", "share_present"))
    axis.plot(said, true, "o-", color="#0072B2")
    axis.set(xlabel="probability, mean of the bin", ylabel="share of images with the label")
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    figure.savefig(file, format="png", dpi=110, metadata={"Software": None})


__all__ = ["draw_diagram", "report_content", "report_text"]
