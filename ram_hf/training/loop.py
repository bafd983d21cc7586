"""The training run, from top to bottom: prepare, step, log, save, evaluate."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, set_seed
from transformers.utils import logging

from ..atomic import lock, remove_left_over
from ..data.label_set import LabelSet
from ..evaluation.report import EvaluationReport
from ..interruption import stop_signals
from ..model.modeling_ram import RamModel
from .accelerators import make_accelerator
from .arguments import RamTrainingArguments
from .averaged_model import AveragedModel
from .checkpointer import Checkpointer, move_aside
from .ema import MovingAverage, TrainedWeights
from .judge import Judge
from .label_check import LabelCheck
from .label_weights import make_label_weights
from .learner import Learner
from .logbook import Logbook
from .optimization import Optimizers, cosine_with_warmup, make_optimizers, parameter_groups
from .prepared_model import prepare_model
from .progress import ProcessState, Progress
from .readings import Readings
from .record import run_record
from .rows import count_labels, number_of_rows, open_training
from .step_counts import count_steps

logger = logging.get_logger(__name__)

_FEW_STEPS = 50
_SAME_WHEN_RESUMED = (
    *("model", "dataset", "dataset_name", "data_files", "split", "streaming", "seed", "shuffle_buffer", "augment"),
    *("image_size", "label_weights"),
)


def train(arguments: RamTrainingArguments) -> EvaluationReport | None:
    """Train a model as the arguments say; `output_dir` ends as a folder that `RamModel.from_pretrained` takes.

    Checkpoints go to `output_dir/checkpoints`, the best model by `metric_for_best` to `output_dir/best`, one line a
    logged step to `output_dir/metrics.jsonl`; `training.json` and `evaluation.json` beside a model are for its card.
    A run that was killed goes on from its newest checkpoint, to the same weights as if it had never stopped.

    Returns:
        The evaluation at the end, or None without `eval_split`.

    Raises:
        BlockingIOError: when another run writes into `output_dir`.
        FloatingPointError: when the loss or the gradient was not finite; the message says which and at which step.
            It comes when the step is logged, judged or saved, whichever is first, so that no such weights are kept.
        KeyboardInterrupt: when interrupted or terminated; a checkpoint is written first.
        OSError: when a checkpoint cannot be written; the one before it stays whole.
        ValueError: when the arguments do not fit the data, the model or the checkpoint to go on from; or, after an
            epoch at most, when not one image has a seen label.
    """
    accelerator, output_dir = _make_accelerator(arguments), Path(arguments.output_dir)
    with _alone_in(output_dir) if accelerator.is_main_process else nullcontext():
        return _train(arguments, accelerator, output_dir)


@contextmanager
def _alone_in(output_dir: Path) -> Iterator[None]:
    """Keep other runs from a folder for a block; what killed runs left in it, and in that of the best, is removed."""
    with lock(output_dir / ".training.lock"):
        for folder in (output_dir, output_dir / "best"):
            remove_left_over(folder)
        yield


def _train(arguments: RamTrainingArguments, accelerator: Accelerator, output_dir: Path) -> EvaluationReport | None:
    # Prepare.
    set_seed(arguments.seed)
    label_set = LabelSet.from_options(arguments.seen_labels, arguments.unseen_labels)
    model, processor = prepare_model(arguments)
    rows = open_training(
        arguments, label_set, processor, rank=accelerator.process_index, world_size=accelerator.num_processes
    )
    judge = Judge(arguments, label_set)
    steps = count_steps(arguments, lambda: number_of_rows(rows.dataset), accelerator)
    weights, tally = make_label_weights(
        arguments.label_weights,
        label_set,
        rows.counted,
        lambda: count_labels(rows, label_set),
        accelerator,
    )
    schedule = cosine_with_warmup(
        warmup_steps=steps.warmup, total_steps=steps.schedule, warmup_learning_rate=arguments.warmup_learning_rate
    )
    model.to(accelerator.device)
    optimizers = _make_optimizers(arguments, model, accelerator)
    average = MovingAverage(TrainedWeights(model), arguments.ema_decay)
    averaged = AveragedModel(model, processor, average, accelerator, label_names=label_set.seen)
    label_ids = processor(labels=label_set.seen)["input_ids"]
    learner = Learner(
        model, label_ids, label_weights=weights, gather_loss=arguments.gather_loss, accelerator=accelerator
    )
    progress, process = Progress(_experiment(arguments, label_set)), ProcessState(rows.loader, accelerator)
    checkpointer = Checkpointer(
        output_dir / "checkpoints",
        {
            "facts": progress,
            "processes": process,
            "weights": TrainedWeights(model),
            "average": average,
            "optimizers": optimizers,
        },
        keep=arguments.keep_checkpoints,
        accelerator=accelerator,
    )
    if not arguments.resume:
        move_aside(output_dir, accelerator)
    checkpointer.resume()
    labels = LabelCheck(rows.census, tally, is_new=progress.step == 0, accelerator=accelerator)
    readings = Readings(accelerator, model.temperatures, output_dir / "checkpoints")
    logbook = Logbook(
        output_dir,
        accelerator,
        first_step=progress.step,
        total_steps=steps.total,
        judges_again=judge.is_due(progress, total_steps=steps.total) or judge.has_seen_enough(progress),
    )
    if accelerator.is_main_process:
        logger.warning("Training %s steps on %s process(es).", steps.total, accelerator.num_processes)
        if steps.total < _FEW_STEPS:
            logger.warning(
                "So few steps change next to nothing at the published learning rates: raise `num_epochs` or "
                "`max_steps`, and for a small folder see examples/small.yaml of the package's repository."
            )

    # The bar closes before an error is told, or it would be painted over it.
    with learner.released_at_the_end(), rows.loader, closing(logbook), stop_signals() as stop_asked:
        if judge.is_due(progress, total_steps=steps.total):  # it could not be done when the step was
            judge.evaluate(averaged, progress, logbook, accelerator)
            checkpointer.save()
        batches, report = iter(rows.loader), None
        while progress.step < steps.total and not judge.has_seen_enough(progress):
            # Step.
            rates = optimizers.set_learning_rates(schedule, progress.step)
            try:
                losses, stream = learner.add_gradients(batches, arguments.gradient_accumulation_steps)
            except (ValueError, OSError):  # an image cannot be read: what was learned so far is kept
                if progress.step and accelerator.num_processes == 1:
                    readings.read()
                    checkpointer.save()
                raise
            norm = optimizers.step()
            average.update(progress.step)
            progress.step, process.stream = progress.step + 1, stream
            readings.note(progress.step, losses, norm)
            logbook.advance(steps.images)

            # Log, save, evaluate.
            stopped, is_last = _any_stops(accelerator, stop_asked()), progress.step == steps.total
            logs = is_last or progress.step % arguments.log_steps == 0
            saves = is_last or stopped or progress.step % arguments.save_steps == 0
            evaluates = judge.is_due(progress, total_steps=steps.total)
            if logs or evaluates or saves:
                values = readings.read()
                labels.look(is_last=is_last)
            if logs:
                logbook.write(progress.step, {**values, **{f"learning_rate/{name}": rates[name] for name in rates}})
            if evaluates or saves:
                checkpointer.save()
            if evaluates:
                report = judge.evaluate(averaged, progress, logbook, accelerator)
                checkpointer.save()  # with what was found
            if stopped and not is_last:
                raise KeyboardInterrupt(f"stopped at step {progress.step}; run the same command again to go on")

        with averaged.applied():
            processes = accelerator.num_processes
            averaged.write(output_dir, run_record(arguments, label_set, steps=progress.step, processes=processes))
        if report is None or progress.judged < progress.step:
            report = judge.evaluate(averaged, progress, logbook, accelerator)
        if report is not None:
            judge.write(report, output_dir, accelerator)
    return report


def _make_accelerator(arguments: RamTrainingArguments) -> Accelerator:
    log_with = None if arguments.report_to == "none" else arguments.report_to
    accelerator = make_accelerator(
        arguments.mixed_precision,
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        log_with=log_with,
        project_config=ProjectConfiguration(
            project_dir=arguments.output_dir, logging_dir=f"{arguments.output_dir}/logs"
        ),
    )
    if accelerator.is_main_process:
        Path(arguments.output_dir).mkdir(parents=True, exist_ok=True)
    accelerator.wait_for_everyone()
    if log_with is not None:
        accelerator.init_trackers("ram_hf")
    return accelerator


def _experiment(arguments: RamTrainingArguments, label_set: LabelSet) -> dict[str, Any]:
    """What a run cannot change and still be the same one."""
    return {name: getattr(arguments, name) for name in _SAME_WHEN_RESUMED} | {"seen_labels": list(label_set.seen)}


def _make_optimizers(arguments: RamTrainingArguments, model: RamModel, accelerator: Accelerator) -> Optimizers:
    groups = parameter_groups(model)
    if accelerator.is_main_process:
        sizes = ", ".join(f"{group.name} {sum(p.numel() for p in group.parameters.values()):,}" for group in groups)
        logger.warning("What trains, in parameters: %s.", sizes)
    rates = {
        "adapters": arguments.adapter_learning_rate,
        "temperatures": arguments.temperature_learning_rate,
        "tokens": arguments.token_learning_rate,
    }
    return Optimizers(
        model,
        make_optimizers(groups, learning_rates=rates, weight_decay=arguments.weight_decay),
        max_grad_norm=arguments.max_grad_norm,
        scaler=accelerator.scaler,
    )


def _any_stops(accelerator: Accelerator, stop_asked: bool) -> bool:
    """Whether any process was told to stop; several ask each other, which makes each step wait for the device."""
    if accelerator.num_processes == 1:
        return stop_asked
    stops = torch.tensor([float(stop_asked)], device=accelerator.device)
    return accelerator.reduce(stops, reduction="sum").item() > 0


__all__ = ["train"]
