"""Weights of a module that is not called, wherever a device map has put them."""

from torch import Tensor, nn


def own_weight(module: nn.Module, name: str) -> Tensor:
    """A module's own weight, fetched from the disk or the main memory where it is offloaded to there.

    A device map fetches the weights of the modules that are called, around the call. Ours reads some without one.
    """
    hook = getattr(module, "_hf_hook", None)  # accelerate's
    if hook is None:
        weight: Tensor = getattr(module, name)
        return weight
    hook.pre_forward(module)
    weight = getattr(module, name)
    hook.post_forward(module, None)
    return weight


__all__ = ["own_weight"]
