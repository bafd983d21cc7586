"""An Accelerator of which the configuration alone decides: what the environment holds besides changes no gradient."""

import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, GradientAccumulationPlugin
from transformers.utils import logging

logger = logging.get_logger(__name__)

_SHARDED = (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM)
_ACCUMULATION = "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"


def make_accelerator(
    mixed_precision: str | None, *, gradient_accumulation_steps: int = 1, **options: Any
) -> Accelerator:
    """Make the Accelerator of a training.

    Args:
        mixed_precision: "no", "fp16" or "bf16"; None: what `accelerate launch` says.
        gradient_accumulation_steps: what the training's own loop does, for the message that the environment's number
            is not asked.
        options: others of `Accelerator`.

    Raises:
        ValueError: when Accelerate is configured to shard the model.
    """
    # Accelerate keeps one precision a process: a run after another, in a notebook say, starts from a clean state.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # or several processes without one would each train alone
        mixed_precision=mixed_precision,
        # Or the environment would divide the gradients, and nothing would add them up.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        **options,
    )
    if accelerator.distributed_type in _SHARDED:
        raise ValueError(
            f"Accelerate is configured for {accelerator.distributed_type.value}, but a run keeps the whole model in "
            "each process: what trains is small. Launch it without."
        )
    ambient = os.environ.get(_ACCUMULATION)
    if ambient not in (None, str(gradient_accumulation_steps)) and accelerator.is_main_process:
        logger.warning(
            "%s is %s, but the configuration decides: gradients of %s batch(es) make a step.",
            _ACCUMULATION,
            ambient,
            gradient_accumulation_steps,
        )
    return accelerator


def make_single_accelerator(mixed_precision: str | None) -> Accelerator:
    """Make the Accelerator of a training that one process does.

    Raises:
        ValueError: as [`make_accelerator`], and in several processes, which would each train alone.
    """
    accelerator = make_accelerator(mixed_precision)
    if accelerator.num_processes > 1:
        raise ValueError("A CLIP is trained by one process; start it without `accelerate launch`.")
    return accelerator


__all__ = ["make_accelerator", "make_single_accelerator"]
