"""Parquet shards of pictures in a folder that appears whole or not at all."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_ROW_GROUP = 100  # pictures that a reader of a shard fetches at once


class ShardFiles:
    """Collects rows, writes a shard whenever it is full, and at the end gives the shards their names.

    Args:
        folder: where to write.
        columns: features of `datasets` by column; `image` is among them.
        split: what the shards' names begin with: letters, digits, `_` and `.`.
        shard_size: rows of one shard; the last may have fewer.

    Raises:
        ValueError: when `shard_size` is below 1, or `datasets` would not take `split`.
    """

    def __init__(self, folder: Path, columns: Mapping[str, Any], *, split: str, shard_size: int):
        from datasets import Features

        if shard_size < 1:
            raise ValueError(f"`shard_size` must be at least 1, got {shard_size}.")
        if not split.replace("_", "").replace(".", "").isalnum() or split.lower() == "all":  # `datasets`' own rules
            raise ValueError(f"`split` must be made of letters, digits, `_` and `.`, and not be 'all'; got {split!r}.")
        self._schema = Features(columns).arrow_schema
        self._folder, self._split, self._shard_size = folder, split, shard_size
        self._rows: list[dict[str, Any]] = []
        self._shards: list[Path] = []
        self._num_bytes = 0
        self.num_rows = 0

    def add(self, row: dict[str, Any]) -> None:
        """Take a row; its `image` is {"bytes": the file's content, "path": its name or None}."""
        self._rows.append(row)
        self.num_rows += 1
        self._num_bytes += len(row["image"]["bytes"])
        if len(self._rows) == self._shard_size:
            self._flush()

    def finish(self, note: str) -> list[str]:
        """Write what is left and a dataset card that ends with `note`; returns the names of the shards."""
        self._flush()
        names = []
        for number, shard in enumerate(self._shards):  # only now their number is known
            names.append(f"{self._split}-{number:05d}-of-{len(self._shards):05d}.parquet")
            shard.rename(self._folder / names[-1])
        card = _dataset_card(self._split, self.num_rows, self._num_bytes, note)
        (self._folder / "README.md").write_text(card, encoding="utf-8")
        return names

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._rows:
            self._shards.append(self._folder / f"shard-{len(self._shards):05d}")
            table = pa.Table.from_pylist(self._rows, schema=self._schema)
            pq.write_table(table, self._shards[-1], row_group_size=_ROW_GROUP)
            self._rows = []


def refuse_used_folder(folder: Path) -> None:
    """Raise FileExistsError unless the folder is new or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{str(folder)!r} exists and is not an empty folder; choose another one or remove it.")


@contextmanager
def appearing_whole(folder: Path) -> Iterator[Path]:
    """Give a folder to write in that takes its name when the block ends well, and vanishes when it does not."""
    refuse_used_folder(folder)
    target = folder.absolute()
    new_parents = [parent for parent in target.parents if not parent.exists()]
    unfinished = target.with_name(f".{target.name}.unfinished-{os.getpid()}")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        with suppress(FileNotFoundError):
            target.rmdir()
        unfinished.rename(target)
    except BaseException:  # an interrupt from the keyboard too
        shutil.rmtree(unfinished, ignore_errors=True)
        for parent in new_parents:
            with suppress(OSError):
                parent.rmdir()
        raise


def write_lines(file: Path, lines: Sequence[str]) -> None:
    """Write one line for each string."""
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _dataset_card(split: str, num_images: int, num_bytes: int, note: str) -> str:
    # The number of pictures is what lets a stream know how long an epoch is.
    info = f"dataset_info:\n  splits:\n  - name: {split}\n    num_examples: {num_images}\n    num_bytes: {num_bytes}\n"
    files = f"configs:\n- config_name: default\n  data_files:\n  - split: {split}\n    path: {split}-*.parquet\n"
    return f"---\n{info}{files}---\n\n{note}\n"


__all__ = ["ShardFiles", "appearing_whole", "refuse_used_folder", "write_lines"]
