"""Where asking a tensor for its values costs nothing."""

import torch
from torch import Tensor


def reads_freely(tensor: Tensor) -> bool:
    """Whether values can be read without waiting for a device, and outside a graph, which has no values yet."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


__all__ = ["reads_freely"]
