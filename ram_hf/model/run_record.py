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
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    seen_labels: Sequence[str] = ()
    unseen_labels: Sequence[str] = ()
    steps: int | None = None
    processes: int = 1
    versions: Mapping[str, str] = field(default_factory=dict)
    results: Sequence[EvalResult] = ()

    @property
    def datasets(self) -> list[str]:
        """Ids of the training data on the Hub."""
        return [name for name in [hub_id(self.arguments.get("dataset"))] if name]


def read_run(source: str | os.PathLike[str] | None, **hub_options: Any) -> RunRecord:
    """Read what is known of the model in a folder or on the Hub: its `training.json`, and every report in a folder.

    Args:
        source: folder, or id on the Hub; None where the model comes from nowhere.
        **hub_options: `revision`, `token`, as `cached_file` takes them.

    Raises:
        ValueError: when `training.json` is damaged.
    """
    if not source:
        return RunRecord()
    folder = Path(source)
    reports = _read_reports(folder) if folder.is_dir() else []
    file = _find(source, hub_options)
    content = {} if file is None else _read_object(file)
    if content is None:
        raise ValueError(f"{str(file)!r} is no JSON object: it is damaged. Get it again, or remove it.")
    known = {name: content[name] for name in RunRecord.__dataclass_fields__ if name in content and name != "results"}
    return RunRecord(**known, results=tuple(result for report in reports for result in results_of_report(report)))


def find_run_file(source: str | os.PathLike[str] | None, **hub_options: Any) -> str | None:
    """Path of the `training.json` of a model, or None."""
    return _find(source, hub_options) if source else None


def _find(source: str | os.PathLike[str], hub_options: Mapping[str, Any]) -> str | None:
    if not os.path.isdir(source) and hub_id(source) is None:
        return None
    return cached_file(
        source,
        RUN_FILE,
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


__all__ = ["EVALUATED", "RUN_FILE", "RunRecord", "find_run_file", "read_run"]
