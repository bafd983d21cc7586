"""Evaluation on a dataset: rows in, report out."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..data.batches import PrepareRow, evaluation_batches
from ..data.label_census import LabelCensus
from ..data.label_set import LabelSet
from ..data.sources import AnyDataset, RowReader
from ..data.transforms import EvalTransform
from ..model.modeling_ram import RamModel
from ..model.processing_ram import RamProcessor
from .evaluator import evaluate_model, evaluation_settings
from .report import EvaluationReport

if TYPE_CHECKING:
    from accelerate import Accelerator

_TOP_K = (3, 5)


def evaluate_on_dataset(
    model: RamModel,
    processor: RamProcessor,
    dataset: AnyDataset,
    reader: RowReader,
    *,
    label_set: LabelSet,
    label_template: str | Sequence[str] | None = None,
    refine: int | None = None,
    batch_size: int = 32,
    num_workers: int = 4,
    max_images: int | None = None,
    skip_broken: bool = False,
    census: LabelCensus | None = None,
    accelerator: "Accelerator | None" = None,
) -> EvaluationReport:
    """Judge a model on the rows of a dataset: unseen labels alone (ZSL) and all labels (GZSL), or one plain list.

    Args:
        model: on the device to run on.
        processor: of the model; images are squashed and normalised as it says.
        dataset: rows, as `DatasetSpec.open` gives them.
        reader: of the rows; with a boxes column the pointing game is played as well.
        label_set: without unseen labels, its seen ones are the plain list.
        label_template: sentence around a label, or several, or a set's name; None for the processor's own.
        refine: how many of an image's best labels to judge again, see [`look_again`]; None for none.
        batch_size: images of one forward pass.
        num_workers: threads that decode.
        max_images: judge by the first so many rows.
        skip_broken: pass over rows that cannot be read, with a warning, and count them in the report.
        census: counts the labels of the images that this process judges by, if given.
        accelerator: of the running processes; the report is the same for any number of them, to the last digit.

    Returns:
        [`EvaluationReport`]. Top-k metrics are left out for a k above the number of labels.

    Raises:
        ValueError: when a label is not among those that the dataset knows, a row cannot be read and `skip_broken`
            is off, or no row can be, or the processor does not squash.
    """
    reader.check_labels(label_set.names)
    if max_images is not None:
        dataset = dataset.take(max_images)
    passed_over: list[str] = []
    batches = evaluation_batches(
        dataset,
        PrepareRow(reader, EvalTransform.of(processor), label_names=label_set.names),
        batch_size=batch_size,
        rank=0 if accelerator is None else accelerator.process_index,
        world_size=1 if accelerator is None else accelerator.num_processes,
        num_workers=num_workers,
        passed_over=passed_over if skip_broken else None,
        census=census,
    )
    with torch.no_grad():
        label_ids = processor(labels=label_set.names, label_template=label_template)["input_ids"].to(model.device)
        was_training = model.training
        label_features = model.eval().get_label_features(label_ids)
        model.train(was_training)
    try:
        report = evaluate_model(
            model,
            batches,
            label_names=label_set.names,
            label_features=label_features,
            settings=_settings(label_set),
            ks=_TOP_K,
            refine=refine,
            accelerator=accelerator,
        )
    finally:
        batches.close()
    num_passed_over = len(passed_over)
    if accelerator is not None:
        from accelerate.utils import gather_object

        num_passed_over = sum(gather_object([num_passed_over]))
    settings = report.settings.items()
    return EvaluationReport(
        {name: replace(setting, num_images_passed_over=num_passed_over) for name, setting in settings}
    )


def metric_names(label_set: LabelSet, *, pointing: bool) -> list[str]:
    """What a report on these labels can hold, named as in `EvaluationReport.metrics`; the first is mAP's.

    Args:
        label_set: seen and unseen labels.
        pointing: whether the pointing game is played.
    """
    games = ("pointing/transport_plan", "pointing/similarity") if pointing else ()
    return [
        f"{setting}/{name}"
        for setting, labels in _settings(label_set).items()
        for name in (
            "mAP",
            *(f"{kind}@{k}" for k in _TOP_K if k <= len(labels) for kind in ("OP", "OR", "OF1", "CP", "CR", "CF1")),
            *games,
        )
    ]


def _settings(label_set: LabelSet) -> dict[str, list[int]]:
    return evaluation_settings(len(label_set), unseen=range(len(label_set.seen), len(label_set)))


__all__ = ["evaluate_on_dataset", "metric_names"]
