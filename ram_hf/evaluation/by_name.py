"""Evaluation of a model by its name: loaded, judged on rows that are opened for it, in as many processes as run."""

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ..data.label_census import LabelCensus, add_tallies, check_tally, refuse_nothing
from ..data.label_set import LabelList, LabelSet
from ..data.sources import DatasetSpec
from ..pretrained import load_model
from .dataset import evaluate_on_dataset
from .report import EvaluationReport


def evaluate(
    model: str,
    rows: DatasetSpec,
    *,
    seen: LabelList = (),
    unseen: LabelList = (),
    label_template: str | Sequence[str] | None = None,
    refine: int | None = None,
    batch_size: int = 32,
    num_workers: int = 4,
    max_images: int | None = None,
    skip_broken: bool = False,
) -> EvaluationReport | None:
    """Load, open and judge, in as many processes as are running.

    Args:
        model: a RAM or a CLIP (training-free), Hub id or folder.
        rows: to judge on.
        seen: labels of the training; or the plain list.
        unseen: labels that training never saw. Without both, all labels that the dataset's features know are ranked
            in one list.
        label_template: sentence around a label, or several, or a set's name; None for the processor's own.
        refine: how many of an image's best labels to judge again, see [`look_again`]; None for none.
        batch_size: images of one forward pass.
        num_workers: threads that decode.
        max_images: judge by the first so many rows.
        skip_broken: pass over rows that cannot be read, and count them in the report.

    Returns:
        The report on the main process, None on the others.

    Raises:
        FileNotFoundError: when there is no such model or dataset.
        ValueError: when a label list is needed and not given, a number is out of its range, something does not fit the
            dataset, or not one image has one of the labels.
    """
    _check_numbers(
        batch_size=(batch_size, 1),
        num_workers=(num_workers, 0),
        max_images=(max_images, 1),
        refine=(refine, 1),
    )
    accelerator = Accelerator(cpu=not torch.accelerator.is_available())
    dataset, reader = rows.open()
    if seen or unseen:
        label_set = LabelSet.from_options(seen, unseen)
    elif reader.label_names is not None:
        label_set = LabelSet(tuple(reader.label_names))
    else:
        raise ValueError("The labels of this dataset are free strings: name a label file with `--seen` or `--unseen`.")
    if (counted := rows.counted_before(label_set.names)) is not None:
        refuse_nothing(counted, purpose="judge by")  # before minutes of work
    census = LabelCensus(label_set.names)
    ram, processor = load_model(model)
    report = evaluate_on_dataset(
        ram.to(accelerator.device),
        processor,
        dataset,
        reader,
        label_set=label_set,
        label_template=label_template,
        refine=refine,
        batch_size=batch_size,
        num_workers=num_workers,
        max_images=max_images,
        skip_broken=skip_broken,
        census=census,
        accelerator=accelerator,
    )
    tally = add_tallies(gather_object([census.tally()]))
    is_main_process = accelerator.is_main_process
    accelerator.end_training()  # a process of a gloo group that is left standing can abort at its exit
    if not is_main_process:
        return None
    check_tally(tally, purpose="judge by")
    return report


def _check_numbers(**numbers: tuple[int | None, int]) -> None:
    for name, (value, least) in numbers.items():
        if value is not None and value < least:
            raise ValueError(f"`{name}` must be at least {least}, got {value}.")


__all__ = ["evaluate"]
