"""Rows to batches: images are decoded and transformed ahead of the consumer, by threads, in the order of the rows.

Pillow and NumPy let go of Python's lock while they work, so threads are enough, and nothing has to be pickled.
"""

import logging
import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypedDict, TypeVar

import numpy as np
import torch

from ..model.images import read_image
from .label_census import LabelCensus
from .sources import AnyDataset, Box, RowReader
from .streams import START, RawRow, RowStream, StreamItem, StreamState, one_pass_batches
from .transforms import EvalTransform

logger = logging.getLogger(__name__)

_BATCHES_AHEAD = 2  # of the consumer, when there are workers
_UNKNOWN = -1  # of a label that nobody has looked for, as the losses and the evaluation know it
_CLOSE_SECONDS = 10.0  # how long closing waits for a read that hangs; the thread does not outlive the process

Item = TypeVar("Item")
Result = TypeVar("Result")


class Sample(NamedTuple):
    """One prepared row."""

    pixel_values: np.ndarray  # (3, H, W) float32
    labels: np.ndarray  # (L,) float32; 1, 0, or -1 for unknown
    # [x0, y0, x1, y1] in pixels by label name, if the reader has them
    boxes: dict[str, list[list[float]]] | None = None
    size: tuple[int, int] | None = None  # width and height of the upright image, in pixels
    other_labels: tuple[str, ...] = ()  # that the row has and no column is for


class Inputs(TypedDict):
    """A batch as the model takes it: `model(**inputs, ...)`."""

    pixel_values: torch.Tensor  # (B, 3, H, W) float32
    labels: torch.Tensor  # (B, L) float32; 1, 0, or -1 for unknown


class EvaluationInputs(Inputs, total=False):
    """A batch to evaluate on; boxes and sizes, one entry an image, where the reader reads boxes (see [`Sample`])."""

    boxes: list[dict[str, list[list[float]]] | None]
    sizes: list[tuple[int, int]]


class LoadedBatch(NamedTuple):
    """A batch, and where the stream stands after its last row: what a checkpoint has to keep."""

    inputs: Inputs
    state: StreamState


Prepare = Callable[[RawRow, np.random.Generator], Sample]


class PrepareRow:
    """Turns a row into a [`Sample`]: read, decode, transform, mark the labels.

    Labels of a row that are not among `label_names` are ignored. That is what training on the seen labels of a dataset
    means; and where a dataset names more labels than an experiment uses, so it is in evaluation.

    Args:
        reader: of the dataset's rows.
        transform: [`TrainTransform`] or [`EvalTransform`].
        label_names: the labels to mark, in the order of the columns: `label_set.seen` or `label_set.names`.
    """

    def __init__(self, reader: RowReader, transform: EvalTransform, *, label_names: Sequence[str]) -> None:
        self._reader = reader
        self._transform = transform
        self._columns = {name: column for column, name in enumerate(label_names)}

    def __call__(self, row: RawRow, rng: np.random.Generator) -> Sample:
        """Prepare one row.

        Raises:
            ValueError: when the image is missing or cannot be decoded; the message has its path where it has one.
        """
        source, names, boxes, path, unknown = self._reader.read(row)
        try:
            image = read_image(_fetched(source))
        except (ValueError, OSError) as error:
            raise ValueError(f"{error} (image {path!r})" if path else str(error)) from error
        labels = np.zeros(len(self._columns), dtype=np.float32)
        labels[[self._columns[name] for name in names if name in self._columns]] = 1
        labels[[self._columns[name] for name in unknown if name in self._columns]] = _UNKNOWN
        boxes_by_label = None if boxes is None else self._boxes_by_label(boxes)
        others = tuple(name for name in names if name not in self._columns)
        return Sample(self._transform(image, rng), labels, boxes_by_label, image.size, others)

    def _boxes_by_label(self, boxes: Sequence[Box]) -> dict[str, list[list[float]]]:
        by_label: dict[str, list[list[float]]] = {}
        for box in boxes:
            if box["label"] in self._columns:
                by_label.setdefault(box["label"], []).append([box["x0"], box["y0"], box["x1"], box["y1"]])
        return by_label


def _fetched(image: bytes | str) -> bytes | str:
    """Content of an address that fsspec opens, such as `hf://datasets/...`: so rows of a remote folder name images."""
    if isinstance(image, bytes) or "://" not in image or image.startswith(("http://", "https://")):
        return image
    import fsspec  # comes with huggingface_hub

    with fsspec.open(image, "rb") as file:
        return file.read()


class BatchLoader:
    """Endless batches of a stream, prepared ahead of the consumer.

    The batches do not depend on `num_workers`: samples keep the order of the rows, and each has a random generator of
    its own, seeded with (seed, epoch, rank, position in the epoch). A batch may span two epochs.

    Every batch carries the state of the stream after its last row, whatever has been read ahead; `state_dict` gives
    that of the last batch handed out. So the loader can be stored and loaded, or left and iterated again, and no row
    is lost or repeated. Each rank has a state of its own.

    Leaving a `for` loop early leaves threads waiting until the loader is closed: use it as a context manager.

    Args:
        stream: of undecoded rows.
        prepare: turns a row into a sample, such as [`PrepareRow`]; called from several threads.
        batch_size: rows per batch, on this rank.
        num_workers: threads that prepare two batches ahead, next to one that reads; 0 does all of it in the caller's
            thread.
        skip_broken: pass over rows that cannot be prepared, with a warning, instead of raising.
        census: counts the labels of the samples, if given.

    Raises:
        ValueError: when a number is out of its range; while iterating, when a row cannot be prepared: the message has
            its epoch and position; or, with `skip_broken`, when no row of a whole epoch can be.

    Example:
        >>> with BatchLoader(stream, prepare, batch_size=32, num_workers=2) as loader:
        ...     for inputs, state in loader:
        ...         loss = model(**inputs, input_ids=label_input_ids).loss
    """

    def __init__(
        self,
        stream: RowStream,
        prepare: Prepare,
        *,
        batch_size: int,
        num_workers: int = 0,
        skip_broken: bool = False,
        census: LabelCensus | None = None,
    ) -> None:
        if batch_size < 1 or num_workers < 0:
            raise ValueError(
                f"`batch_size` must be positive and `num_workers` not negative, got {batch_size} and {num_workers}."
            )
        self._stream = stream
        self._prepare = prepare
        self._batch_size = batch_size
        self._num_workers = num_workers
        self._prefetch = _BATCHES_AHEAD * batch_size
        self._skip_broken = skip_broken
        self._census = census
        self._state = START.copy()
        self._running: Generator[LoadedBatch, None, None] | None = None

    def __iter__(self) -> Iterator[LoadedBatch]:
        """Go on after the last batch that was handed out, or after the state that was loaded."""
        self.close()
        self._running = self._batches()
        return self._running

    def __enter__(self) -> "BatchLoader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads; the loader may be iterated again."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def state_dict(self) -> StreamState:
        """The state after the last batch that was handed out."""
        return self._state.copy()

    def load_state_dict(self, state: StreamState) -> None:
        """Continue after the batch that `state` was taken at; an iteration that is under way is closed."""
        self.close()
        self._state = StreamState(epoch=state["epoch"], row=state["row"])

    def _batches(self) -> Generator[LoadedBatch, None, None]:
        prepared = map_ahead(
            self._prepare_item, self._stream.items(self._state), num_workers=self._num_workers, prefetch=self._prefetch
        )
        samples: list[Sample] = []
        # The last epoch that gave a sample, or of which only the end will be seen.
        fruitful = self._state["epoch"] - (self._state["row"] == 0)
        first_whole = fruitful + 1
        try:
            for state, sample in prepared:
                if self._census is not None and state["epoch"] > first_whole:
                    self._census.is_complete = True
                if sample is None:
                    if state["epoch"] > fruitful + 1:
                        raise ValueError(
                            f"Not one row of epoch {fruitful + 1} on rank {self._stream.rank} could be read; the "
                            "warnings above say why."
                        )
                    continue
                fruitful = state["epoch"]
                if self._census is not None:
                    self._census.note(sample.labels, sample.other_labels)
                samples.append(sample)
                if len(samples) == self._batch_size:
                    self._state = state
                    yield LoadedBatch(collate(samples), state.copy())
                    samples = []
        finally:
            prepared.close()

    def _prepare_item(self, item: StreamItem) -> tuple[StreamState, Sample | None]:
        rng = np.random.default_rng([self._stream.seed, item.epoch, self._stream.rank, item.position])
        place = f"row {item.position} of epoch {item.epoch} on rank {self._stream.rank}"
        sample: Sample | None = None
        try:
            sample = _prepare_named(self._prepare, item.row, rng, place)
        except ValueError as error:
            if not self._skip_broken:
                raise
            logger.warning("Passed over: %s", error)
        return StreamState(epoch=item.epoch, row=item.position + 1), sample


def evaluation_batches(
    dataset: AnyDataset,
    prepare: Prepare,
    *,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    passed_over: list[str] | None = None,
    census: LabelCensus | None = None,
) -> Generator[tuple[int, EvaluationInputs], None, None]:
    """Prepare this rank's batches of one pass over a dataset (see [`one_pass_batches`]).

    Args:
        dataset: rows, undecoded.
        prepare: turns a row into a sample; its generator is the same for every row, as evaluation draws nothing.
        batch_size: rows of each batch but the last.
        rank: of this process.
        world_size: number of processes.
        num_workers: as for [`BatchLoader`].
        passed_over: if given, rows that cannot be prepared are left out with a warning, and what is wrong with them is
            added here; a batch that nothing is left of does not come.
        census: counts the labels of the samples, if given.

    Returns:
        Generator of (number of the batch, inputs); numbers and inputs depend neither on `world_size` nor on
        `num_workers`. Close it when leaving early.

    Raises:
        ValueError: when a row cannot be prepared and there is no `passed_over`; the message names its index.
    """
    batches = one_pass_batches(dataset, batch_size, rank=rank, world_size=world_size)
    rows = (
        (number, place, len(batch) - 1 == place, row) for number, batch in batches for place, row in enumerate(batch)
    )

    def prepare_row(item: tuple[int, int, bool, RawRow]) -> tuple[int, bool, Sample | None]:
        number, place, is_last, row = item
        sample: Sample | None = None
        try:
            sample = _prepare_named(prepare, row, np.random.default_rng(0), f"row {number * batch_size + place}")
        except ValueError as error:
            if passed_over is None:
                raise
            logger.warning("Passed over: %s", error)
            passed_over.append(str(error))
        return number, is_last, sample

    prepared = map_ahead(prepare_row, rows, num_workers=num_workers, prefetch=_BATCHES_AHEAD * batch_size)
    return _grouped(prepared, census)


def _grouped(
    prepared: Generator[tuple[int, bool, Sample | None], None, None], census: LabelCensus | None
) -> Generator[tuple[int, EvaluationInputs], None, None]:
    samples: list[Sample] = []
    try:
        for number, is_last, sample in prepared:
            if sample is not None:
                samples.append(sample)
                if census is not None:
                    census.note(sample.labels, sample.other_labels)
            if is_last and samples:
                inputs: EvaluationInputs = {**collate(samples)}
                if samples[0].boxes is not None:
                    inputs["boxes"] = [sample.boxes for sample in samples]
                    inputs["sizes"] = [sample.size for sample in samples if sample.size is not None]
                yield number, inputs
                samples = []
    finally:
        prepared.close()


def collate(samples: Sequence[Sample]) -> Inputs:
    """Stack samples to `pixel_values` (B, 3, H, W) and `labels` (B, L), both float32."""
    return Inputs(
        pixel_values=torch.from_numpy(np.stack([sample.pixel_values for sample in samples])),
        labels=torch.from_numpy(np.stack([sample.labels for sample in samples])),
    )


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_workers: int, prefetch: int
) -> Generator[Result, None, None]:
    """Apply a function to items in threads, ahead of the consumer and in order.

    One thread reads the items, so that waiting for a disk or the network overlaps with the consumer's work, and
    `num_workers` threads apply the function. An error of either comes up in its place among the results. The threads
    end when the generator is exhausted, fails or is closed.

    Args:
        function: called from several threads.
        items: read by one thread only.
        num_workers: 0 does everything in the caller's thread, without reading ahead.
        prefetch: most items that are read and not yet consumed, >= 1.
    """
    if num_workers == 0:
        for item in items:
            yield function(item)
        return
    results: queue.SimpleQueue[Future | None] = queue.SimpleQueue()  # bounded by `free`, None marks the end
    free = threading.Semaphore(prefetch)
    stopped = threading.Event()
    executor = ThreadPoolExecutor(num_workers, thread_name_prefix="ram_hf-prepare")

    def read() -> None:
        try:
            for item in items:
                free.acquire()
                if stopped.is_set():
                    return
                results.put(executor.submit(function, item))
            results.put(None)
        except BaseException as error:
            failed: Future = Future()
            failed.set_exception(error)
            results.put(failed)
        finally:
            if isinstance(items, Generator):
                items.close()  # here, as a generator belongs to the thread that runs it

    reader = threading.Thread(target=read, name="ram_hf-read", daemon=True)
    reader.start()
    try:
        while (future := results.get()) is not None:
            result = future.result()
            free.release()
            yield result
    finally:
        # While Python ends, the reader is frozen wherever it is, maybe with the lock that waking it would wait for.
        if not sys.is_finalizing():
            stopped.set()
            free.release()  # wakes the reader
            executor.shutdown(wait=True, cancel_futures=True)
            reader.join(_CLOSE_SECONDS)


def _prepare_named(prepare: Prepare, row: Mapping[str, Any], rng: np.random.Generator, place: str) -> Sample:
    try:
        return prepare(row, rng)
    except (ValueError, OSError) as error:
        raise ValueError(f"Cannot prepare {place}: {error}") from error


__all__ = [
    "BatchLoader",
    "EvaluationInputs",
    "Inputs",
    "LoadedBatch",
    "PrepareRow",
    "Sample",
    "collate",
    "evaluation_batches",
    "map_ahead",
]
