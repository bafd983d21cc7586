"""The model that is judged and left behind: averaged, in float32, the same on every process."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

from ..atomic import whole_files, write_whole
from ..model.modeling_ram import RamModel
from ..model.processing_ram import RamProcessor
from ..model.run_record import RUN_FILE
from .ema import MovingAverage, TrainedWeights


class AveragedModel:
    """A model in training, as it is to be judged and written.

    Args:
        model: in training.
        processor: of the model.
        average: of its weights.
        accelerator: of the running processes.
        label_names: labels of the training.
    """

    def __init__(
        self,
        model: RamModel,
        processor: RamProcessor,
        average: MovingAverage,
        accelerator: Accelerator,
        *,
        label_names: Sequence[str],
    ):
        self.model, self.processor = model, processor
        self._average, self._accelerator, self._label_names = average, accelerator, list(label_names)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Run a block with averaged weights, in float32, and on every process those of the first.

        Without a synchronised batch norm each process has statistics of its own.
        """
        forward = self.model.__dict__.pop("forward", None)  # Accelerate's, which casts to the precision of training
        try:
            with self._average.applied():
                for value in TrainedWeights(self.model).state_dict().values():
                    broadcast(value)
                yield
        finally:
            if forward is not None:
                self.model.forward = forward

    def write(self, folder: Path, record: Mapping[str, Any]) -> None:
        """Write model and processor as they are now, ready for `from_pretrained`; other files in the folder stay.

        The labels of the training become the model's reference labels: what it lacks is `ram-hf calibrate`.

        Args:
            folder: to write to.
            record: see `run_record`.

        Raises:
            OSError: when the disk is full; what was there stays.
        """
        if self._accelerator.is_main_process:
            with self._with_reference_labels(), whole_files(folder) as unfinished:
                self.model.save_pretrained(unfinished)
                self.processor.save_pretrained(unfinished)
                write_whole(unfinished / RUN_FILE, json.dumps(record, indent=1, ensure_ascii=False))
        self._accelerator.wait_for_everyone()

    @contextmanager
    def _with_reference_labels(self) -> Iterator[None]:
        """The trained labels, encoded by the weights as they are now; while training goes on there are none."""
        model, was_training = self.model, self.model.training
        label_ids = self.processor(labels=self._label_names)["input_ids"].to(model.device)
        with torch.no_grad():
            model.set_reference_labels(self._label_names, model.eval().get_label_features(label_ids))
        try:
            yield
        finally:
            model.train(was_training)
            model.reference = model.config.reference_labels = None


__all__ = ["AveragedModel"]
