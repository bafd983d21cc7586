"""The rows of a run: what the arguments say about data, opened for training and for evaluation."""

from typing import NamedTuple

from transformers.utils import logging

from ..data.batches import BatchLoader, PrepareRow
from ..data.label_census import LabelCensus, Tally, tally_rows
from ..data.label_set import LabelSet
from ..data.sources import AnyDataset, DatasetSpec, RowReader, whole_stream
from ..data.streams import RowStream, count_rows
from ..data.transforms import EvalTransform, TrainTransform
from ..model.processing_ram import RamProcessor
from .arguments import RamTrainingArguments

logger = logging.get_logger(__name__)


class TrainingRows(NamedTuple):
    """What a run learns from.

    Attributes:
        loader: endless batches of this process, with the seen labels as columns.
        dataset: behind them, of all processes.
        reader: of the rows of `dataset`.
        census: counts the labels that have come in the batches.
        counted: how often the seen labels come, where `ram-hf prepare` counted them.
    """

    loader: BatchLoader
    dataset: AnyDataset
    reader: RowReader
    census: LabelCensus
    counted: Tally | None


def open_training(
    arguments: RamTrainingArguments, label_set: LabelSet, processor: RamProcessor, *, rank: int, world_size: int
) -> TrainingRows:
    """Open this process's share of the training rows.

    Raises:
        ValueError: when a column or a label does not fit the data, or the processor does not squash.
    """
    spec = DatasetSpec(
        arguments.dataset,
        arguments.split,
        name=arguments.dataset_name,
        revision=arguments.dataset_revision,
        data_files=arguments.data_files,
        streaming=arguments.streaming,
        image_column=arguments.image_column,
        label_column=arguments.label_column,
        label_columns=arguments.label_columns,
        label_separator=arguments.label_separator,
    )
    dataset, reader = spec.open()
    reader.check_labels(label_set.seen)
    transform = (TrainTransform if arguments.augment else EvalTransform).of(processor)
    census = LabelCensus(label_set.seen)
    loader = BatchLoader(
        RowStream(
            dataset,
            seed=arguments.seed,
            shuffle_buffer=arguments.shuffle_buffer,
            rank=rank,
            world_size=world_size,
        ),
        PrepareRow(reader, transform, label_names=label_set.seen),
        batch_size=arguments.per_device_batch_size,
        num_workers=arguments.num_workers,
        skip_broken=arguments.skip_broken,
        census=census,
    )
    return TrainingRows(loader, dataset, reader, census, spec.counted_before(label_set.seen))


def count_labels(rows: TrainingRows, label_set: LabelSet) -> Tally:
    """Count how often each seen label comes, in one pass over the labels."""
    logger.warning("`label_weights` is balanced: counting the labels once.")
    return tally_rows(rows.reader.labels(rows.dataset), label_set.seen)


def evaluation_rows(arguments: RamTrainingArguments) -> DatasetSpec:
    """Where the rows to evaluate on are; columns are named as in the training rows."""
    elsewhere = arguments.eval_dataset is not None
    return DatasetSpec(
        arguments.eval_dataset or arguments.dataset,
        str(arguments.eval_split),
        name=None if elsewhere else arguments.dataset_name,
        revision=None if elsewhere else arguments.dataset_revision,
        data_files=None if elsewhere else arguments.data_files,
        streaming=arguments.streaming,
        image_column=arguments.image_column,
        label_column=arguments.label_column,
        label_columns=arguments.label_columns,
        label_separator=arguments.label_separator,
        boxes_column=arguments.boxes_column,
    )


def number_of_rows(dataset: AnyDataset) -> int:
    """Rows of a dataset; a stream whose source does not say is read through once, labels only."""
    rows = count_rows(dataset)
    if rows is None:
        logger.warning(
            "The stream does not say how long it is: counting its rows once. `max_steps`, `warmup_steps` and "
            "`schedule_steps` together would spare that."
        )
        columns = list(dataset.features or [])
        narrow = dataset.select_columns(columns[-1:]) if columns else dataset
        rows = sum(1 for _ in whole_stream(narrow))
    return rows


__all__ = ["TrainingRows", "count_labels", "evaluation_rows", "number_of_rows", "open_training"]
