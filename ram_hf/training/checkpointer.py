"""Keeping a run and going on from what was kept."""

from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator
from transformers.utils import logging

from .checkpoints import Checkpoint, find_newest, load_checkpoint, save_checkpoint

logger = logging.get_logger(__name__)


class Stateful(Protocol):
    """A part of a run that can be kept."""

    def state_dict(self) -> Any:
        """What has to be kept of it."""

    def load_state_dict(self, state: Any) -> None:
        """Go on from there; a ValueError says what the checkpoint is that does not fit, after "it"."""


class Checkpointer:
    """Writes the states of a run's parts into checkpoints, and gives them back.

    Args:
        folder: of the run's checkpoints.
        states: every part that the run's future depends on, by the field of [`Checkpoint`] that keeps its state;
            `facts` has the `step` too. They are given back in this order.
        keep: number of newest checkpoints that stay.
        accelerator: of the running processes; the main one writes.
    """

    def __init__(self, folder: Path, states: dict[str, Stateful], *, keep: int, accelerator: Accelerator):
        self._folder, self._states, self._keep = folder, states, keep
        self._accelerator = accelerator

    def save(self) -> None:
        """Write a checkpoint; all processes have to call it.

        Raises:
            OSError: when it cannot be written; the one before it stays whole.
        """
        kept = {name: part.state_dict() for name, part in self._states.items()}
        step = kept["facts"].pop("step")
        if self._accelerator.is_main_process:
            save_checkpoint(self._folder, Checkpoint(step=step, **kept), keep=self._keep)
        self._accelerator.wait_for_everyone()

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one.

        Raises:
            ValueError: when it is damaged, or is that of another run.
        """
        newest = find_newest(self._folder)
        if newest is None:
            return
        checkpoint = load_checkpoint(newest)
        kept = {**checkpoint._asdict(), "facts": {"step": checkpoint.step, **checkpoint.facts}}
        try:
            for name, part in self._states.items():
                part.load_state_dict(kept[name])
        except ValueError as error:
            raise ValueError(
                f"Checkpoint {newest} does not fit this run: it {error}. Restore that, or give another `output_dir`, "
                "or set `resume` to false."
            ) from error
        logger.warning("Going on from %s.", newest)


def move_aside(output_dir: Path, accelerator: Accelerator) -> None:
    """Make room for a new run in a folder that holds another: nothing of that is lost."""
    if accelerator.is_main_process and (output_dir / "checkpoints").is_dir():
        number = 1 + len(list(output_dir.glob("previous-*")))
        previous = output_dir / f"previous-{number}"
        previous.mkdir()
        for name in ("checkpoints", "best", "metrics.jsonl"):
            if (output_dir / name).exists():
                (output_dir / name).rename(previous / name)
        logger.warning("The run that was in %s is now in %s.", output_dir, previous)
    accelerator.wait_for_everyone()


__all__ = ["Checkpointer", "Stateful", "move_aside"]
