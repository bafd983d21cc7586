"""A report as a file, with what it is of: what the card of a model is made from."""

import json
import os
from collections.abc import Sequence
from typing import Any

from ..atomic import write_whole
from ..data.sources import DatasetSpec
from ..model.eval_results import PROMPT_TEMPLATE, REFINE
from ..model.hub_names import hub_id
from ..model.run_record import EVALUATED
from .report import EvaluationReport


def report_content(
    report: EvaluationReport,
    rows: DatasetSpec,
    *,
    label_template: str | Sequence[str] | None = None,
    refine: int | None = None,
) -> dict[str, Any]:
    """A report's own content, and under "evaluated" which rows it is of: an id on the Hub, never a path.

    Beside them stands what was asked for: sentences around a label, where they were not the processor's own, and how
    many of an image's best labels were judged again.
    """
    dataset = hub_id(rows.path)
    about: dict[str, Any] = {
        "dataset": dataset,
        "config": rows.name if dataset else None,
        "split": rows.split,
        "revision": rows.revision if dataset else None,
    }
    asked: dict[str, Any] = {PROMPT_TEMPLATE: label_template, REFINE: refine}
    about |= {name: value for name, value in asked.items() if value is not None}
    return {EVALUATED: about, **report.to_dict()}


def write_report(file: str | os.PathLike, content: dict[str, Any]) -> None:
    """Write [`report_content`] as JSON."""
    write_whole(file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


__all__ = ["report_content", "write_report"]
