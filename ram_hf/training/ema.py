"""What trains, and its moving average."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from ..model.modeling_ram import RamModel


class TrainedWeights:
    """Everything that training changes: all but the frozen CLIP, batch statistics included.

    By prefix and not by `requires_grad`, which would leave the batch statistics out.

    Args:
        model: whose state this is.
    """

    def __init__(self, model: RamModel):
        self._model = model

    def state_dict(self) -> dict[str, Tensor]:
        """The state itself, not a copy, by its name in the model."""
        return {name: value for name, value in self._model.state_dict().items() if not name.startswith("clip.")}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy a state into the model.

        Raises:
            ValueError: when it is that of another architecture.
        """
        ours = {name: value.shape for name, value in self.state_dict().items()}
        if ours != {name: value.shape for name, value in state.items()}:
            raise ValueError("holds other weights than this configuration asks for")
        self._model.load_state_dict(state, strict=False)


class MovingAverage:
    """Exponential moving average of the trained weights and batch statistics.

    In the first steps the decay grows as (1 + step) / (10 + step) up to its value, so that a short run is not left
    with an average of its initial weights.

    Args:
        weights: what is averaged from here on.
        decay: share of the old average at each step, in [0, 1); 0 for no averaging: then the weights themselves stand
            in for their average, and the state is empty.
    """

    def __init__(self, weights: TrainedWeights, decay: float):
        self._weights = weights
        self._decay = decay
        self._average = {name: value.detach().clone() for name, value in weights.state_dict().items()} if decay else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take one step toward the present weights.

        Args:
            step: number of updates before this one.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        present = self._weights.state_dict()
        for name, average in self._average.items():
            if average.is_floating_point():
                average.lerp_(present[name], 1 - decay)
            else:
                average.copy_(present[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Run a block with the averaged state in the model; afterwards its own is back, to the bit."""
        if not self._average:
            yield
            return
        own = {name: value.detach().clone() for name, value in self._weights.state_dict().items()}
        self._weights.load_state_dict(self._average)
        try:
            yield
        finally:
            self._weights.load_state_dict(own)

    def state_dict(self) -> dict[str, Tensor]:
        """The average by name, not a copy; empty without averaging."""
        return self._average

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from an average.

        Raises:
            ValueError: when one of the runs averages and the other does not.
        """
        if bool(state) != bool(self._average):
            raise ValueError(f"was trained with{'' if state else 'out'} `ema_decay`")
        for name, value in state.items():
            self._average[name].copy_(value)


__all__ = ["MovingAverage", "TrainedWeights"]
