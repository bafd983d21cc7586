"""Learning rates of a run whose length need not be known when it starts."""

import math
from collections.abc import Callable


def constant_then_decay(*, warmup_steps: int, decay_steps: int, total_steps: int) -> Callable[[int, float], float]:
    """Linear to the peak, constant, and at the end down to zero as 1 - sqrt (arXiv 2405.18392).

    Args:
        warmup_steps: steps until the peak, >= 0.
        decay_steps: steps of the fall, >= 0.
        total_steps: step at which the fall ends.

    Returns:
        Function of a zero-based step and the peak rate. It keeps no state, so that resuming needs none.
    """

    def rate(step: int, peak: float) -> float:
        rising = min(1.0, (step + 1) / (warmup_steps + 1))
        fallen = max(0.0, (step - (total_steps - decay_steps)) / max(1, decay_steps))
        return peak * rising * (1 - math.sqrt(min(1.0, fallen)))

    return rate


__all__ = ["constant_then_decay"]
