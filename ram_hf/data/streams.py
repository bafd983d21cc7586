"""Who reads which row and when: an endless, resumable stream to train on, one pass in fixed batches to evaluate."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypedDict

import datasets
import numpy as np
from datasets.distributed import split_dataset_by_node

from .sources import AnyDataset, whole_stream

RawRow = Mapping[str, Any]

# Shards that fill the shuffle buffer together, `datasets`' own choice: it mixes shards that are sorted by class. With
# parquet it costs seconds at the end of each epoch, as `datasets` waits for Arrow's threads; a single shard has
# nothing to mix and must not pay for it.
_BUFFER_INPUT_SHARDS = 10


class StreamState(TypedDict):
    """Where a stream stands: `row` rows of epoch `epoch` are behind it, counted on its own rank."""

    epoch: int
    row: int


START = StreamState(epoch=0, row=0)


class StreamItem(NamedTuple):
    """One row as it comes out of a stream, with its epoch and its place in that epoch on this rank."""

    epoch: int
    position: int
    row: RawRow


class RowStream:
    """The endless order of the rows of a dataset, epoch after epoch: over all ranks, each row comes once an epoch.

    It keeps no place: `items` starts from the state that it is given, and who iterates knows how far it came.

    Streams are split by shards when their number is a multiple of the number of ranks, and otherwise by each rank
    skipping the rows of the others. Ranks may have unequal numbers of rows: train by steps, not by epochs.

    Resuming reads and drops the rows of the epoch that are behind: a shuffle buffer cannot be stored, and refilling it
    would lose and repeat rows. (`IterableDataset.skip` is not used, it counts per shard once the stream is split.)

    Args:
        dataset: rows, undecoded (see [`RowReader.select`]). Not split by node before.
        seed: the order of each epoch follows from it, and so does the augmentation in [`BatchLoader`]; >= 0.
        shuffle_buffer: rows held in memory to shuffle a stream; 0 keeps the order. A map-style dataset is shuffled as
            a whole whenever this is not 0.
        rank: of this process.
        world_size: number of processes. A state is only good for the same number.

    Raises:
        ValueError: when `rank` is not in [0, world_size), or a number is negative; while iterating, when an epoch
            gives this rank no row, or fewer than a loaded state has behind it.

    Example:
        >>> stream = RowStream(dataset, seed=0, shuffle_buffer=1000)
        >>> epoch, position, row = next(stream.items())
    """

    def __init__(
        self, dataset: AnyDataset, *, seed: int, shuffle_buffer: int, rank: int = 0, world_size: int = 1
    ) -> None:
        _check_rank(rank, world_size)
        if shuffle_buffer < 0 or seed < 0:
            raise ValueError(f"`shuffle_buffer` and `seed` must not be negative, got {shuffle_buffer} and {seed}.")
        self._dataset = dataset
        self.seed = seed
        self._shuffle_buffer = shuffle_buffer
        self.rank = rank
        self._world_size = world_size

    def items(self, state: StreamState = START) -> Iterator[StreamItem]:
        """Iterate without end, from after the row that `state` was taken at."""
        for epoch in itertools.count(state["epoch"]):
            skipped = state["row"] if epoch == state["epoch"] else 0
            position = -1
            for position, row in enumerate(self._rows_of_epoch(epoch, skipped), start=skipped):
                yield StreamItem(epoch, position, row)
            if position < 0 and skipped == 0:
                raise ValueError(
                    f"The dataset gives rank {self.rank} of {self._world_size} no row at all; use fewer processes."
                )

    def _rows_of_epoch(self, epoch: int, skipped: int) -> Iterator[RawRow]:
        if isinstance(self._dataset, datasets.Dataset):
            return self._map_style_rows(epoch, skipped)
        rows = self._dataset
        if self._shuffle_buffer:
            input_shards = min(_BUFFER_INPUT_SHARDS, _shards_of_rank(rows.num_shards, self._world_size))
            rows = rows.shuffle(seed=self.seed, buffer_size=self._shuffle_buffer, max_buffer_input_shards=input_shards)
        rows = split_dataset_by_node(rows, rank=self.rank, world_size=self._world_size)
        if self._shuffle_buffer:
            rows.set_epoch(epoch)
        return _drop(whole_stream(rows), skipped)

    def _map_style_rows(self, epoch: int, skipped: int) -> Iterator[RawRow]:
        order = np.arange(len(self._dataset))
        if self._shuffle_buffer:
            order = np.random.default_rng([self.seed, epoch]).permutation(order)
        mine = order[self.rank :: self._world_size]
        _check_enough(skipped, len(mine))
        for position in mine[skipped:]:
            yield self._dataset[int(position)]


def one_pass_batches(
    dataset: AnyDataset, batch_size: int, *, rank: int = 0, world_size: int = 1
) -> Iterator[tuple[int, list[RawRow]]]:
    """Cut a dataset, in its order, into consecutive batches; batch k belongs to rank k modulo `world_size`.

    A batch holds the same rows however many ranks there are, so scores are the same to the last bit. Rows of other
    ranks are read undecoded and dropped (a map-style dataset does not read them at all).

    Args:
        dataset: rows, undecoded (see [`RowReader.select`]).
        batch_size: rows of each batch but the last, which may be smaller.
        rank: of this process.
        world_size: number of processes.

    Returns:
        Iterator over (number of the batch, its rows).

    Raises:
        ValueError: when `batch_size` is not positive or `rank` is not in [0, world_size).
    """
    _check_rank(rank, world_size)
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be positive, got {batch_size}.")
    if isinstance(dataset, datasets.Dataset):
        return _map_style_batches(dataset, batch_size, rank, world_size)
    return _streamed_batches(dataset, batch_size, rank, world_size)


def count_rows(dataset: AnyDataset) -> int | None:
    """Number of rows of a dataset as opened, or None for a stream whose source does not say.

    A stream that was filtered or cut still reports the number of its source.
    """
    if isinstance(dataset, datasets.Dataset):
        return len(dataset)
    splits = dataset.info.splits or {}
    split = splits.get(str(dataset.split))
    return None if split is None or not split.num_examples else split.num_examples


def _map_style_batches(
    dataset: datasets.Dataset, batch_size: int, rank: int, world_size: int
) -> Iterator[tuple[int, list[RawRow]]]:
    for number in range(rank, -(-len(dataset) // batch_size), world_size):
        stop = min((number + 1) * batch_size, len(dataset))
        yield number, [dataset[position] for position in range(number * batch_size, stop)]


def _streamed_batches(
    dataset: datasets.IterableDataset, batch_size: int, rank: int, world_size: int
) -> Iterator[tuple[int, list[RawRow]]]:
    rows = whole_stream(dataset)
    for number in itertools.count():
        batch = list(itertools.islice(rows, batch_size))
        if not batch:
            return
        if number % world_size == rank:
            yield number, batch


def _drop(rows: Iterable[RawRow], count: int) -> Iterator[RawRow]:
    dropped = 0
    for row in rows:
        if dropped < count:
            dropped += 1
        else:
            yield row
    _check_enough(count, dropped)


def _shards_of_rank(num_shards: int, world_size: int) -> int:
    return num_shards if num_shards % world_size else num_shards // world_size  # as `split_dataset_by_node` does


def _check_enough(behind: int, available: int) -> None:
    if available < behind:
        raise ValueError(
            f"The state to resume from has {behind} rows of the epoch behind it, but the epoch has only {available} "
            "on this rank: was the dataset or the number of processes changed?"
        )


def _check_rank(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise ValueError(f"`rank` must be at least 0 and below `world_size`, got {rank} of {world_size}.")


__all__ = ["START", "RawRow", "RowStream", "StreamItem", "StreamState", "count_rows", "one_pass_batches"]
