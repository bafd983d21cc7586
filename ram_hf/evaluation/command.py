"""`ram-hf evaluate`: names in, report out."""

from collections.abc import Sequence

import torch
from accelerate import Accelerator

from ..data.label_set import LabelList, LabelSet
from ..data.sources import RowReader, open_dataset
from ..pretrained import load_model
from .dataset import evaluate_on_dataset
from .report import EvaluationReport


def evaluate(
    model: str,
    dataset: str,
    *,
    seen: LabelList | None,
    unseen: LabelList | None,
    split: str,
    name: str | None,
    revision: str | None,
    image_column: str,
    label_column: str | None,
    label_columns: Sequence[str] | None,
    boxes_column: str | None,
    batch_size: int,
    num_workers: int,
    max_images: int | None,
    streaming: bool,
) -> EvaluationReport | None:
    """Load, open and judge; each argument is the option of that name.

    Without `seen` and `unseen`, all labels that the dataset's features know are ranked in one list.

    Returns:
        The report on the main process, None on the others.

    Raises:
        ValueError: when a label list is needed and not given, or something does not fit the dataset.
    """
    accelerator = Accelerator(cpu=not torch.accelerator.is_available())
    rows = open_dataset(dataset, split=split, name=name, revision=revision, streaming=streaming)
    if label_column is None and not label_columns:
        label_column = "labels"
    reader = RowReader.from_dataset(
        rows,
        image_column=image_column,
        label_column=label_column,
        label_columns=label_columns,
        boxes_column=boxes_column,
    )
    if seen or unseen:
        label_set = LabelSet.from_options(seen or (), unseen or ())
    elif reader.label_names is not None:
        label_set = LabelSet(tuple(reader.label_names))
    else:
        raise ValueError("The labels of this dataset are free strings: name a label file with `--seen` or `--unseen`.")
    ram, processor = load_model(model)
    report = evaluate_on_dataset(
        ram.to(accelerator.device),
        processor,
        rows,
        reader,
        label_set=label_set,
        batch_size=batch_size,
        num_workers=num_workers,
        max_images=max_images,
        accelerator=accelerator,
    )
    is_main_process = accelerator.is_main_process
    accelerator.end_training()  # a process of a gloo group that is left standing can abort at its exit
    return report if is_main_process else None


__all__ = ["evaluate"]
