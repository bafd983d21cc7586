"""Writing whole or not at all: the only place that opens a file for writing. Standard library alone.

What is written stands under another name in the same folder until it is complete (and on the disk, where it replaces
something), so that a full disk, a killed process or a power cut leaves what was there before.
"""

import errno
import itertools
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_IS_WINDOWS = os.name == "nt"
_numbers = itertools.count()  # several files of a folder can be on their way at once
_UNFINISHED_FILE = re.compile(r"\.ram_hf-\d+-\d+\.unfinished")
_UNFINISHED_FILES = ".ram_hf.unfinished"  # folder in which several are made
_LOCK = ".ram_hf.lock"
_NO_ROOM = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name)}
_RUST_ERROR = re.compile(r"\(os error (\d+)\)")  # as safetensors tells what the system said


class NoRoomError(OSError):
    """The disk is full, or takes no file that large: the next file will fare no better.

    Attributes:
        strerror: the reason, as the system says it.
        filename: what could not be written.
        kept: sentences that say what is left.
    """

    def __init__(self, number: int, file: str | os.PathLike, kept: str) -> None:
        super().__init__(number, os.strerror(number), os.fspath(file))
        self.kept = kept

    def __str__(self) -> str:
        return f"Cannot write {self.filename!r}: {self.strerror}. {self.kept}"


@contextmanager
def whole_file(file: str | os.PathLike) -> Iterator[Path]:
    """Give a path to write to in the same folder, which takes the file's place when the block ends well.

    Args:
        file: the file to make or to replace, in a folder that exists.

    Yields:
        Path of a file that is empty or does not exist yet, without the ending of `file`.

    Raises:
        NoRoomError: when the disk is full; what was there stays.
        OSError: when it cannot be written for another reason; what was there stays too.
    """
    file = Path(file)
    # Short: a name can have the full length.
    unfinished = file.with_name(f".ram_hf-{os.getpid()}-{next(_numbers)}.unfinished")
    unfinished.unlink(missing_ok=True)  # a link that somebody put there would be written through
    try:
        with _held(unfinished):
            yield unfinished
            if file.exists():  # what a power cut could take; thousands of new ones are not worth waiting for the disk
                _flush(unfinished)
            os.replace(unfinished, file)
    except BaseException as error:  # an interrupt from the keyboard too
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        _tell_in_the_name_of(file, error, unfinished, was_there=file.exists())
        raise


@contextmanager
def whole_files(folder: str | os.PathLike) -> Iterator[Path]:
    """Give a folder to write files in, which take their places in `folder` when the block ends well.

    All are written before the first takes its place: on a full disk none of the files that they replace is gone. Other
    files in `folder` stay; it is made when it is not there.

    Raises:
        NoRoomError: when the disk is full; what was there stays.
        OSError: when they cannot be written for another reason; what was there stays too.
    """
    folder = Path(folder)
    unfinished, was_there = folder / _UNFINISHED_FILES, folder.exists()
    with _made(folder):
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            unfinished.mkdir()
            yield unfinished
            files = sorted(path for path in unfinished.rglob("*") if path.is_file())
            for path in files:
                _flush(path)
            for path in files:
                place = folder / path.relative_to(unfinished)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, place)
        except BaseException as error:  # an interrupt from the keyboard too
            shutil.rmtree(unfinished, ignore_errors=True)
            _tell_in_the_name_of(folder, error, unfinished, was_there=was_there)
            raise
        shutil.rmtree(unfinished, ignore_errors=True)


def write_whole(file: str | os.PathLike, content: str | bytes) -> None:
    """Make or replace a file; text is written as UTF-8, with its newlines as they are. See [`whole_file`]."""
    with whole_file(file) as unfinished:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)


def append(file: str | os.PathLike, content: str | bytes, *, flush: bool = False) -> None:
    """Add to the end of a file in one call of the system, so that a killed process leaves at most one broken line.

    Args:
        file: made when it is not there.
        content: text is written as UTF-8.
        flush: wait until the disk has it.

    Raises:
        NoRoomError: when the disk takes less than all of it; what it took is cut off again.
    """
    data = content.encode() if isinstance(content, str) else content
    with open(file, "ab", buffering=0) as end:
        before = end.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(data):  # a full disk takes a part, and says so at the next call
                written += end.write(data[written:])
            if flush:
                os.fsync(end.fileno())
        except OSError as error:
            end.truncate(before)
            if error.errno is not None and error.errno in _NO_ROOM:
                raise NoRoomError(error.errno, file, "It holds what it held before.") from error
            raise


def cut(file: str | os.PathLike, num_bytes: int) -> None:
    """Cut off what follows the first `num_bytes` of a file: what a killed process was appending."""
    with open(file, "rb+") as end:
        end.truncate(num_bytes)


def drop_broken_line(file: str | os.PathLike) -> None:
    """Cut off what follows the last newline: what a killed process was appending. Nothing is done without a file."""
    if not os.path.exists(file):
        return
    with open(file, "rb+") as lines:
        lines.truncate(sum(len(line) for line in lines if line.endswith(b"\n")))


@contextmanager
def whole_folder(folder: str | os.PathLike, *, replace: bool = False) -> Iterator[Path]:
    """Give a folder to write in that takes its name when the block ends well, and vanishes when it does not.

    Args:
        folder: the folder to make; its parents are made too.
        replace: take the place of a folder that is there already.

    Raises:
        FileExistsError: without `replace`, when `folder` exists and is not an empty folder.
        NoRoomError: when the disk is full; what was there stays.
        OSError: when it cannot be written for another reason; what was there stays too.
    """
    if not replace:
        refuse_used_folder(folder)
    target = Path(folder).absolute()
    new_parents = [parent for parent in target.parents if not parent.exists()]
    unfinished = target.with_name(f".{target.name}.unfinished-{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        with _held(unfinished):
            yield unfinished
            for path in unfinished.rglob("*"):
                _flush(path)
            _flush(unfinished)
            _take_place(unfinished, target)
    except BaseException as error:  # an interrupt from the keyboard too
        shutil.rmtree(unfinished, ignore_errors=True)
        for parent in new_parents:
            with suppress(OSError):
                parent.rmdir()
        _tell_in_the_name_of(Path(folder), error, unfinished, was_there=target.exists())
        raise


@contextmanager
def locked(output: str | os.PathLike) -> Iterator[None]:
    """Keep other runs from a file, or from a folder that is to be new, while the block runs: by a lock beside it.

    What killed runs left of it is removed first.

    Raises:
        BlockingIOError: when another run holds the lock; the message names it.
        OSError: when it cannot be made.
    """
    target = Path(os.path.realpath(output))
    with _made(target.parent), lock(target.with_name(f".{target.name}.lock")):
        remove_left_over(target.parent, f".{target.name}.unfinished-*")
        yield


@contextmanager
def locked_folder(folder: str | os.PathLike) -> Iterator[None]:
    """Keep other runs from a folder that grows, or whose files are replaced, while the block runs: by a lock in it.

    It is made when it is not there, and vanishes when nothing is written. What killed runs left in it is removed.

    Raises:
        BlockingIOError: when another run holds the lock; the message names it.
        OSError: when it cannot be made.
    """
    folder = Path(os.path.realpath(folder))
    with _made(folder), lock(folder / _LOCK):
        remove_left_over(folder)
        yield


def remove_left_over(folder: str | os.PathLike, folders: str | None = None) -> None:
    """Remove files that killed processes had begun in a folder, and folders that match a pattern.

    Those that a process still holds, and those on file systems that cannot tell, stay.
    """
    with suppress(OSError):
        names = [name for name in os.listdir(os.fspath(folder)) if _UNFINISHED_FILE.fullmatch(name)]
        found = [Path(folder, name) for name in names]
        for path in [*found, *(Path(folder).glob(folders) if folders else ())]:
            _remove_unless_held(path)


@contextmanager
def lock(file: str | os.PathLike) -> Iterator[None]:
    """Hold a lock file while the block runs. The system lets go of it with the process, however that ends.

    Args:
        file: the lock, in a folder that exists; it vanishes at the end. What a killed process left does not matter.

    Raises:
        BlockingIOError: when another process holds it, or this one does already.
        OSError: when it cannot be made.
    """
    held = _take_lock(Path(file))
    try:
        yield
    finally:
        if _IS_WINDOWS:  # removes nothing that is open
            held.close()
        with suppress(OSError):
            os.unlink(file)
        held.close()


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder with its parents for a block; what of them is empty at its end vanishes again."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for path in new:
            with suppress(OSError):  # not empty: it was written to
                path.rmdir()


@contextmanager
def _held(unfinished: Path) -> Iterator[None]:
    """Show other processes that a file (made here) or a folder is being written, as long as this one lives."""
    if _IS_WINDOWS:  # renames nothing that is open
        yield
        return
    flags = os.O_RDONLY if unfinished.is_dir() else os.O_RDWR | os.O_CREAT | os.O_EXCL
    descriptor = os.open(unfinished, flags, 0o666)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove_unless_held(unfinished: Path) -> None:
    if _IS_WINDOWS:  # what is not held cannot be told there
        return
    with suppress(OSError):
        descriptor = os.open(unfinished, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where it is held
            if unfinished.is_dir():
                shutil.rmtree(unfinished, ignore_errors=True)
            else:
                unfinished.unlink()
        finally:
            os.close(descriptor)


def _tell_in_the_name_of(target: Path, error: BaseException, unfinished: Path, *, was_there: bool) -> None:
    """Raise [`NoRoomError`] for an error that says so in any form; name the target where its other name stands."""
    number = error.errno if isinstance(error, OSError) else None
    if found := _RUST_ERROR.search(str(error)) if isinstance(error, Exception) else None:
        number = int(found[1])
    if number is not None and number in _NO_ROOM:  # also of a file within a folder: that is gone with it
        kept = "What was there stays." if was_there else "Nothing of it is left."
        raise NoRoomError(number, target, kept) from error
    if isinstance(error, OSError) and isinstance(error.filename, str):
        error.filename = error.filename.replace(os.fspath(unfinished), os.fspath(target))


@contextmanager
def telling_no_room(target: str | os.PathLike, kept: str) -> Iterator[None]:
    """Name the target where a library that writes there by itself finds the disk full.

    Raises:
        NoRoomError: in the place of its error; `kept` says what is left.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno not in _NO_ROOM or isinstance(error, NoRoomError):
            raise
        raise NoRoomError(error.errno, target, kept) from error


def _take_lock(file: Path) -> BinaryIO:
    while True:
        held = open(file, "ab")  # noqa: SIM115
        try:
            _lock_open_file(held)
            if os.path.samestat(os.fstat(held.fileno()), os.stat(file)):
                return held
        except FileNotFoundError:  # its last holder removed it in between: what is locked now is nobody's
            pass
        except OSError as error:
            held.close()
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
                raise BlockingIOError(
                    f"Another run writes there: it holds the lock {str(file)!r}. Wait for its end, or choose another "
                    "output."
                ) from None
            raise
        held.close()


def _lock_open_file(file: BinaryIO) -> None:
    if sys.platform == "win32":
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):  # a file system without locks
            raise


def refuse_used_folder(folder: str | os.PathLike) -> None:
    """Raise FileExistsError unless the folder is new or empty."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{str(folder)!r} exists and is not an empty folder; choose another one or remove it.")


def _take_place(unfinished: Path, target: Path) -> None:
    if not target.exists():
        unfinished.rename(target)
        return
    old = target.with_name(f".{target.name}.old-{os.getpid()}")
    target.rename(old)
    try:
        unfinished.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    """Wait until the disk has it: a rename must not overtake what it names."""
    if _IS_WINDOWS:
        return  # it flushes only what is open for writing, and no folder
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = [
    "NoRoomError",
    "append",
    "cut",
    "drop_broken_line",
    "lock",
    "locked",
    "locked_folder",
    "refuse_used_folder",
    "remove_left_over",
    "telling_no_room",
    "whole_file",
    "whole_files",
    "whole_folder",
    "write_whole",
]
