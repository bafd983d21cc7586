import csv
import json
import os
import sys

import pyarrow.parquet as pq
import pytest

from ram_hf.tagging.outputs import TaggedImage, TagOptions
from ram_hf.tagging.writers import make_writer

OPTIONS = TagOptions(("dog", "rød, bil", "tree"), 2, None)
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


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"Parquet needs pyarrow: pip install 'ram_hf\[tag\]'"):
        make_writer(tmp_path / "tags.parquet", OPTIONS, resume=False)
