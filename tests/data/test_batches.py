import subprocess
import sys
import threading
import time

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ram_hf.data.batches import BatchLoader, PrepareRow, Sample, evaluation_batches, map_ahead
from ram_hf.data.sources import RowReader, open_dataset
from ram_hf.data.streams import RowStream
from ram_hf.data.transforms import EvalTransform, TrainTransform

from .conftest import image_rows

MEAN = STD = (0.5, 0.5, 0.5)


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ram_hf")]


def prepare_number(row, rng) -> Sample:
    """The row's number and a random draw, as pixels; slow for some, so that workers overtake each other."""
    time.sleep(0.001 * (row["number"] % 3 == 0))
    return Sample(np.array([row["number"], rng.random()], dtype=np.float32), np.zeros(1, dtype=np.float32))


def make_loader(dataset, *, workers=0, shuffle_buffer=4, batch_size=3, **options) -> BatchLoader:
    stream = RowStream(dataset, seed=5, shuffle_buffer=shuffle_buffer)
    return BatchLoader(stream, prepare_number, batch_size=batch_size, num_workers=workers, **options)


def take(loader: BatchLoader, count: int) -> list[tuple[list, dict]]:
    with loader:
        return [
            (inputs["pixel_values"].tolist(), state) for (inputs, state), _ in zip(loader, range(count), strict=False)
        ]


@pytest.mark.parametrize("shards", [None, 3])
def test_workers_change_nothing(make_numbered, shards):
    dataset = make_numbered(10, shards)
    expected = take(make_loader(dataset), 8)
    for workers in (1, 3):
        assert take(make_loader(dataset, workers=workers), 8) == expected


@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(4, 20),
    shards=st.none() | st.integers(1, 4),
    workers=st.sampled_from([0, 2]),
    batch_size=st.integers(1, 6),
    cut=st.integers(1, 6),
)
def test_resuming_with_prefetch_in_flight(make_numbered, rows, shards, workers, batch_size, cut):
    dataset = make_numbered(rows, shards)
    options = {"workers": workers, "batch_size": batch_size}
    expected = take(make_loader(dataset, **options), cut + 4)
    with make_loader(dataset, **options) as broken:
        for _, (inputs, state) in zip(range(cut), broken, strict=False):
            last = inputs, state
        assert broken.state_dict() == last[1] == expected[cut - 1][1]
        resumed = make_loader(dataset, **options)
        resumed.load_state_dict(last[1])
        assert take(resumed, 4) == expected[cut:]
        assert take(broken, 4) == expected[cut:]  # leaving a loop and going on loses nothing either


def test_augmented_pictures_are_the_same_after_resuming(strings_dataset, tmp_path):
    strings_dataset.to_parquet(tmp_path / "train.parquet")
    dataset = open_dataset(tmp_path / "train.parquet", split="train")
    reader = RowReader.from_dataset(dataset, label_column="labels")
    prepare = PrepareRow(reader, TrainTransform(16, MEAN, STD), label_names=["sea", "beach"])

    def loader(workers: int) -> BatchLoader:
        stream = RowStream(reader.select(dataset), seed=0, shuffle_buffer=3)
        return BatchLoader(stream, prepare, batch_size=2, num_workers=workers)

    with loader(0) as unbroken, loader(2) as resumed:
        batches = [batch for batch, _ in zip(unbroken, range(6), strict=False)]
        resumed.load_state_dict(batches[1].state)
        for expected, (inputs, state) in zip(batches[2:], resumed, strict=False):
            assert state == expected.state
            assert torch.equal(inputs["pixel_values"], expected.inputs["pixel_values"])
            assert torch.equal(inputs["labels"], expected.inputs["labels"])
    pixels = [batch.inputs["pixel_values"] for batch in batches]
    assert pixels[0].shape == (2, 3, 16, 16)
    assert pixels[0].dtype == batches[0].inputs["labels"].dtype == torch.float32
    # Five rows: each comes again in the second epoch, augmented anew.
    assert torch.unique(torch.cat(pixels[:5]).flatten(1), dim=0).shape[0] == 10


def test_ranks_and_seeds_draw_differently(make_numbered):
    dataset = make_numbered(8, None)
    draws = set()
    for seed, rank in ((0, 0), (0, 1), (1, 0)):
        stream = RowStream(dataset, seed=seed, shuffle_buffer=0, rank=rank, world_size=2)
        batches = take(BatchLoader(stream, prepare_number, batch_size=4), 2)
        draws |= {draw for pixels, _ in batches for _, draw in pixels}
    assert len(draws) == 24  # 3 streams, 2 epochs, 4 rows each


def test_labels_outside_the_list_are_ignored(strings_dataset):
    reader = RowReader.from_dataset(strings_dataset, label_column="labels")
    prepare = PrepareRow(reader, EvalTransform(4, MEAN, STD), label_names=["sand", "beach", "zebra"])
    batches = list(evaluation_batches(reader.select(strings_dataset), prepare, batch_size=3))
    assert [number for number, _ in batches] == [0, 1]
    labels = torch.cat([inputs["labels"] for _, inputs in batches])
    assert labels.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0], [1, 1, 0], [0, 0, 0]]


def test_a_label_nobody_looked_for_is_minus_one(truth_columns_dataset):
    rows = truth_columns_dataset.to_list()
    rows[0]["Hat"] = -1
    features = truth_columns_dataset.features.copy() | {"Hat": datasets.Value("int8")}
    dataset = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    reader = RowReader.from_dataset(dataset, label_columns=["Female", "Hat"])
    prepare = PrepareRow(reader, EvalTransform(4, MEAN, STD), label_names=["Hat", "Female"])
    ((_, inputs),) = evaluation_batches(reader.select(dataset), prepare, batch_size=3)
    assert inputs["labels"].tolist() == [[-1, 1], [0, 0], [1, 0]]


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_does_not_depend_on_ranks_and_workers(make_numbered, workers, world_size):
    dataset = make_numbered(11, 2)
    expected = {
        number: inputs["pixel_values"] for number, inputs in evaluation_batches(dataset, prepare_number, batch_size=2)
    }
    actual = {}
    for rank in range(world_size):
        options = {"rank": rank, "world_size": world_size, "num_workers": workers}
        for number, inputs in evaluation_batches(dataset, prepare_number, batch_size=2, **options):
            actual[number] = inputs["pixel_values"]
    assert sorted(actual) == sorted(expected) == list(range(6))
    assert all(torch.equal(actual[number], expected[number]) for number in expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_picture_is_named(strings_dataset, workers):
    features = datasets.Features({"image": datasets.Image(), "labels": strings_dataset.features["labels"]})
    images = image_rows(5)
    images[3] = {"bytes": b"no picture", "path": "b/3.jpg"}
    dataset = datasets.Dataset.from_dict({"image": images, "labels": [[]] * 5}, features=features)
    reader = RowReader.from_dataset(dataset, label_column="labels")
    prepare = PrepareRow(reader, EvalTransform(8, MEAN, STD), label_names=["sea"])
    stream = RowStream(reader.select(dataset), seed=0, shuffle_buffer=0)
    with BatchLoader(stream, prepare, batch_size=2, num_workers=workers) as loader:
        batches = iter(loader)
        next(batches)  # the rows before it come through
        with pytest.raises(ValueError, match=r"row 3 of epoch 0 on rank 0: Cannot read .* \(image 'b/3.jpg'\)"):
            next(batches)
    evaluated = evaluation_batches(reader.select(dataset), prepare, batch_size=2, num_workers=workers)
    with pytest.raises(ValueError, match="Cannot prepare row 3: "):
        list(evaluated)


@pytest.mark.parametrize("workers", [0, 2])
def test_leaving_in_any_way_ends_the_threads(make_numbered, workers):
    dataset = make_numbered(50, 2)
    with make_loader(dataset, workers=workers) as loader:
        next(iter(loader))
    with pytest.raises(KeyboardInterrupt), make_loader(dataset, workers=workers) as loader:  # noqa: PT012
        for _ in loader:
            raise KeyboardInterrupt
    generator = evaluation_batches(dataset, prepare_number, batch_size=2, num_workers=workers)
    next(generator)
    generator.close()
    iter(make_loader(dataset, workers=workers))  # never asked for a batch


INTERRUPTED = """
import os, signal, threading, time
import datasets
from ram_hf.data.batches import BatchLoader
from ram_hf.data.streams import RowStream

stream = RowStream(datasets.Dataset.from_dict({"number": [1, 2, 3]}), seed=0, shuffle_buffer=0)
loader = BatchLoader(stream, lambda row, rng: time.sleep(0.2), batch_size=100, num_workers=2)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    next(iter(loader))  # waits, and nothing closes the loader but the interruption
except KeyboardInterrupt:
    print([thread.name for thread in threading.enumerate() if thread.name.startswith("ram_hf")])
"""


def test_interruption_while_waiting_ends_the_threads():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_a_process_ends_although_a_loader_was_left_open():
    code = (
        "import itertools; from ram_hf.data.batches import map_ahead\n"
        "results = map_ahead(abs, itertools.count(), num_workers=2, prefetch=4)\n"
        "print(next(results))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("0", 0), done.stderr


def test_errors_of_the_source_come_in_their_place():
    def rows():
        yield from range(3)
        raise OSError("the disk is gone")

    for workers in (0, 2):
        results = map_ahead(lambda item: item * 10, rows(), num_workers=workers, prefetch=2)
        assert [next(results) for _ in range(3)] == [0, 10, 20]
        with pytest.raises(OSError, match="the disk is gone"):
            next(results)


def test_reading_ahead_is_bounded():
    read = []
    items = (read.append(item) or item for item in range(100))
    results = map_ahead(lambda item: item, items, num_workers=2, prefetch=4)
    next(results)
    time.sleep(0.05)
    assert 4 <= len(read) <= 7
    results.close()


@pytest.mark.parametrize("option", ["batch_size", "num_workers"])
def test_wrong_numbers_are_refused(make_numbered, option):
    stream = RowStream(make_numbered(3, None), seed=0, shuffle_buffer=0)
    with pytest.raises(ValueError, match="`batch_size` must be positive and `num_workers` not negative, got"):
        BatchLoader(stream, prepare_number, **{"batch_size": 2, option: -1})


@pytest.mark.shared
def test_reference_pictures_load(coco128):
    dataset = open_dataset(coco128, split="train")
    reader = RowReader.from_dataset(dataset, label_column="labels")
    prepare = PrepareRow(reader, EvalTransform(32, MEAN, STD), label_names=["person", "dog"])
    rows = [inputs["labels"] for _, inputs in evaluation_batches(reader.select(dataset), prepare, batch_size=50)]
    labels = torch.cat(rows)
    assert labels.shape == (128, 2)
    assert labels[:, 0].sum() == sum("person" in row["labels"] for row in dataset)


def refuse_from(first_broken_epoch: int, *, after_draws: int = 0):
    """A `prepare` for four numbered rows that reads nothing any more from an epoch on."""
    calls = iter(range(10**6))

    def prepare(row, rng) -> Sample:
        if next(calls) >= 4 * first_broken_epoch + after_draws:
            raise ValueError("broken")
        return prepare_number(row, rng)

    return prepare


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shards", [None, 2])
def test_without_any_readable_row_passing_over_ends_after_one_epoch(make_numbered, workers, shards):
    stream = RowStream(make_numbered(4, shards), seed=5, shuffle_buffer=4)
    loader = BatchLoader(stream, refuse_from(0), batch_size=2, num_workers=workers, skip_broken=True)
    with loader, pytest.raises(ValueError, match="Not one row of epoch 0 on rank 0 could be read"):
        next(iter(loader))


@pytest.mark.parametrize(("after", "epoch"), [(0, 2), (1, 3)])
def test_rows_that_vanish_later_end_it_too(make_numbered, after, epoch):
    stream = RowStream(make_numbered(4, None), seed=5, shuffle_buffer=4)
    loader = BatchLoader(stream, refuse_from(2, after_draws=after), batch_size=1, skip_broken=True)
    with loader, pytest.raises(ValueError, match=f"Not one row of epoch {epoch} "):
        list(loader)


def test_passing_over_ends_when_resumed_in_the_middle_of_an_epoch(make_numbered):
    stream = RowStream(make_numbered(4, None), seed=5, shuffle_buffer=4)
    loader = BatchLoader(stream, refuse_from(0), batch_size=1, skip_broken=True)
    loader.load_state_dict({"epoch": 1, "row": 2})
    with loader, pytest.raises(ValueError, match="Not one row of epoch 2 "):
        next(iter(loader))


def test_one_readable_row_an_epoch_is_enough(make_numbered):
    def prepare(row, rng) -> Sample:
        if row["number"] != 2:
            raise ValueError("broken")
        return prepare_number(row, rng)

    stream = RowStream(make_numbered(4, None), seed=5, shuffle_buffer=4)
    with BatchLoader(stream, prepare, batch_size=3, skip_broken=True) as loader:
        assert [pixel[0] for pixel in next(iter(loader)).inputs["pixel_values"].tolist()] == [2, 2, 2]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2])
def test_evaluation_passes_over_broken_rows_when_told(make_numbered, workers, world_size):
    def prepare(row, rng) -> Sample:
        if row["number"] in (0, 1, 4, 6):
            raise ValueError("broken")
        return prepare_number(row, rng)

    passed_over, found = [], {}
    for rank in range(world_size):
        options = {"rank": rank, "world_size": world_size, "num_workers": workers, "passed_over": passed_over}
        for number, inputs in evaluation_batches(make_numbered(7, None), prepare, batch_size=2, **options):
            found[number] = [pixels[0] for pixels in inputs["pixel_values"].tolist()]
    assert found == {1: [2, 3], 2: [5]}  # nothing is left of the first and the last batch
    assert sorted(passed_over) == [f"Cannot prepare row {number}: broken" for number in (0, 1, 4, 6)]
    with pytest.raises(ValueError, match="row 0: broken"):
        list(evaluation_batches(make_numbered(7, None), prepare, batch_size=2, num_workers=workers))
