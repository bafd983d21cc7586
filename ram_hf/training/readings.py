"""Losses and gradients of the steps of a run, read from the device once for all steps since the last time."""

import math
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .checkpoints import find_newest

_NAMES = ("global loss", "local loss", "norm of the gradient")


class Readings:
    """Keeps numbers on the device until they are asked for: reading one makes the host wait for all that was queued.

    What is read is checked, and it is read before anything is logged, judged or saved. So a step that is not finite
    spoils the weights in memory at most, which nobody sees again.

    Args:
        accelerator: of the running processes; what is read is the mean over them.
        temperatures: of the model; they are read along.
        checkpoints: folder of the run's checkpoints, for the advice in an error.
    """

    def __init__(self, accelerator: Accelerator, temperatures: nn.Module, checkpoints: Path):
        self._accelerator, self._temperatures, self._checkpoints = accelerator, temperatures, checkpoints
        # In fp16 the scaler meets infinite gradients all the time, and skips them.
        self._num_checked = len(_NAMES) if accelerator.scaler is None else len(_NAMES) - 1
        self._unread: list[tuple[int, Tensor]] = []

    def note(self, step: int, losses: Tensor, gradient_norm: Tensor) -> None:
        """Keep the global and the local loss, shape (2,), and the norm of the gradient of a step; nobody waits."""
        self._unread.append((step, torch.cat([losses, gradient_norm.detach()[None]])))

    def read(self) -> dict[str, float]:
        """Wait for the device, once, and tell the last step's numbers; none where all of them have been read.

        Raises:
            FloatingPointError: when a number of any step since the last reading is not finite, on all processes.
        """
        unread, self._unread = self._unread, []
        if not unread:
            return {}
        temperatures = dict(self._temperatures.named_parameters())
        present = torch.stack([value.detach() for value in temperatures.values()])
        on_device = torch.cat([*(values for _, values in unread), present])
        numbers = self._accelerator.reduce(on_device, reduction="mean").tolist()
        for place, (step, _) in enumerate(unread):
            self._check_finite(step, numbers[place * len(_NAMES) :])
        global_loss, local_loss, norm, *rest = numbers[(len(unread) - 1) * len(_NAMES) :]
        losses = {"loss": global_loss + local_loss, "loss/global": global_loss, "loss/local": local_loss}
        return {**losses, "gradient_norm": norm, **dict(zip(temperatures, rest, strict=True))}

    def _check_finite(self, step: int, numbers: list[float]) -> None:
        named = list(zip(_NAMES, numbers, strict=False))[: self._num_checked]
        broken = [f"the {name} is {value}" for name, value in named if not math.isfinite(value)]
        if broken:
            newest = find_newest(self._checkpoints)
            left = f"The last checkpoint is {newest}" if newest else "There is no checkpoint yet"
            raise FloatingPointError(
                f"At step {step} {' and '.join(broken)}. {left}; go on with lower learning rates or `max_grad_norm`, "
                "and if it diverges again at once, remove that checkpoint to go on from the one before."
            )


__all__ = ["Readings"]
