"""Judging a model while it trains, and keeping the best."""

import math
from pathlib import Path

from accelerate import Accelerator
from transformers.utils import logging

from ..data.label_census import refuse_nothing
from ..data.label_set import LabelSet
from ..evaluation.dataset import evaluate_on_dataset, metric_names
from ..evaluation.report import EvaluationReport
from ..evaluation.report_file import report_content, write_report
from .arguments import RamTrainingArguments
from .averaged_model import AveragedModel
from .logbook import Logbook
from .progress import Progress
from .record import run_record
from .rows import evaluation_rows

logger = logging.get_logger(__name__)

REPORT_FILE = "evaluation.json"


class Judge:
    """Judges the averaged model on `eval_split`, and keeps it where it is the best so far.

    Args:
        arguments: what is said about evaluation.
        label_set: seen and unseen labels.

    Raises:
        ValueError: when the labels or the columns do not fit the data, or there is no such `metric_for_best`: before
            the training and not after it.
    """

    def __init__(self, arguments: RamTrainingArguments, label_set: LabelSet):
        self._arguments, self._label_set = arguments, label_set
        self._rows = None if arguments.eval_split is None else evaluation_rows(arguments)
        known = metric_names(label_set, pointing=arguments.boxes_column is not None)
        self._metric = arguments.metric_for_best or known[0]
        if self._metric not in known:
            raise ValueError(f"`metric_for_best` is {self._metric!r}, but there are {', '.join(known)}.")
        if self._rows is not None:
            _, reader = self._rows.open()
            reader.check_labels(label_set.names)
            if (counted := self._rows.counted_before(label_set.names)) is not None:
                refuse_nothing(counted, purpose="judge by")

    def is_due(self, progress: Progress, *, total_steps: int) -> bool:
        """Whether the step that was just done, or gone on from, is still to be judged; the last one always is."""
        due = progress.step % (self._arguments.eval_steps or total_steps) == 0
        return self._rows is not None and due and progress.judged < progress.step < total_steps

    def has_seen_enough(self, progress: Progress) -> bool:
        """Whether the metric has not risen for as many evaluations as early stopping waits."""
        patience = self._arguments.early_stopping_patience
        return patience is not None and progress.num_without_rise >= patience

    def evaluate(
        self, averaged: AveragedModel, progress: Progress, logbook: Logbook, accelerator: Accelerator
    ) -> EvaluationReport | None:
        """Judge the averaged weights, log and show the numbers, and write the model if it is the best so far.

        What was learned has to be saved before: an image that cannot be read ends it.

        Returns:
            What was found; None without `eval_split`.
        """
        if self._rows is None:
            return None
        dataset, reader = self._rows.open()
        with averaged.applied():
            report = evaluate_on_dataset(
                averaged.model,
                averaged.processor,
                dataset,
                reader,
                label_set=self._label_set,
                batch_size=self._arguments.eval_batch_size,
                num_workers=self._arguments.num_workers,
                max_images=self._arguments.max_eval_images,
                skip_broken=self._arguments.skip_broken,
                accelerator=accelerator,
            )
            if self._note(report.metrics(), progress):
                self._write_best(report, averaged, progress, accelerator)
        progress.judged = progress.step
        logbook.write_plain(progress.step, report.metrics())
        logbook.show(f"Step {progress.step}\n{report.to_table()}")
        logbook.restart_clock()
        return report

    def write(self, report: EvaluationReport, folder: Path, accelerator: Accelerator) -> None:
        """Write what was found into the folder of the model that was judged."""
        if self._rows is not None and accelerator.is_main_process:
            write_report(folder / REPORT_FILE, report_content(report, self._rows))

    def _write_best(
        self, report: EvaluationReport, averaged: AveragedModel, progress: Progress, accelerator: Accelerator
    ) -> None:
        best, processes = Path(self._arguments.output_dir) / "best", accelerator.num_processes
        averaged.write(best, run_record(self._arguments, self._label_set, steps=progress.step, processes=processes))
        self.write(report, best, accelerator)

    def _note(self, metrics: dict[str, float], progress: Progress) -> bool:
        """Compare with what was found before; returns whether this is the best."""
        if self._metric not in metrics:
            logger.warning(
                "%s is undefined, as no image holds one of its labels: no best model is kept.", self._metric
            )
            return False
        value, best = metrics[self._metric], -math.inf if progress.best is None else progress.best
        rises = value - best > self._arguments.early_stopping_threshold
        progress.num_without_rise = 0 if rises else progress.num_without_rise + 1
        if self.has_seen_enough(progress):
            logger.warning(
                "Stopping at step %s: in %s evaluations %s has not risen by more than %s over %.4f.",
                *(progress.step, progress.num_without_rise, self._metric),
                *(self._arguments.early_stopping_threshold, max(best, value)),
            )
        if value > best:
            progress.best = value
        return value > best


__all__ = ["REPORT_FILE", "Judge"]
