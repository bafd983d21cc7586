"""Moving average of what trains."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..model.modeling_ram import RamModel


def trained_state(model: RamModel) -> dict[str, Tensor]:
    """Everything that training changes, by its name in the model: all but the frozen CLIP, batch statistics included.

    By prefix and not by `requires_grad`, which would leave the batch statistics out.
    """
    return {name: value for name, value in model.state_dict().items() if not name.startswith("clip.")}


class MovingAverage:
    """Exponential moving average of the trained weights and batch statistics.

    In the first steps the decay grows as (1 + step) / (10 + step) up to its value, so that a short run is not left
    with an average of its initial weights.

    Args:
        model: whose state is averaged from here on.
        decay: share of the old average at each step, in [0, 1).
    """

    def __init__(self, model: RamModel, decay: float):
        self.decay = decay
        self.num_updates = 0
        self.average = {name: value.detach().clone() for name, value in trained_state(model).items()}

    @torch.no_grad()
    def update(self, model: RamModel) -> None:
        """Take one step toward the model's present state."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        self.num_updates += 1
        for name, value in trained_state(model).items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    @contextmanager
    def applied(self, model: RamModel) -> Iterator[None]:
        """Run a block with the averaged state in the model; afterwards its own is back, to the bit."""
        own = {name: value.detach().clone() for name, value in trained_state(model).items()}
        model.load_state_dict(self.average, strict=False)
        try:
            yield
        finally:
            model.load_state_dict(own, strict=False)
