"""A file that appears whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def appearing_whole(file: Path) -> Iterator[Path]:
    """Give a path to write to in the same folder, which takes the file's place when the block ends well."""
    unfinished = file.with_name(
        f".ram_hf-{os.getpid()}.unfinished"
    )  # short: a picture's name can have the full length
    unfinished.unlink(missing_ok=True)  # a link that somebody put there would be written through
    try:
        yield unfinished
        os.replace(unfinished, file)
    except BaseException:  # an interrupt from the keyboard too
        unfinished.unlink(missing_ok=True)
        raise


__all__ = ["appearing_whole"]
