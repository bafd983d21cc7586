"""A second run into an output is refused at once, before it changes anything."""

import os

import pytest

from ram_hf.tagging.locks import locked_outputs


def locked(file=None, folder=None, beside=()):
    return locked_outputs(file=file, folder=folder, beside=[str(path) for path in beside])


@pytest.mark.parametrize("name", ["tags.jsonl", "tags.csv", "tags.parquet"])
def test_a_file(tmp_path, name):
    (tmp_path / "link.jsonl").symlink_to(tmp_path / name)
    with locked(tmp_path / name), locked(tmp_path / f"other-{name}"):
        for path in (tmp_path / name, tmp_path / "link.jsonl"):
            with pytest.raises(BlockingIOError, match=name), locked(path):
                pass
    assert os.listdir(tmp_path) == ["link.jsonl"]
    with locked(tmp_path / "gone" / name):
        pass  # the writer says what is wrong


def test_a_folder_of_overlays_is_made_and_vanishes_when_nothing_is_written(tmp_path):
    with locked(folder=tmp_path / "deep" / "drawn"):
        with pytest.raises(BlockingIOError), locked(folder=tmp_path / "deep" / "drawn"):
            pass
        assert (tmp_path / "deep" / "drawn").is_dir()
    assert os.listdir(tmp_path) == []
    with locked(folder=tmp_path / "drawn"):
        (tmp_path / "drawn" / "a.jpg").touch()
    assert os.listdir(tmp_path / "drawn") == ["a.jpg"]


@pytest.mark.parametrize("more", [0, 100])
def test_pictures_that_get_sidecars(tmp_path, more):
    for folder in ("a/b/c", "d", *(f"d/{index}" for index in range(more))):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    many = [tmp_path / "d" / str(index) / "z.jpg" for index in range(more)]
    with locked(beside=[tmp_path / "a" / "b" / "x.jpg", *many]):
        for refused in ("a/b/y.jpg", "a/b/c/y.jpg", *(["d/7/y.jpg"] if more else [])):
            with pytest.raises(BlockingIOError), locked(beside=[tmp_path / refused]):
                pass
        with pytest.raises(BlockingIOError), locked(beside=[tmp_path / "a" / "y.jpg", tmp_path / "a" / "b" / "x.jpg"]):
            pass
        if not more:
            with locked(beside=[tmp_path / "d" / "x.jpg"]):
                pass
    assert not list(tmp_path.rglob("*.lock"))
