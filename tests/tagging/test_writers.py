import csv
import json
import os
import resource
import sys
from contextlib import contextmanager

import pyarrow.parquet as pq
import pytest

from ram_hf.tagging.outputs import TaggedImage, TagOptions
from ram_hf.tagging.vocabulary import Vocabulary
from ram_hf.tagging.writers import make_writer

OPTIONS = TagOptions(Vocabulary.of(["dog", "rød, bil", "tree"]), 2, None)
PICTURES = [
    TaggedImage("a.jpg", [{"label": "dog", "score": 0.123456789}, {"label": "rød, bil", "score": 1e-7}]),
    TaggedImage('new\nline "and", comma.jpg', [{"label": "tree", "score": 1.0}, {"label": "dog", "score": 0.0}]),
    TaggedImage("latin-\udce9.jpg", [], "cannot read latin-\udce9.jpg"),
]
ROWS = [
    {
        "path": "a.jpg",
        "tags": [{"label": "dog", "score": 0.123457}, {"label": "rød, bil", "score": 1e-7}],
        "error": None,
    },
    {
        "path": 'new\nline "and", comma.jpg',
        "tags": [{"label": "tree", "score": 1.0}, {"label": "dog", "score": 0.0}],
        "error": None,
    },
    {"path": "latin-\\xe9.jpg", "tags": [], "error": "cannot read latin-\\xe9.jpg"},
]
FORMATS = (".jsonl", ".csv", ".parquet")


def read(file) -> list[dict]:
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pylist()
    with file.open(encoding="utf-8", newline="") as lines:
        found = list(csv.DictReader(lines))
    assert list(found[0]) == ["path", "tags", "error"]
    return [row | {"tags": json.loads(row["tags"]), "error": row["error"] or None} for row in found]


@pytest.fixture(params=FORMATS)
def file(request, tmp_path):
    return tmp_path / f"tags{request.param}"


def test_rows_come_back(file):
    writer = make_writer(file, OPTIONS, resume=False)
    assert writer.write(PICTURES[:2]) == PICTURES[:2]
    writer.write(PICTURES[2:])
    writer.finish()
    assert read(file) == ROWS
    assert list(file.parent.iterdir()) == [file]


def test_going_on_equals_one_run(file):
    """Stopped well, killed after any batch, and in the middle of a row."""
    first = make_writer(file, OPTIONS, resume=False)
    first.write(PICTURES[:1])
    first.finish()
    killed = make_writer(file, OPTIONS, resume=True)
    assert [killed.holds(image.path) for image in PICTURES] == [True, False, False]
    killed.write(PICTURES[:2])
    rows = file if file.suffix == ".jsonl" else file.with_name(f"{file.name}.partial.jsonl")
    with rows.open("ab") as lines:
        lines.write(b'{"path": "latin')
    resumed = make_writer(file, OPTIONS, resume=True)
    assert [resumed.holds(image.path) for image in PICTURES] == [True, True, False]
    resumed.write(PICTURES)
    resumed.finish()
    assert read(file) == ROWS
    again = make_writer(file, OPTIONS, resume=True)
    assert all(again.holds(image.path) for image in PICTURES)
    again.finish()
    assert read(file) == ROWS
    assert list(file.parent.iterdir()) == [file]


def test_an_existing_file_is_refused_and_left_alone(file):
    file.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"exists. Pass `--resume`"):
        make_writer(file, OPTIONS, resume=False).refuse_existing([])
    assert file.read_bytes() == b"mine"
    with pytest.raises(ValueError, match=r"tags|Parquet"):
        make_writer(file, OPTIONS, resume=True)
    assert list(file.parent.iterdir()) == [file]
    assert file.read_bytes() == b"mine"
    file.unlink()
    make_writer(file, OPTIONS, resume=False).refuse_existing([])


def test_a_foreign_parquet_is_refused(tmp_path):
    import pyarrow as pa

    pq.write_table(pa.table({"x": [1]}), tmp_path / "tags.parquet")
    with pytest.raises(ValueError, match="does not hold rows that `ram-hf tag` writes"):
        make_writer(tmp_path / "tags.parquet", OPTIONS, resume=True)


def test_an_empty_run_leaves_an_empty_file(file):
    make_writer(file, OPTIONS, resume=False).finish()
    assert file.exists()
    assert file.suffix == ".csv" or read(file) == []


def test_a_killed_conversion_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "tags.csv"
    writer = make_writer(file, OPTIONS, resume=False)
    writer.write(PICTURES[:1])
    writer.finish()
    old = file.read_bytes()
    resumed = make_writer(file, OPTIONS, resume=True)
    resumed.write(PICTURES)

    def failing(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="No space left"):
        resumed.finish()
    monkeypatch.undo()
    assert file.read_bytes() == old
    make_writer(file, OPTIONS, resume=True).finish()
    assert read(file) == ROWS


@contextmanager
def files_of_at_most(num_bytes):
    """As a full disk: the system takes a part of what is written, and says so at the next call."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def rows_of(file):
    return file if file.suffix == ".jsonl" else file.with_name(f"{file.name}.partial.jsonl")


def many(begin, end):
    tags = PICTURES[0].tags
    return [TaggedImage(f"{'long' * 50}/{index}.jpg", tags) for index in range(begin, end)]


def test_a_disk_that_is_full_loses_no_row_and_is_told(file):
    writer = make_writer(file, OPTIONS, resume=False)
    writer.write(many(0, 10))
    with files_of_at_most(5_000), pytest.raises(OSError, match="File too large") as caught:
        writer.write(many(10, 30))
    assert f"Cannot write {str(rows_of(file))!r}: " in str(caught.value)
    assert "What was written before, 10 rows, is kept in" in str(caught.value)
    assert "the same command with `--resume` goes on" in str(caught.value)
    assert [json.loads(line)["path"] for line in rows_of(file).read_text().splitlines()] == [
        image.path for image in many(0, 10)
    ]
    resumed = make_writer(file, OPTIONS, resume=True)
    resumed.write(many(0, 30))
    resumed.finish()
    assert read(file) == [image.to_row() for image in many(0, 30)]


@pytest.mark.parametrize("left", [0, 700, 2_499])
def test_rows_that_are_gone_at_the_end_are_missed(file, left):
    writer = make_writer(file, OPTIONS, resume=False)
    writer.write(many(0, 10))
    os.truncate(rows_of(file), left)
    with pytest.raises(OSError, match=r"rows where 10 were written.*with `--resume` tags what is missing"):
        writer.finish()
    assert rows_of(file).stat().st_size == left
    assert os.listdir(file.parent) == [rows_of(file).name]
    resumed = make_writer(file, OPTIONS, resume=True)
    resumed.write(many(0, 10))
    resumed.finish()
    assert read(file) == [image.to_row() for image in many(0, 10)]


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_conversion_that_does_not_fit_keeps_the_rows(tmp_path, ending):
    file = tmp_path / f"tags{ending}"
    writer = make_writer(file, OPTIONS, resume=False)
    writer.write(many(0, 100))
    with files_of_at_most(600), pytest.raises(OSError, match=r"Cannot write .*kept in .*partial.jsonl.*--resume"):
        writer.finish()
    assert os.listdir(tmp_path) == [rows_of(file).name]
    make_writer(file, OPTIONS, resume=True).finish()
    assert read(file) == [image.to_row() for image in many(0, 100)]


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"Parquet needs pyarrow: pip install 'ram_hf\[tag\]'"):
        make_writer(tmp_path / "tags.parquet", OPTIONS, resume=False)
