"""A report as a file, with what it is of: what the card of a model is made from."""

import json
import os
from typing import Any

from ..atomic import write_whole
from ..data.sources import DatasetSpec
from ..model.hub_names import hub_id
from ..model.run_record import EVALUATED
from .report import EvaluationReport


def report_content(report: EvaluationReport, rows: DatasetSpec) -> dict[str, Any]:
    """A report's own content, and under "evaluated" which rows it is of: an id on the Hub, never a path."""
    dataset = hub_id(rows.path)
    about = {
        "dataset": dataset,
        "config": rows.name if dataset else None,
        "split": rows.split,
        "revision": rows.revision if dataset else None,
    }
    return {EVALUATED: about, **report.to_dict()}


def write_report(file: str | os.PathLike, report: EvaluationReport, rows: DatasetSpec) -> None:
    """Write [`report_content`] as JSON."""
    write_whole(file, json.dumps(report_content(report, rows), indent=1, ensure_ascii=False) + "\n")


__all__ = ["report_content", "write_report"]
