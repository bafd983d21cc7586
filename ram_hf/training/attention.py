"""The attention of CLIP that is fastest to train with."""

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator
from transformers import PreTrainedModel


@contextmanager
def attention_for_training(model: PreTrainedModel, accelerator: Accelerator) -> Iterator[None]:
    """Train in a block with the fastest attention; afterwards the model has its own again.

    On a CPU torch's fused attention is slow in bf16, in its gradient most, and so is `sdpa_kernel(SDPBackend.MATH)`,
    which computes in float32: plain matrix products take nearly a quarter off the model's part of a step of
    `ram-photo`. In float32 the fused one is the faster.

    Args:
        model: in training; its `attn_implementation` is another one inside.
        accelerator: of the running processes.
    """
    if accelerator.device.type != "cpu" or accelerator.mixed_precision != "bf16":
        yield
        return
    # Not by `set_attn_implementation`, which in transformers 5.17 does not give towers within towers theirs back.
    configs = [module.config for module in model.modules() if isinstance(module, PreTrainedModel)]
    own = [config._attn_implementation for config in configs]
    for config in configs:
        config._attn_implementation = "eager"
    try:
        yield
    finally:
        for config, implementation in zip(configs, own, strict=True):  # whole models before their parts
            config._attn_implementation = implementation


__all__ = ["attention_for_training"]
