"""Reports of `ram-hf evaluate` as results of a model card (`model-index`), and such results as tables."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult

TASK_TYPE = "zero-shot-image-classification"
_TASK_NAME = "Open-vocabulary multi-label recognition"  # by which results of ours are known
_PREFIXES = {"zsl": "ZSL ", "gzsl": "GZSL ", "plain": ""}
_COLUMNS = {"ZSL ": "unseen labels (ZSL)", "GZSL ": "seen + unseen labels (GZSL)", "": "all labels"}
_MEANS = {"O": "overall", "C": "per label"}
_KINDS = {"P": "precision", "R": "recall", "F1": "f1"}
_TOP_K = re.compile(r"([OC])(P|R|F1)@(\d+)")
# What may have been asked for, in "evaluated" of a report and in the arguments of a metric.
PROMPT_TEMPLATE, REFINE = "prompt_template", "refine"
_DIGITS = 4
_NAMELESS = "a data set that is not on the Hub"


def results_of_report(report: Mapping[str, Any]) -> list[EvalResult]:
    """Results of a card from what `ram-hf evaluate --json` wrote.

    Args:
        report: settings (`zsl`, `gzsl`, `plain`) with their metrics, as fractions, and under "evaluated" what they
            are of: `dataset` (id on the Hub, or None), `config`, `split`, `revision`; and `prompt_template` and
            `refine` where they were asked for.

    Returns:
        One result a metric, named as in the report; empty where nothing could be measured.
    """
    about = report["evaluated"]
    asked = {name: about[name] for name in (PROMPT_TEMPLATE, REFINE) if name in about}
    results = []
    for setting, prefix in _PREFIXES.items():
        for name, value in _metrics(report.get(setting) or {}).items():
            kind, arguments = _kind_of(name)
            results.append(
                EvalResult(
                    task_type=TASK_TYPE,
                    task_name=_TASK_NAME,
                    dataset_type=about.get("dataset") or _fingerprint(report),
                    dataset_name=about.get("dataset") or _NAMELESS,
                    dataset_config=about.get("config"),
                    dataset_split=about.get("split"),
                    dataset_revision=about.get("revision"),
                    dataset_args={"images": report[setting]["num_images"]},
                    metric_type=kind,
                    metric_name=f"{prefix}{name}",
                    metric_value=round(value, _DIGITS),
                    metric_args={**arguments, "num_labels": len(report[setting]["labels"]), **asked},
                )
            )
    return results


def merged_results(old: Iterable[EvalResult], new: Iterable[EvalResult]) -> list[EvalResult]:
    """Old and new results; of two on the same metric and rows the new one."""
    return list({(result.unique_identifier, result.metric_name): result for result in [*old, *new]}.values())


def results_tables(results: Sequence[EvalResult]) -> str:
    """Markdown: for each data set a table in percent, a line for each metric, a column for each setting.

    Results of which other things were asked, of the same data set, stand in a table of their own.
    """
    by_dataset: dict[tuple, list[EvalResult]] = {}
    for result in results:
        if result.task_name == _TASK_NAME:
            by_dataset.setdefault((result.unique_identifier, *_asked(result.metric_args or {})), []).append(result)
    return "\n\n".join(_table(group) for group in by_dataset.values())


def _metrics(setting: Mapping[str, Any]) -> dict[str, float]:
    named = {"mAP": setting.get("mAP"), **{name: value for name, value in setting.items() if _TOP_K.fullmatch(name)}}
    named.update({f"pointing, {name}": game["accuracy"] for name, game in (setting.get("pointing") or {}).items()})
    return {name: value for name, value in named.items() if value is not None}


def _kind_of(name: str) -> tuple[str, dict[str, Any]]:
    if match := _TOP_K.fullmatch(name):
        mean, kind, k = match.groups()
        return _KINDS[kind], {"top_k": int(k), "mean": _MEANS[mean]}
    return ("mean_average_precision", {}) if name == "mAP" else ("pointing_game_accuracy", {})


def _fingerprint(report: Mapping[str, Any]) -> str:
    """A type for rows without a name: the same for the same rows, so that a new result takes an old one's place."""
    counts = {
        setting: [[label["name"], label["num_positives"]] for label in report[setting]["labels"]]
        for setting in _PREFIXES
        if setting in report
    }
    return f"unpublished-{hashlib.sha256(json.dumps(counts).encode()).hexdigest()[:8]}"


def _table(results: Sequence[EvalResult]) -> str:
    first = results[0]
    values: dict[str, dict[str, Any]] = {}
    sizes: dict[str, int] = {}
    for result in results:
        prefix = next(each for each in _COLUMNS if (result.metric_name or "").startswith(each))
        values.setdefault((result.metric_name or "").removeprefix(prefix), {})[prefix] = result.metric_value
        sizes[prefix] = (result.metric_args or {}).get("num_labels", 0)
    parts = [first.dataset_config, first.dataset_split and f"split `{first.dataset_split}`"]
    parts += [first.dataset_revision and f"at `{first.dataset_revision}`"]
    parts += [f"{(first.dataset_args or {}).get('images', 0):,} images"]
    parts += _asked(first.metric_args or {})
    name = first.dataset_name if first.dataset_name == _NAMELESS else f"[{first.dataset_name}]({_url(first)})"
    head = [f"{_COLUMNS[prefix]}, {size:,}" for prefix, size in sizes.items()]
    lines = [f"In percent, on {name}: {', '.join(part for part in parts if part)}.", ""]
    lines += [f"| | {' | '.join(head)} |", f"| --- |{' ---: |' * len(head)}"]
    for metric, row in values.items():
        cells = (f"{100 * row[prefix]:.1f}" if prefix in row else "-" for prefix in sizes)
        lines.append(f"| {metric} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _asked(arguments: Mapping[str, Any]) -> list[str]:
    """What differs from how the model is used where nothing is said, in words."""
    words = []
    if template := arguments.get(PROMPT_TEMPLATE):
        sentences = [template] if isinstance(template, str) else template
        words.append(f"labels in {' and '.join(f'`{each}`' for each in sentences)}")
    if refine := arguments.get(REFINE):
        words.append(f"`--refine {refine}`")
    return words


def _url(result: EvalResult) -> str:
    return f"https://huggingface.co/datasets/{result.dataset_type}"


__all__ = ["PROMPT_TEMPLATE", "REFINE", "TASK_TYPE", "merged_results", "results_of_report", "results_tables"]
