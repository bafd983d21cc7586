"""Writing whole or not at all: the only place that opens a file for writing. Standard library alone.

What is written stands under another name in the same folder until it is complete (and on the disk, where it replaces
something), so that a full disk, a killed process or a power cut leaves what was there before.
"""

import errno
import itertools
import os
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


@contextmanager
def whole_file(file: str | os.PathLike) -> Iterator[Path]:
    """Give a path to write to in the same folder, which takes the file's place when the block ends well.

    Args:
        file: the file to make or to replace, in a folder that exists.

    Yields:
        Path of a file that does not exist yet, without the ending of `file`.

    Raises:
        OSError: when it cannot be written; what was there stays.
    """
    file = Path(file)
    # Short: a name can have the full length.
    unfinished = file.with_name(f".ram_hf-{os.getpid()}-{next(_numbers)}.unfinished")
    unfinished.unlink(missing_ok=True)  # a link that somebody put there would be written through
    try:
        yield unfinished
        if file.exists():  # what a power cut could take; a new file is not worth waiting for the disk, for thousands
            _flush(unfinished)
        os.replace(unfinished, file)
    except BaseException:  # an interrupt from the keyboard too
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


def write_whole(file: str | os.PathLike, content: str | bytes) -> None:
    """Make or replace a file; text is written as UTF-8, with its newlines as they are. See [`whole_file`]."""
    with whole_file(file) as unfinished:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)


def append(file: str | os.PathLike, content: str | bytes) -> None:
    """Add to the end of a file in one call of the system, so that a killed process leaves at most one broken line.

    Raises:
        OSError: when the disk takes less than all of it; what it took is cut off again.
    """
    data = content.encode() if isinstance(content, str) else content
    with open(file, "ab", buffering=0) as end:
        before = end.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(data):  # a full disk takes a part, and says so at the next call
                written += end.write(data[written:])
        except OSError:
            end.truncate(before)
            raise


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
        OSError: when it cannot be written; what was there stays.
    """
    if not replace:
        refuse_used_folder(folder)
    target = Path(folder).absolute()
    new_parents = [parent for parent in target.parents if not parent.exists()]
    unfinished = target.with_name(f".{target.name}.unfinished-{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        for path in unfinished.rglob("*"):
            _flush(path)
        _flush(unfinished)
        _take_place(unfinished, target)
    except BaseException:  # an interrupt from the keyboard too
        shutil.rmtree(unfinished, ignore_errors=True)
        for parent in new_parents:
            with suppress(OSError):
                parent.rmdir()
        raise


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


__all__ = ["append", "drop_broken_line", "lock", "refuse_used_folder", "whole_file", "whole_folder", "write_whole"]
