"""How long a run, its warm-up and its schedule are, in optimizer steps."""

import math
from collections.abc import Callable
from typing import NamedTuple

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from .arguments import RamTrainingArguments


class StepCounts(NamedTuple):
    """Lengths in optimizer steps, and the images of one step, over all processes."""

    total: int
    warmup: int
    schedule: int
    images: int


def count_steps(
    arguments: RamTrainingArguments, count_rows: Callable[[], int], accelerator: Accelerator
) -> StepCounts:
    """Turn the lengths of the arguments into steps.

    Args:
        arguments: lengths in steps or in epochs.
        count_rows: rows of an epoch; called on the main process, and only if a length is given in epochs.
        accelerator: of the running processes.

    Raises:
        ValueError: when the run would go on after its schedule has ended.
    """
    images = arguments.per_device_batch_size * arguments.gradient_accumulation_steps * accelerator.num_processes
    rows: list[int] = []

    def in_steps(given_steps: int | None, epochs: float | None) -> int:
        if given_steps is not None:
            return given_steps
        if not epochs:
            return 0
        if not rows:
            # Counting can mean reading the whole stream.
            told = [count_rows() if accelerator.is_main_process else None]
            rows.append(broadcast_object_list(told)[0])
        return math.ceil(epochs * rows[0] / images)

    steps = StepCounts(
        total=in_steps(arguments.max_steps, arguments.num_epochs),
        warmup=in_steps(arguments.warmup_steps, arguments.warmup_epochs),
        schedule=in_steps(arguments.schedule_steps, arguments.schedule_epochs),
        images=images,
    )
    if steps.total > steps.schedule:
        raise ValueError(
            f"The run of {steps.total} steps would go on at a learning rate of zero after the schedule's "
            f"{steps.schedule}. Set `schedule_steps` to at least {steps.total}."
        )
    return steps


__all__ = ["StepCounts", "count_steps"]
