"""What a training run and evaluations left in a folder, for its card: facts that can be shown to anybody."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult
from transformers.utils import cached_file

from .eval_results import results_of_report
from .hub_names import hub_id

RUN_FILE = "training.json"  # travels with the model, so that a card can be made again from any copy
CALIBRATION_FILE = "calibration.json"  # of `ram-hf calibrate`, travels too
CALIBRATION_DIAGRAM = "calibration.png"
CALIBRATED = "calibrated"  # the key by which it is known
EVALUATED = "evaluated"  # the key by which a file is known as a report of `ram-hf evaluate`


@dataclass(frozen=True)
class RunRecord:
    """What is known of how a model came to be; empty where nobody wrote it down.

    Attributes:
        arguments: of the training, without what belongs to one machine: hyperparameters, ids on the Hub.
        seen_labels: labels of the training.
        unseen_labels: labels that only evaluation used.
        steps: optimizer steps that were done.
        processes: that trained together.
        versions: of the libraries, by name.
        results: what evaluations found.
        calibration: what `ram-hf calibrate` found.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    seen_labels: Sequence[str] = ()
    unseen_labels: Sequence[str] = ()
    steps: int | None = None
    processes: int = 1
    versions: Mapping[str, str] = field(default_factory=dict)
    results: Sequence[EvalResult] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict)

    @property
    def datasets(self) -> list[str]:
        """Ids of the training data on the Hub."""
        return [name for name in [hub_id(self.arguments.get("dataset"))] if name]


def read_run(source: str | os.PathLike[str] | None, **hub_options: Any) -> RunRecord:
    """Read what is known of a model: its `training.json` and `calibration.json`, and in a folder every report.

    Args:
        source: folder, or id on the Hub; None where the model comes from nowhere.
        **hub_options: `revision`, `token`, as `cached_file` takes them.

    Raises:
        ValueError: when one of the two is damaged.
    """
    if not source:
        return RunRecord()
    folder = Path(source)
    reports = _read_reports(folder) if folder.is_dir() else []
    content, calibration = (_read_found(_find(source, hub_options, name)) for name in (RUN_FILE, CALIBRATION_FILE))
    fields = RunRecord.__dataclass_fields__.keys() - {"results", "calibration"}
    return RunRecord(
        **{name: content[name] for name in fields if name in content},
        results=tuple(result for report in reports for result in results_of_report(report)),
        calibration=calibration,
    )


def find_run_file(source: str | os.PathLike[str] | None, name: str = RUN_FILE, **hub_options: Any) -> str | None:
    """Path of the `training.json` of a model, or of another file of its record, or None."""
    return _find(source, hub_options, name) if source else None


def _read_found(file: str | None) -> dict[str, Any]:
    content = {} if file is None else _read_object(file)
    if content is None:
        raise ValueError(f"{str(file)!r} is no JSON object: it is damaged. Get it again, or remove it.")
    return content


def _find(source: str | os.PathLike[str], hub_options: Mapping[str, Any], name: str) -> str | None:
    if not os.path.isdir(source) and hub_id(source) is None:
        return None
    return cached_file(
        source,
        name,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **hub_options,
    )


def _read_reports(folder: Path) -> list[dict[str, Any]]:
    """Reports in the order of their names; a later one on the same rows takes the place of an earlier one."""
    contents = (_read_object(file) for file in sorted(folder.glob("*.json")))
    return [content for content in contents if content is not None and isinstance(content.get(EVALUATED), dict)]


def _read_object(file: str | os.PathLike[str]) -> dict[str, Any] | None:
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


__all__ = [
    "CALIBRATED",
    "CALIBRATION_DIAGRAM",
    "CALIBRATION_FILE",
    "EVALUATED",
    "RUN_FILE",
    "RunRecord",
    "find_run_file",
    "read_run",
]
