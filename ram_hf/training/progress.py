"""How far a run is: what it has done, and where each of its processes stands."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ..data.batches import BatchLoader
from ..data.streams import StreamState


class Progress:
    """Steps done and the best metric so far, and what a run cannot change and still be the same one.

    Attributes:
        step: optimizer steps that are done.
        judged: the last of them after which the model was judged.
        best: highest value so far of the metric that marks the best model.
        num_without_rise: evaluations since that metric last rose enough to count for early stopping.

    Args:
        experiment: what has to be equal in a checkpoint, by the name of its option; JSON values.
    """

    def __init__(self, experiment: Mapping[str, Any]):
        self.step = self.judged = 0
        self.best: float | None = None
        self.num_without_rise = 0
        self._experiment = dict(experiment)

    def state_dict(self) -> dict[str, Any]:
        """Small numbers and texts, kept as JSON."""
        return {
            **{"step": self.step, "judged": self.judged, "experiment": self._experiment, "best": self.best},
            "num_without_rise": self.num_without_rise,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError: when that is another experiment.
        """
        for name, ours in self._experiment.items():
            theirs = state["experiment"].get(name)
            if theirs != ours:
                raise ValueError(f"was trained with `{name}` {theirs!r}, not {ours!r}")
        self.step, self.best = state["step"], state["best"]
        self.judged = state.get("judged", self.step)  # older checkpoints were written after judging
        self.num_without_rise = state.get("num_without_rise", 0)


class ProcessState:
    """What each process has for itself: its place in the stream and its random states.

    Attributes:
        stream: the place after the last step that is done; the loader itself may be in the middle of one.

    Args:
        loader: of this process.
        accelerator: of the running processes.
    """

    def __init__(self, loader: BatchLoader, accelerator: Accelerator):
        self._loader, self._accelerator = loader, accelerator
        self.stream: StreamState = loader.state_dict()

    def state_dict(self) -> list[dict[str, Any]]:
        """The states of all processes in their order; every process has to ask for it."""
        state: dict[str, Any] = {"stream": self.stream, "random": torch.get_rng_state()}
        if torch.cuda.is_available():
            state["random_cuda"] = torch.cuda.get_rng_state(self._accelerator.device)
        return gather_object([state])

    def load_state_dict(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Put this process where it was.

        Raises:
            ValueError: when the states are those of another number of processes.
        """
        if len(states) != self._accelerator.num_processes:
            raise ValueError(
                f"was written by {len(states)} process(es), not {self._accelerator.num_processes}, which would deal "
                f"the images out anew: start {len(states)} (`accelerate launch --num_processes {len(states)}`)"
            )
        state = states[self._accelerator.process_index]
        self.stream = state["stream"]
        self._loader.load_state_dict(self.stream)
        torch.set_rng_state(state["random"])
        if "random_cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["random_cuda"], self._accelerator.device)


__all__ = ["ProcessState", "Progress"]
