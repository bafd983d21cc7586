"""How often a program makes a GPU stand still for an answer, counted without a GPU.

Everything lies on the CPU here, and each question that a GPU would have to answer is noted. What the package asks only
where reading is free must be told that it is not: see [`reading_is_not_free`].
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
_OPERATIONS = (_ATEN._local_scalar_dense, _ATEN.is_nonzero, _ATEN.nonzero, _ATEN.equal, _ATEN.masked_select)
# These read memory, or move it, without an operation of their own.
_METHODS = (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu, torch.Tensor.__array__)
_ASKERS = tuple(f"ram_hf.model.{name}" for name in ("input_checks", "label_encoder", "optimal_transport"))


class _Operations(TorchDispatchMode):
    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        self.calls = calls

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        is_mask = func.overloadpacket in (_ATEN.index, _ATEN.index_put_) and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if func.overloadpacket in _OPERATIONS or is_mask:
            self.calls.append(str(func))
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        self.calls = calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _METHODS:
            self.calls.append(func.__name__)
        return func(*args, **(kwargs or {}))


@contextmanager
def counted_host_syncs() -> Iterator[list[str]]:
    """Note what is asked of tensors within the block; the list grows while it runs."""
    calls: list[str] = []
    with _Operations(calls), _Methods(calls):
        yield calls


@contextmanager
def reading_is_not_free() -> Iterator[None]:
    """Let the package treat CPU tensors as those of a GPU."""
    with ExitStack() as patches:
        for module in _ASKERS:
            patches.enter_context(patch(f"{module}.reads_freely", return_value=False))
        yield
