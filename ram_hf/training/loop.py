"""The training run, from top to bottom: prepare, step, log, evaluate, save."""

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import ProjectConfiguration, broadcast, broadcast_object_list, gather_object, set_seed
from torch import Tensor, nn
from transformers.utils import logging

from ..data.batches import Inputs
from ..data.label_set import LabelSet
from ..data.streams import StreamState
from ..evaluation.dataset import TOP_K, check_labels, evaluate_on_dataset
from ..evaluation.evaluator import evaluation_settings
from ..evaluation.report import EvaluationReport
from ..interruption import stop_signals
from ..model.losses import multi_matching_loss
from ..model.modeling_ram import RamModel
from ..model.processing_ram import RamProcessor
from .arguments import RamTrainingArguments
from .checkpoints import Checkpoint, find_newest, load_checkpoint, save_checkpoint
from .corpus import number_of_rows, open_evaluation, open_training
from .ema import MovingAverage, trained_state
from .gathered_loss import gathered_matching_loss
from .logbook import Logbook
from .optimization import (
    ParameterGroup,
    at_most_halved,
    cosine_with_warmup,
    make_optimizers,
    parameter_groups,
    set_learning_rates,
)
from .start import prepare_model

logger = logging.get_logger(__name__)

_SAME_WHEN_RESUMED = (
    *("model", "dataset", "dataset_name", "data_files", "split", "streaming", "seed", "shuffle_buffer", "augment"),
    "image_size",
)


def train(arguments: RamTrainingArguments) -> EvaluationReport | None:
    """Train a model as the arguments say; `output_dir` ends as a folder that `RamModel.from_pretrained` takes.

    Checkpoints go to `output_dir/checkpoints`, the best model by `metric_for_best` to `output_dir/best`, one line a
    logged step to `output_dir/metrics.jsonl`. A run that was killed goes on from its newest checkpoint, to the same
    weights as if it had never stopped.

    Returns:
        The evaluation at the end, or None without `eval_split`.

    Raises:
        FloatingPointError: when the loss is not finite; the message says which term and at which step.
        KeyboardInterrupt: when interrupted or terminated; a checkpoint is written first.
        OSError: when a checkpoint cannot be written; the one before it stays whole.
        ValueError: when the arguments do not fit the data, the model or the checkpoint to go on from.
    """
    # Prepare.
    accelerator = _make_accelerator(arguments)
    set_seed(arguments.seed)
    place = {"rank": accelerator.process_index, "world_size": accelerator.num_processes}
    label_set = LabelSet.from_options(arguments.seen_labels, arguments.unseen_labels)
    model, processor = prepare_model(arguments)
    loader, dataset = open_training(arguments, label_set, processor, **place)
    label_ids = processor(labels=label_set.seen)["input_ids"].to(accelerator.device)
    _check_evaluation(arguments, label_set)
    steps = _StepCounts(arguments, lambda: number_of_rows(dataset), accelerator)
    schedule = cosine_with_warmup(
        warmup_steps=steps.warmup, total_steps=steps.schedule, warmup_learning_rate=arguments.warmup_learning_rate
    )
    model.to(accelerator.device)
    groups = parameter_groups(model)
    optimizers = make_optimizers(groups, learning_rates=_peak_rates(arguments), weight_decay=arguments.weight_decay)
    run = _Run(arguments, accelerator, model, processor, label_set)
    run.prepare(optimizers)
    step, done_state = run.resume()
    if done_state is not None:
        loader.load_state_dict(done_state)
    _tell_what_trains(groups, steps, accelerator)
    logbook = Logbook(Path(arguments.output_dir), accelerator, first_step=step, total_steps=steps.total)
    pictures = arguments.per_device_batch_size * arguments.gradient_accumulation_steps * accelerator.num_processes

    with run.released_at_the_end(), loader, stop_signals() as stop_asked:
        batches = iter(loader)
        run.wrapped.train()
        while step < steps.total:
            # Step.
            rates = set_learning_rates(run.optimizers, schedule, step)
            terms = torch.zeros(2, device=accelerator.device)
            for index in range(arguments.gradient_accumulation_steps):
                try:
                    inputs, stream_state = next(batches)
                except (ValueError, OSError):  # a picture cannot be read: what was learned so far is kept
                    if step and accelerator.num_processes == 1:
                        run.save(step, done_state)
                    raise
                is_last = index == arguments.gradient_accumulation_steps - 1
                with nullcontext() if is_last else accelerator.no_sync(run.wrapped):
                    part = run.loss_terms(inputs, label_ids) / arguments.gradient_accumulation_steps
                    accelerator.backward(part.sum())
                terms += part.detach()
            global_loss, local_loss, stopped = _agree(accelerator, terms, stop_asked())
            _check_finite({"global loss": global_loss, "local loss": local_loss}, step + 1, run.checkpoints)
            gradient_norm = run.optimizer_step(step + 1)
            step, done_state = step + 1, stream_state

            # Log, evaluate, save.
            loss = global_loss + local_loss
            logbook.advance(pictures=pictures, loss=loss)
            if step % arguments.log_steps == 0 or step == steps.total:
                values = {"loss": loss, "loss/global": global_loss, "loss/local": local_loss}
                values["gradient_norm"] = gradient_norm
                for name, temperature in run.model.temperatures.named_parameters():
                    values[name] = temperature.item()
                logbook.write(step, {**values, **{f"learning_rate/{name}": rate for name, rate in rates.items()}})
            if arguments.eval_steps and step % arguments.eval_steps == 0 and step < steps.total:
                run.evaluate(step, logbook)
                logbook.restart_clock()
            if stopped or step % arguments.save_steps == 0 or step == steps.total:
                run.save(step, done_state)
            if stopped and step < steps.total:
                raise KeyboardInterrupt(f"stopped at step {step}; run the same command again to go on")

        run.save_model(Path(arguments.output_dir))
        report = run.evaluate(step, logbook) if arguments.eval_split else None
        logbook.close()
    return report


class _Run:
    """What the steps of a run share: model, average, optimizers, and where they are kept."""

    def __init__(
        self,
        arguments: RamTrainingArguments,
        accelerator: Accelerator,
        model: RamModel,
        processor: RamProcessor,
        label_set: LabelSet,
    ):
        self.arguments, self.accelerator = arguments, accelerator
        self.model, self.processor, self.label_set = model, processor, label_set
        self.output_dir = Path(arguments.output_dir)
        self.checkpoints = self.output_dir / "checkpoints"
        self.average = MovingAverage(model, arguments.ema_decay) if arguments.ema_decay else None
        self.best: float | None = None

    def prepare(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """Let Accelerate wrap the model. Batch norm is synchronised where torch can, which is on CUDA.

        The optimizers stay as they are: each one that Accelerate wraps moves the gradient scaler of fp16 on, which two
        of them in a step would do twice.
        """
        model: nn.Module = self.model
        if self.accelerator.num_processes > 1 and self.accelerator.device.type == "cuda":
            # Replaces the batch norms inside `model.ladder`, in place.
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.wrapped = self.accelerator.prepare(model)
        self.optimizers = optimizers

    @contextmanager
    def released_at_the_end(self) -> Iterator[None]:
        """Let go of the model that Accelerate wrapped, then of the process group.

        In this order: a group whose last owner is a wrapped model waits for its threads with Python's lock in hand,
        and they may be waiting for that.
        """
        try:
            yield
        finally:
            del self.wrapped
            self.accelerator.free_memory()
            self.accelerator.end_training()

    def loss_terms(self, inputs: Inputs, label_ids: Tensor) -> Tensor:
        """Loss of the global and of the local logits, shape (2,)."""
        device = self.accelerator.device
        pixel_values = inputs["pixel_values"].to(device, non_blocking=True)
        labels = inputs["labels"].to(device, non_blocking=True)
        output = self.wrapped(pixel_values, input_ids=label_ids, labels=labels)
        gather = self.arguments.gather_loss and self.accelerator.num_processes > 1
        loss = gathered_matching_loss if gather else multi_matching_loss
        return torch.stack([loss(output.global_logits, labels), loss(output.local_logits, labels)])

    def optimizer_step(self, step: int) -> float:
        """Clip, step and average; returns the norm of the gradient.

        Raises:
            FloatingPointError: when the gradient is not finite, before it reaches the weights. (In fp16 the scaler
                meets such gradients all the time, and skips them.)
        """
        scaler = self.accelerator.scaler
        if scaler is not None:
            for optimizer in self.optimizers:
                scaler.unscale_(optimizer)
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        norm = nn.utils.clip_grad_norm_(parameters, self.arguments.max_grad_norm or math.inf).item()
        if scaler is None:
            _check_finite({"norm of the gradient": norm}, step, self.checkpoints)
        with at_most_halved(self.model.temperatures.parameters()):
            for optimizer in self.optimizers:
                optimizer.step() if scaler is None else scaler.step(optimizer)
                optimizer.zero_grad()
        if scaler is not None:
            scaler.update()
        if self.average is not None:
            self.average.update(self.model)
        return norm

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model that is judged and kept: averaged weights, float32, and on every process those of the first.

        Without a synchronised batch norm each process has statistics of its own.
        """
        forward = self.model.__dict__.pop("forward", None)  # Accelerate's, which casts to the precision of training
        try:
            with nullcontext() if self.average is None else self.average.applied(self.model):
                for value in trained_state(self.model).values():
                    broadcast(value)
                yield
        finally:
            if forward is not None:
                self.model.forward = forward

    # --- evaluation ----------------------------------------------------------------------------------------------

    def evaluate(self, step: int, logbook: Logbook) -> EvaluationReport:
        """Judge the averaged weights, log and show the numbers, and keep the model if it is the best so far."""
        dataset, reader = open_evaluation(self.arguments)
        with self.averaged():
            report = evaluate_on_dataset(
                self.model,
                self.processor,
                dataset,
                reader,
                label_set=self.label_set,
                batch_size=self.arguments.eval_batch_size,
                num_workers=self.arguments.num_workers,
                max_images=self.arguments.max_eval_images,
                accelerator=self.accelerator,
            )
            metrics = report.metrics()
            logbook.write_plain(step, metrics)
            logbook.show(f"Step {step}\n{report.to_table()}")
            self._keep_if_best(metrics)
        return report

    def _keep_if_best(self, metrics: dict[str, float]) -> None:
        name = self.arguments.metric_for_best or _metric_names(self.arguments, self.label_set)[0]
        if name not in metrics:
            logger.warning("%s is undefined, as no picture holds one of its labels: no best model is kept.", name)
            return
        if self.best is None or metrics[name] > self.best:
            self.best = metrics[name]
            self._write_model(self.output_dir / "best")

    # --- checkpoints ---------------------------------------------------------------------------------------------

    def save(self, step: int, stream_state: StreamState | None) -> None:
        """Write a checkpoint; each process adds its place in the stream and its random states."""
        process = {"stream": stream_state, "random": torch.get_rng_state()}
        if torch.cuda.is_available():
            process["random_cuda"] = torch.cuda.get_rng_state(self.accelerator.device)
        processes = gather_object([process])
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            checkpoint = Checkpoint(
                step=step,
                weights=trained_state(self.model),
                average={} if self.average is None else self.average.average,
                optimizers=[optimizer.state_dict() for optimizer in self.optimizers]
                + ([] if scaler is None else [scaler.state_dict()]),
                processes=processes,
                facts={
                    "experiment": self._experiment(),
                    "average_updates": 0 if self.average is None else self.average.num_updates,
                    "best": self.best,
                },
            )
            save_checkpoint(self.checkpoints, checkpoint, keep=self.arguments.keep_checkpoints)
        self.accelerator.wait_for_everyone()

    def resume(self) -> tuple[int, StreamState | None]:
        """Go on from the newest checkpoint, if there is one and the arguments want it.

        Returns:
            Steps that are done, and this process's place in the stream, None at the start.
        """
        if not self.arguments.resume:
            self._move_aside()
        newest = find_newest(self.checkpoints)
        if newest is None:
            return 0, None
        checkpoint = load_checkpoint(newest)
        self._check_fits(checkpoint, newest)
        self.model.load_state_dict(checkpoint.weights, strict=False)
        if self.average is not None:
            self.average.num_updates = checkpoint.facts["average_updates"]
            for name, value in checkpoint.average.items():
                self.average.average[name].copy_(value)
        states = list(checkpoint.optimizers)
        for optimizer in self.optimizers:
            # Rates and decay are this run's own: lowering them is what one does after a divergence.
            own = [
                {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
            ]
            optimizer.load_state_dict(states.pop(0))
            for group, values in zip(optimizer.param_groups, own, strict=True):
                group.update(values)
        if self.accelerator.scaler is not None and states:
            self.accelerator.scaler.load_state_dict(states.pop(0))
        process = checkpoint.processes[self.accelerator.process_index]
        torch.set_rng_state(process["random"])
        if "random_cuda" in process and torch.cuda.is_available():
            torch.cuda.set_rng_state(process["random_cuda"], self.accelerator.device)
        self.best = checkpoint.facts["best"]
        logger.warning("Going on from %s.", newest)
        return checkpoint.step, process["stream"]

    def _check_fits(self, checkpoint: Checkpoint, path: Path) -> None:
        told = f"Checkpoint {path} does not fit this run: it "
        ending = " Restore that, or give another `output_dir`, or set `resume` to false."
        for name, ours in self._experiment().items():
            theirs = checkpoint.facts["experiment"].get(name)
            if theirs != ours:
                raise ValueError(f"{told}was trained with `{name}` {theirs!r}, not {ours!r}.{ending}")
        if len(checkpoint.processes) != self.accelerator.num_processes:
            raise ValueError(
                f"{told}was written by {len(checkpoint.processes)} processes, not {self.accelerator.num_processes}, "
                f"which would deal the pictures out anew.{ending}"
            )
        ours = {name: value.shape for name, value in trained_state(self.model).items()}
        if ours != {name: value.shape for name, value in checkpoint.weights.items()}:
            raise ValueError(f"{told}holds other weights than this configuration asks for.{ending}")
        if bool(checkpoint.average) != (self.average is not None):
            raise ValueError(f"{told}was trained with{'' if checkpoint.average else 'out'} `ema_decay`.{ending}")

    def _experiment(self) -> dict[str, Any]:
        """What a run cannot change and still be the same one."""
        return {name: getattr(self.arguments, name) for name in _SAME_WHEN_RESUMED} | {
            "seen_labels": list(self.label_set.seen)
        }

    def _move_aside(self) -> None:
        """Make room for a new run in a folder that holds another: nothing of that is lost."""
        if self.accelerator.is_main_process and self.checkpoints.is_dir():
            number = 1 + len(list(self.output_dir.glob("previous-*")))
            previous = self.output_dir / f"previous-{number}"
            previous.mkdir()
            for path in (self.checkpoints, self.output_dir / "best", self.output_dir / "metrics.jsonl"):
                if path.exists():
                    path.rename(previous / path.name)
            logger.warning("The run that was in %s is now in %s.", self.output_dir, previous)
        self.accelerator.wait_for_everyone()

    def save_model(self, folder: Path) -> None:
        """Write the averaged model and its processor, ready for `from_pretrained`."""
        with self.averaged():
            self._write_model(folder)

    def _write_model(self, folder: Path) -> None:
        if self.accelerator.is_main_process:
            # Beside it first, then file by file into place: a full disk leaves what was there.
            partial = self.output_dir / "partial-model"
            shutil.rmtree(partial, ignore_errors=True)
            self.model.save_pretrained(partial)
            self.processor.save_pretrained(partial)
            folder.mkdir(parents=True, exist_ok=True)
            for file in partial.iterdir():
                file.replace(folder / file.name)
            partial.rmdir()
        self.accelerator.wait_for_everyone()


class _StepCounts:
    """Lengths in optimizer steps; the rows are counted only if a length is given in epochs."""

    def __init__(self, arguments: RamTrainingArguments, count: Callable[[], int], accelerator: Accelerator):
        num_processes, is_main = accelerator.num_processes, accelerator.is_main_process
        rows_per_step = arguments.per_device_batch_size * arguments.gradient_accumulation_steps * num_processes
        rows: list[int] = []

        def in_steps(given_steps: int | None, epochs: float | None) -> int:
            if given_steps is not None:
                return given_steps
            if not epochs:
                return 0
            if not rows:
                told = [count() if is_main else None]  # counting can mean reading the whole stream
                rows.append(broadcast_object_list(told)[0])
            return math.ceil(epochs * rows[0] / rows_per_step)

        self.total = in_steps(arguments.max_steps, arguments.num_epochs)
        self.warmup = in_steps(arguments.warmup_steps, arguments.warmup_epochs)
        self.schedule = in_steps(arguments.schedule_steps, arguments.schedule_epochs)
        if self.total > self.schedule:
            raise ValueError(
                f"The run of {self.total} steps would go on at a learning rate of zero after the schedule's "
                f"{self.schedule}. Set `schedule_steps` to at least {self.total}."
            )


def _make_accelerator(arguments: RamTrainingArguments) -> Accelerator:
    log_with = None if arguments.report_to == "none" else arguments.report_to
    # Accelerate keeps one precision a process: a run after another, in a notebook say, starts from a clean state.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # or several processes without one would each train alone
        mixed_precision=arguments.mixed_precision,
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


def _peak_rates(arguments: RamTrainingArguments) -> dict[str, float]:
    return {
        "adapters": arguments.adapter_learning_rate,
        "temperatures": arguments.temperature_learning_rate,
        "tokens": arguments.token_learning_rate,
    }


def _tell_what_trains(groups: list[ParameterGroup], steps: _StepCounts, accelerator: Accelerator) -> None:
    if accelerator.is_main_process:
        sizes = ", ".join(f"{group.name} {sum(p.numel() for p in group.parameters.values()):,}" for group in groups)
        logger.warning(
            "Training %s steps on %s process(es). Parameters: %s.", steps.total, accelerator.num_processes, sizes
        )


def _agree(accelerator: Accelerator, terms: Tensor, stop_asked: bool) -> tuple[float, float, bool]:
    """One exchange a step: the mean of both losses over the processes, and whether any process was told to stop."""
    told = torch.cat([terms, terms.new_tensor([float(stop_asked)])])
    global_loss, local_loss, stops = accelerator.reduce(told, reduction="mean").tolist()
    return global_loss, local_loss, stops > 0


def _check_finite(numbers: dict[str, float], step: int, checkpoints: Path) -> None:
    """Stop before what is not finite reaches the weights. All processes know the same numbers here."""
    broken = [f"the {name} is {value}" for name, value in numbers.items() if not math.isfinite(value)]
    if broken:
        newest = find_newest(checkpoints)
        left = f"The last checkpoint is {newest}" if newest else "There is no checkpoint yet"
        raise FloatingPointError(
            f"At step {step} {' and '.join(broken)}. {left}; go on with lower learning rates or `max_grad_norm`, and "
            "if it diverges again at once, remove that checkpoint to go on from the one before."
        )


def _check_evaluation(arguments: RamTrainingArguments, label_set: LabelSet) -> None:
    """Find before training what would stop the evaluation after it."""
    if arguments.eval_split is None:
        return
    _, reader = open_evaluation(arguments)
    check_labels(label_set.names, reader)
    known = _metric_names(arguments, label_set)
    if arguments.metric_for_best not in (None, *known):
        raise ValueError(f"`metric_for_best` is {arguments.metric_for_best!r}, but there are {', '.join(known)}.")


def _metric_names(arguments: RamTrainingArguments, label_set: LabelSet) -> list[str]:
    settings = evaluation_settings(len(label_set), unseen=range(len(label_set.seen), len(label_set)))
    pointing = ("pointing/transport_plan", "pointing/similarity") if arguments.boxes_column else ()
    return [
        f"{setting}/{name}"
        for setting, labels in settings.items()
        for name in (
            "mAP",
            *(f"{metric}@{k}" for k in TOP_K if k <= len(labels) for metric in ("OP", "OR", "OF1", "CP", "CR", "CF1")),
            *pointing,
        )
    ]


__all__ = ["train"]
