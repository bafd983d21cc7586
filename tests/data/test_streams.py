import gc
import itertools
import time
from collections import Counter

import datasets
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ram_hf.data.sources import open_dataset
from ram_hf.data.streams import START, RowStream, StreamState, count_rows, one_pass_batches

quick = settings(max_examples=25, deadline=None)
layouts = {
    "rows": st.integers(1, 40),
    "shards": st.none() | st.integers(1, 7),  # None: map-style
    "world_size": st.integers(1, 4),
    "shuffle_buffer": st.sampled_from([0, 1, 4, 100]),
    "seed": st.integers(0, 1000),
}


def take(stream: RowStream, count: int, state: StreamState = START) -> list[tuple[int, int, int]]:
    return [(epoch, position, row["number"]) for epoch, position, row in itertools.islice(stream.items(state), count)]


def first_epochs(stream: RowStream, count: int) -> list[list[int]]:
    """The numbers of the first epochs of one rank; positions are checked on the way."""
    epochs: list[list[int]] = [[] for _ in range(count)]
    for epoch, position, row in stream.items():
        if epoch == count:
            break
        assert position == len(epochs[epoch])
        epochs[epoch].append(row["number"])
    return epochs


def has_rows_for_all(dataset, rows: int, world_size: int) -> bool:
    if isinstance(dataset, datasets.IterableDataset) and dataset.num_shards % world_size == 0:
        return rows >= dataset.num_shards
    return rows >= world_size


@quick
@given(**layouts)
def test_each_row_comes_once_an_epoch_over_all_ranks(make_numbered, rows, shards, world_size, shuffle_buffer, seed):
    dataset = make_numbered(rows, shards and min(shards, rows))
    assume(has_rows_for_all(dataset, rows, world_size))
    ranks = [
        first_epochs(
            RowStream(dataset, seed=seed, shuffle_buffer=shuffle_buffer, rank=rank, world_size=world_size), count=3
        )
        for rank in range(world_size)
    ]
    for epoch in range(3):
        assert sorted(itertools.chain(*(rank[epoch] for rank in ranks))) == list(range(rows))


@quick
@given(cut=st.integers(0, 60), rank=st.integers(0, 3), **layouts)
def test_resuming_equals_the_unbroken_run(make_numbered, rows, shards, world_size, shuffle_buffer, seed, cut, rank):
    dataset = make_numbered(rows, shards and min(shards, rows))
    assume(has_rows_for_all(dataset, rows, world_size))
    options = {"seed": seed, "shuffle_buffer": shuffle_buffer, "rank": rank % world_size, "world_size": world_size}
    expected = take(RowStream(dataset, **options), cut + 30)
    state = START if cut == 0 else StreamState(epoch=expected[cut - 1][0], row=expected[cut - 1][1] + 1)
    assert take(RowStream(dataset, **options), 30, state) == expected[cut:]


def test_parquet_shards(parquet_shards):
    for world_size in (1, 2, 3):
        seen = []
        for rank in range(world_size):
            dataset = open_dataset(parquet_shards, split="train").select_columns(["labels"])
            stream = RowStream(dataset, seed=0, shuffle_buffer=3, rank=rank, world_size=world_size)
            expected = list(itertools.islice(stream.items(), 6))
            seen += [str(row["labels"]) for epoch, _, row in expected if epoch == 0]
            state = StreamState(epoch=expected[2].epoch, row=expected[2].position + 1)
            assert list(itertools.islice(stream.items(state), 3)) == expected[3:]
        assert sorted(seen) == sorted(str(labels) for labels in dataset["labels"])


def test_one_parquet_shard_does_not_wait_at_the_end_of_an_epoch(parquet_shards, monkeypatch):
    gc.collect()  # streams of other tests, which may
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"slept {seconds} seconds"))
    dataset = open_dataset(parquet_shards, split="test")
    stream = RowStream(dataset, seed=0, shuffle_buffer=3)
    assert len(list(itertools.islice(stream.items(), 10))) == 10


@pytest.mark.parametrize("shards", [None, 4])
def test_epochs_and_seeds_differ_in_order(make_numbered, shards):
    dataset = make_numbered(40, shards)
    epochs = first_epochs(RowStream(dataset, seed=0, shuffle_buffer=10), 3)
    other = first_epochs(RowStream(dataset, seed=1, shuffle_buffer=10), 1)
    assert len({tuple(order) for order in [*epochs, *other]}) == 4
    in_order = first_epochs(RowStream(dataset, seed=0, shuffle_buffer=0), 2)
    assert in_order == [list(range(40))] * 2


def asked_to_shuffle(monkeypatch, stream: RowStream) -> list[dict]:
    """What `datasets` is asked to shuffle with when the stream gives its first row."""
    asked: list[dict] = []
    shuffle = datasets.IterableDataset.shuffle

    def record(self, **arguments):
        asked.append(arguments)
        return shuffle(self, **arguments)

    monkeypatch.setattr(datasets.IterableDataset, "shuffle", record)
    next(stream.items())
    return asked


@pytest.mark.parametrize(
    ("shards", "world_size", "input_shards"),
    [(1, 1, 1), (4, 1, 4), (4, 2, 2), (4, 3, 4), (24, 2, 10), (9, 1, 9), (11, 1, 10)],
)
def test_the_shuffle_buffer_reads_from_the_shards_of_its_rank(
    make_numbered, monkeypatch, shards, world_size, input_shards
):
    """Each rank fills its buffer from its own shards, up to ten: a number beyond would make `datasets` wait."""
    stream = RowStream(make_numbered(48, shards), seed=3, shuffle_buffer=5, world_size=world_size)
    assert asked_to_shuffle(monkeypatch, stream) == [
        {"seed": 3, "buffer_size": 5, "max_buffer_input_shards": input_shards}
    ]


@pytest.mark.parametrize("shards", [None, 1])
def test_wrong_uses_are_refused(make_numbered, shards):
    dataset = make_numbered(2, shards)
    with pytest.raises(ValueError, match="got 2 of 2"):
        RowStream(dataset, seed=0, shuffle_buffer=0, rank=2, world_size=2)
    with pytest.raises(ValueError, match="`shuffle_buffer` and `seed` must not be negative, got -1 and 0"):
        RowStream(dataset, seed=0, shuffle_buffer=-1)
    with pytest.raises(ValueError, match="gives rank 2 of 3 no row at all"):
        next(RowStream(dataset, seed=0, shuffle_buffer=0, rank=2, world_size=3).items())
    stream = RowStream(dataset, seed=0, shuffle_buffer=4)
    with pytest.raises(ValueError, match="5 rows of the epoch behind it, but the epoch has only 2 on this rank"):
        next(stream.items(StreamState(epoch=1, row=5)))
    with pytest.raises(ValueError, match="got -1 of 2"):
        RowStream(dataset, seed=0, shuffle_buffer=0, rank=-1, world_size=2)
    with pytest.raises(ValueError, match="got 0 and -1"):
        RowStream(dataset, seed=-1, shuffle_buffer=0)
    exactly_done = RowStream(dataset, seed=0, shuffle_buffer=0).items(StreamState(epoch=1, row=2))
    assert next(exactly_done)[:2] == (2, 0)


@quick
@given(
    rows=st.integers(0, 30),
    shards=st.none() | st.integers(1, 5),
    batch_size=st.integers(1, 7),
    world_size=st.integers(1, 4),
)
def test_evaluation_batches_do_not_depend_on_the_number_of_ranks(make_numbered, rows, shards, batch_size, world_size):
    dataset = make_numbered(rows, shards and (min(shards, rows) or None))  # `datasets` shards no empty dataset
    seen = Counter()
    batches = {}
    for rank in range(world_size):
        for number, batch in one_pass_batches(dataset, batch_size, rank=rank, world_size=world_size):
            assert number % world_size == rank
            seen[number] += 1
            batches[number] = [row["number"] for row in batch]
    assert set(seen.values()) <= {1}
    expected = [list(range(start, min(start + batch_size, rows))) for start in range(0, rows, batch_size)]
    assert [batches[number] for number in sorted(batches)] == expected


def test_batch_size_is_checked(make_numbered):
    with pytest.raises(ValueError, match="`batch_size` must be positive, got 0"):
        one_pass_batches(make_numbered(3, 1), 0)


def test_rows_are_counted_where_the_source_says(make_numbered):
    assert count_rows(make_numbered(7, None)) == 7
    stream = make_numbered(7, 2)
    assert count_rows(stream) is None
    splits = datasets.SplitDict({"train": datasets.SplitInfo("train", num_examples=7)})
    info = datasets.DatasetInfo(splits=splits)
    known = datasets.IterableDataset(stream._ex_iterable, info=info, split=datasets.Split.TRAIN)
    assert count_rows(known) == 7
