"""A memory of one result, which drops it when what it was made of changes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Where modules come from that hold no switch of their own, as those of adapters and quantisers do.
_KNOWN = ("torch.nn.", "transformers.models.clip.", "transformers.activations", f"{__name__.rpartition('.')[0]}.")


class LastResult:
    """Remembers the last result of a function of tensors, until one of these or a module that it used changes.

    Safe with threads: an entry is read once, never changed, and replaced as a whole.
    """

    def __init__(self) -> None:
        self._entry: tuple[Any, ...] | None = None

    def get(self, inputs: Sequence[Tensor], modules: Sequence[nn.Module], compute: Callable[[], Any]) -> Any:
        """The result for `inputs`, compared by content, and `modules`, compared by what tells that they changed.

        With a module that does not tell, such as one of an adapter that can be switched off, it is computed anew.
        (What a module holds beside weights, mode and hooks is taken for fixed.)
        """
        parts = [part for module in modules for part in module.modules()]
        weights = [weight for module in modules for weight in (*module.parameters(), *module.buffers())]
        if not all(_tells_all(part) for part in parts) or any(weight.is_inference() for weight in weights):
            self.clear()  # an adapter may be merged into the very weights, which does not tell either
            return compute()
        device_type = inputs[0].device.type
        # Address and version tell loading, casting, moving and every in-place step of an optimiser apart; precision
        # and inference mode tell what kind of tensors the result is made of.
        state = (
            torch.is_autocast_enabled(device_type),
            torch.get_autocast_dtype(device_type),
            torch.is_inference_mode_enabled(),
            *((weight.data_ptr(), weight._version) for weight in weights),
            *(_behaviour(part) for part in parts),
        )
        entry = self._entry
        if entry is not None:
            known_state, known_inputs, result = entry
            if known_state == state and _are_same(inputs, known_inputs):
                return result
        result = compute()
        self._entry = (state, [(tensor, _version(tensor), tensor.detach().clone()) for tensor in inputs], result)
        return result

    def clear(self) -> None:
        """Forget."""
        self._entry = None


def _tells_all(module: nn.Module) -> bool:
    is_random = module.training and bool(getattr(module, "dropout", 0.0))
    return type(module).__module__.startswith(_KNOWN) and not is_random


def _behaviour(module: nn.Module) -> tuple[Any, ...]:
    """What changes a module's result beside its weights: its mode, hooks, and a `forward` put into its place."""
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    return (module.training, vars(module).get("forward"), hooks)


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _are_same(tensors: Sequence[Tensor], known: Sequence[tuple[Tensor, int | None, Tensor]]) -> bool:
    if len(tensors) != len(known):
        return False
    answers = []
    for tensor, (source, version, content) in zip(tensors, known, strict=True):
        if not tensor.requires_grad and source is tensor and version is not None and tensor._version == version:
            continue  # without asking the device
        if (content.shape, content.device, content.dtype) != (tensor.shape, tensor.device, tensor.dtype):
            return False
        answers.append((content == tensor).all())
    # The device is asked once.
    return not answers or bool(torch.stack([answer.to(answers[0].device) for answer in answers]).all())


__all__ = ["LastResult"]
