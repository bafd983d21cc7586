"""A memory of one result, which drops it when what it was made of changes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class LastResult:
    """Remembers the last result of a function of tensors, until one of these or a weight that it read changes.

    Safe with threads: an entry is read once, never changed, and replaced as a whole.
    """

    def __init__(self) -> None:
        self._entry: tuple | None = None

    def get(self, inputs: Sequence[Tensor], weights: Sequence[Tensor], compute: Callable[[], Any]) -> Any:
        """The result for `inputs`, compared by content, and `weights`, compared by what tells that they changed."""
        if any(weight.is_inference() for weight in weights):
            return compute()  # such weights do not tell when they change
        device_type = inputs[0].device.type
        # Address and version tell loading, casting, moving and every in-place step of an optimiser apart; precision
        # and inference mode tell what kind of tensors the result is made of.
        state = (
            torch.is_autocast_enabled(device_type),
            torch.get_autocast_dtype(device_type),
            torch.is_inference_mode_enabled(),
            *((weight.data_ptr(), weight._version) for weight in weights),
        )
        entry = self._entry
        if entry is not None:
            known_state, known_inputs, result = entry
            if known_state == state and len(known_inputs) == len(inputs) and all(map(_is_same, inputs, known_inputs)):
                return result
        result = compute()
        self._entry = (state, [(tensor, _version(tensor), tensor.detach().clone()) for tensor in inputs], result)
        return result

    def clear(self) -> None:
        """Forget."""
        self._entry = None


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _is_same(tensor: Tensor, known: tuple[Tensor, int | None, Tensor]) -> bool:
    source, version, content = known
    if not tensor.requires_grad and source is tensor and version is not None and tensor._version == version:
        return True  # without asking the device
    return content.device == tensor.device and content.dtype == tensor.dtype and torch.equal(content, tensor)


__all__ = ["LastResult"]
