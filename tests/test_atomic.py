"""Writing whole or not at all."""

import errno
import os
import re
import resource
import subprocess
import sys
from contextlib import contextmanager

import pytest

from ram_hf.atomic import (
    NoRoomError,
    append,
    cut,
    drop_broken_line,
    lock,
    locked,
    locked_folder,
    refuse_used_folder,
    whole_file,
    whole_files,
    whole_folder,
    write_whole,
)


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


@contextmanager
def files_of_at_most(num_bytes):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_a_file(target):
    write_whole(target, "x" * 5000)


def write_a_folder(target):
    with whole_folder(target, replace=True) as unfinished:
        write_whole(unfinished / "a", "a")
        write_whole(unfinished / "b", "x" * 5000)


def write_files(target):
    with whole_files(target) as unfinished:
        write_whole(unfinished / "a", "a")
        write_whole(unfinished / "b", "x" * 5000)


def save_tensors(target):
    import torch
    from safetensors.torch import save_file

    with whole_files(target) as unfinished:
        save_file({"a": torch.zeros(5000)}, unfinished / "a")


@pytest.mark.parametrize("write", [write_a_file, write_a_folder, write_files, save_tensors])
@pytest.mark.parametrize("was_there", [True, False])
def test_a_disk_without_room_is_told_by_the_name_of_what_was_asked_for(tmp_path, write, was_there):
    target = tmp_path / "out"
    if was_there and write is write_a_file:
        write_whole(target, "old")
    elif was_there:
        target.mkdir()
        write_whole(target / "a", "old")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    kept = "What was there stays" if was_there else "Nothing of it is left"
    message = f"^Cannot write {re.escape(repr(str(target)))}: File too large. {kept}\\.$"
    with files_of_at_most(2000), pytest.raises(NoRoomError, match=message) as caught:
        write(target)
    assert caught.value.errno == errno.EFBIG
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert target.exists() == was_there
    write(target)


def test_appending_without_room_keeps_what_was_there(tmp_path):
    append(tmp_path / "log", "one\n", flush=True)
    with files_of_at_most(100), pytest.raises(NoRoomError, match=r"log': File too large\. It holds what it held"):
        append(tmp_path / "log", "x" * 500)
    assert (tmp_path / "log").read_text() == "one\n"
    cut(tmp_path / "log", 2)
    assert (tmp_path / "log").read_text() == "on"


def test_an_error_names_the_file_and_not_the_name_it_has_on_the_way(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "gone" / "a"))):
        write_whole(tmp_path / "gone" / "a", "a")


def test_several_files_take_their_places_together(tmp_path):
    for name in ("a", "mine"):
        write_whole(tmp_path / name, "old")
    with whole_files(tmp_path) as unfinished:
        (unfinished / "a").write_text("new")
        (unfinished / "deep").mkdir()
        (unfinished / "deep" / "b").write_text("new")
        assert (tmp_path / "a").read_text() == "old"
    contents = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert contents == {"a": "new", "deep/b": "new", "mine": "old"}


@pytest.mark.parametrize("holds", [locked, locked_folder])
def test_an_output_is_locked_once_and_folders_that_were_made_for_it_vanish(tmp_path, holds):
    output = tmp_path / "deep" / "out"
    with holds(output):
        with pytest.raises(BlockingIOError, match="it holds the lock"), holds(output):
            pass
        (tmp_path / "link").symlink_to(output)
        with pytest.raises(BlockingIOError), holds(tmp_path / "link"):
            pass
        with holds(tmp_path / "deep" / "other"):
            pass
    assert os.listdir(tmp_path) == ["link"]


def test_what_killed_runs_left_is_removed_and_what_others_write_is_not(tmp_path):
    out = tmp_path / "out"
    write = f"""
import os, sys
from pathlib import Path
from ram_hf.atomic import locked, whole_file, whole_folder
with whole_folder({str(out)!r}) as folder, whole_file({str(tmp_path / "a")!r}) as file:
    (folder / "part").write_text("half")
    file.write_text("half")
    print(flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", write], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        on_their_way = sorted(os.listdir(tmp_path))
        assert len(on_their_way) == 2
        with locked(out):
            assert set(on_their_way) < set(os.listdir(tmp_path))  # the process lives
        process.kill()
    assert sorted(os.listdir(tmp_path)) == on_their_way
    (tmp_path / ".ram_hf-notes").touch()  # somebody's own
    with locked(out):
        pass
    assert os.listdir(tmp_path) == [".ram_hf-notes"]
