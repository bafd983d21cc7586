"""One run at a time into an output: the second would double rows, or lose those of the first."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..atomic import lock, locked, locked_folder, remove_left_over

_IN_FOLDER = ".ram_hf-tag.lock"
_MOST_LOCKS = 64  # each is an open file, of which a process may have some hundreds


@contextmanager
def locked_outputs(*, file: Path | None, folder: Path | None, beside: Sequence[str]) -> Iterator[None]:
    """Keep other runs from these outputs while the block runs, and remove what killed ones had begun there.

    Args:
        file: where rows go; not locked where it has no folder.
        folder: where pictures are drawn; made when it is not there, and removed again when nothing was written.
        beside: pictures that get sidecars.

    Raises:
        BlockingIOError: when another run writes into one of them.
        OSError: when a lock cannot be made.
    """
    with ExitStack() as held:
        if file is not None and file.absolute().parent.is_dir():
            held.enter_context(locked(file))
        if folder is not None and (folder.is_dir() or not folder.exists()):
            held.enter_context(locked_folder(folder))
            for place, *_ in os.walk(folder):
                remove_left_over(place)
        folders = {os.path.dirname(os.path.realpath(path)) for path in beside}
        _lock_folders(folders, held)
        for place in folders:
            remove_left_over(place)
        yield


def _lock_folders(folders: set[str], held: ExitStack) -> None:
    """Lock the uppermost folders, and look for a lock of another run in each one above and below."""
    folders = {folder for folder in folders if os.path.isdir(folder)}
    top = {folder for folder in folders if not folders & set(_above(folder))}
    if len(top) > _MOST_LOCKS:
        top = {os.path.commonpath(top)}
    for folder in sorted(top):
        with suppress(PermissionError):  # where nothing can be written, nothing can be lost
            held.enter_context(lock(os.path.join(folder, _IN_FOLDER)))
    around = folders.union(*map(_above, folders)) - top
    for other in sorted(os.path.join(folder, _IN_FOLDER) for folder in around):
        if os.path.exists(other):
            with lock(other):  # left by a process that was killed
                pass


def _above(folder: str) -> list[str]:
    return [str(parent) for parent in Path(folder).parents]


__all__ = ["locked_outputs"]
