"""Writing whole or not at all."""

import os
import subprocess
import sys

import pytest

from ram_hf.atomic import append, drop_broken_line, lock, refuse_used_folder, whole_file, whole_folder, write_whole


class Stopped(BaseException):
    """As an interrupt from the keyboard: no Exception."""


def stop_while_writing(file):
    file.write_text("half")
    raise Stopped


def test_a_file_appears_whole(tmp_path):
    file = tmp_path / "tags.txt"
    write_whole(file, "old\n")
    with whole_file(file) as unfinished:
        unfinished.write_text("new")
        assert file.read_text() == "old\n"
    assert file.read_text() == "new"
    assert os.listdir(tmp_path) == ["tags.txt"]


def test_a_file_whose_writing_fails_stays_as_it_was(tmp_path):
    file = tmp_path / "tags.txt"
    write_whole(file, b"old")
    with pytest.raises(Stopped), whole_file(file) as unfinished:
        stop_while_writing(unfinished)
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["tags.txt"]


def test_newlines_are_written_as_they_are(tmp_path):
    write_whole(tmp_path / "a", "ä\r\nb\n")
    assert (tmp_path / "a").read_bytes() == "ä\r\nb\n".encode()


def test_appending_makes_and_grows(tmp_path):
    append(tmp_path / "log", "one\n")
    append(tmp_path / "log", b"two\n")
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_a_folder_appears_whole(tmp_path):
    target = tmp_path / "deep" / "shards"
    with whole_folder(target) as unfinished:
        (unfinished / "a").write_text("a")
        assert not target.exists()
    assert (target / "a").read_text() == "a"
    assert os.listdir(target.parent) == ["shards"]


def test_a_folder_whose_writing_fails_leaves_nothing(tmp_path):
    with pytest.raises(Stopped), whole_folder(tmp_path / "deep" / "shards") as unfinished:
        stop_while_writing(unfinished / "a")
    assert os.listdir(tmp_path) == []


def test_a_used_folder_is_refused(tmp_path):
    write_whole(tmp_path / "mine", "mine")
    with pytest.raises(FileExistsError, match="not an empty folder"), whole_folder(tmp_path):
        pass
    with pytest.raises(FileExistsError, match="not an empty folder"):
        refuse_used_folder(tmp_path / "mine")
    assert os.listdir(tmp_path) == ["mine"]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "new").mkdir()
    with whole_folder(tmp_path / "new") as unfinished:
        write_whole(unfinished / "a", "a")
    assert os.listdir(tmp_path) == ["new"]
    assert os.listdir(tmp_path / "new") == ["a"]


def test_a_folder_is_replaced_at_the_end(tmp_path):
    target = tmp_path / "model"
    for content in ("old", "new"):
        with whole_folder(target, replace=True) as unfinished:
            write_whole(unfinished / content, content)
    assert os.listdir(target) == ["new"]
    with pytest.raises(Stopped), whole_folder(target, replace=True):
        raise Stopped
    assert os.listdir(target) == ["new"]
    assert os.listdir(tmp_path) == ["model"]


def test_two_files_of_a_folder_are_written_at_once(tmp_path):
    with whole_file(tmp_path / "a") as first, whole_file(tmp_path / "b") as second:
        first.write_text("a")
        second.write_text("b")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a": "a", "b": "b"}


def test_a_broken_line_is_cut_off(tmp_path):
    drop_broken_line(tmp_path / "log")
    assert os.listdir(tmp_path) == []
    for content, kept in ((b"a\nb", b"a\n"), (b"a\n", b"a\n"), (b"a", b""), (b"", b"")):
        write_whole(tmp_path / "log", content)
        drop_broken_line(tmp_path / "log")
        assert (tmp_path / "log").read_bytes() == kept


def test_a_lock_is_held_once_and_leaves_nothing(tmp_path):
    file = tmp_path / ".tags.lock"
    with lock(file):
        with (
            pytest.raises(BlockingIOError, match=r"Another run writes there: it holds the lock '.*\.tags\.lock'"),
            lock(file),
        ):
            pass
        assert os.listdir(tmp_path) == [".tags.lock"]
    assert os.listdir(tmp_path) == []
    with pytest.raises(Stopped), lock(file):
        raise Stopped
    with lock(file):
        pass


def test_a_lock_of_a_killed_process_does_not_block(tmp_path):
    file = tmp_path / ".tags.lock"
    program = (
        f"import time; from ram_hf.atomic import lock\nwith lock({str(file)!r}): print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"\n"
        with pytest.raises(BlockingIOError), lock(file):
            pass
        holder.kill()
    assert os.listdir(tmp_path) == [".tags.lock"]
    with lock(file):
        pass
    assert os.listdir(tmp_path) == []
