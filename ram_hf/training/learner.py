"""The model as Accelerate wraps it: batches in, gradients out."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..data.batches import LoadedBatch
from ..data.streams import StreamState
from ..model.losses import label_loss
from ..model.modeling_ram import RamModel
from .attention import attention_for_training
from .gathered_loss import gathered_label_loss


class Learner:
    """Computes gradients on the labels of a training, on all processes together.

    Args:
        model: in training; batch norm is synchronised where torch can, which is on CUDA.
        label_ids: tokenised labels of the training, shape (L, T).
        label_weights: of the labels' positives in the loss, shape (L,); None: all alike.
        gather_loss: contrast each label with the images of all processes.
        accelerator: of the running processes.
    """

    def __init__(
        self,
        model: RamModel,
        label_ids: Tensor,
        *,
        label_weights: Tensor | None,
        gather_loss: bool,
        accelerator: Accelerator,
    ):
        several = accelerator.num_processes > 1
        loss = gathered_label_loss if several and gather_loss else label_loss
        if label_weights is not None:
            label_weights = label_weights.to(accelerator.device)
        model.loss_function = partial(loss, label_weights=label_weights)
        whole: nn.Module = model
        if several and accelerator.device.type == "cuda":
            # Replaces the batch norms inside `model.ladder`, in place.
            whole = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self._model, self._accelerator, self._label_ids = model, accelerator, label_ids.to(accelerator.device)
        self._wrapped = accelerator.prepare(whole).train()

    @contextmanager
    def released_at_the_end(self) -> Iterator[None]:
        """Let go of the model that Accelerate wrapped, then of the process group.

        In this order: a group whose last owner is a wrapped model waits for its threads with Python's lock in hand,
        and they may be waiting for that.
        """
        try:
            yield
        finally:
            del self._wrapped
            self._accelerator.free_memory()
            self._accelerator.end_training()

    def add_gradients(self, batches: Iterator[LoadedBatch], count: int) -> tuple[Tensor, StreamState]:
        """Run forward and backward over the next batches, whose mean loss is that of a step.

        Args:
            batches: endless.
            count: how many of them make a step.

        Returns:
            Global and local loss, shape (2,), and the place in the stream after the last batch.
        """
        losses = torch.zeros(2, device=self._accelerator.device)
        for index in range(count):
            inputs, stream = next(batches)
            pixel_values = inputs["pixel_values"].to(losses.device, non_blocking=True)
            labels = inputs["labels"].to(losses.device, non_blocking=True)
            waits = nullcontext() if index == count - 1 else self._accelerator.no_sync(self._wrapped)
            with waits, attention_for_training(self._model, self._accelerator):
                output = self._wrapped(pixel_values, input_ids=self._label_ids, labels=labels)
                self._accelerator.backward(output.loss / count)
            losses += torch.stack([output.global_loss, output.local_loss]).detach() / count
        return losses, stream


__all__ = ["Learner"]
