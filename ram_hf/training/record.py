"""What a run tells of itself in the folder of its model: for the card, so nothing that belongs to this machine."""

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..data.label_set import LabelSet
from ..model.bundled import find_bundled
from ..model.hub_names import hub_id
from .arguments import RamTrainingArguments

_NAMES = ("model", "dataset", "eval_dataset")  # of the Hub, or paths
# How one machine ran it, and what stands elsewhere in the record.
_LEFT_OUT = frozenset(
    [
        *("output_dir", "seen_labels", "unseen_labels", "num_workers", "resume", "report_to"),
        *("save_steps", "keep_checkpoints", "log_steps", "eval_batch_size", "streaming"),
    ]
)
_LIBRARIES = ("ram_hf", "torch", "transformers", "accelerate")


def run_record(arguments: RamTrainingArguments, label_set: LabelSet, *, steps: int, processes: int) -> dict[str, Any]:
    """What `training.json` holds; see `RunRecord`, which reads it.

    Args:
        arguments: of the run.
        label_set: seen and unseen labels.
        steps: optimizer steps that were done.
        processes: that train together.
    """
    return {
        "arguments": _shareable(asdict(arguments)),
        "seen_labels": list(label_set.seen),
        "unseen_labels": list(label_set.unseen),
        "steps": steps,
        "processes": processes,
        "versions": {name: found for name in _LIBRARIES if (found := _version(name))},
    }


def _shareable(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that mean something to others: set, and no path of this machine."""
    kept = {name: value for name, value in arguments.items() if name not in _LEFT_OUT and value not in (None, {}, [])}
    for name in _NAMES:
        if not _is_known_elsewhere(kept.get(name)):
            kept.pop(name, None)
    if "dataset" not in kept:  # then these are of a folder here
        for name in ("data_files", "dataset_name", "dataset_revision"):
            kept.pop(name, None)
    return kept


def _is_known_elsewhere(name: str | None) -> bool:
    return hub_id(name) is not None or (name is not None and find_bundled(name) != name)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


__all__ = ["run_record"]
