"""The photographs that RAM is trained and chosen on, as a dataset; those held back from the CLIP stay apart."""

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..atomic import whole_folder, write_whole
from .photographs import held_back

_COLUMNS = ["image", "labels"]
_ROWS_OF_A_GROUP = 1000


def write_multi_labels(
    files: Sequence[str | os.PathLike],
    folder: str | os.PathLike,
    *,
    seen_labels: Sequence[str] | None = None,
    unseen_labels: Sequence[str] = (),
    held_back_every: int = 16,
) -> dict[str, int]:
    """Write the splits `train` and `validation`, and `labels_seen.txt`.

    Args:
        files: Parquet files with `image` (bytes) and `labels` (list of names).
        folder: to make.
        seen_labels: names to train with; None: all that the rows of `train` have.
        unseen_labels: names not to train with, whoever has them.
        held_back_every: as in [`held_back`]; those rows are the split `validation`.

    Returns:
        Number of rows of each split.

    Raises:
        FileExistsError: when `folder` exists and is not an empty folder.
        ValueError: when a file lacks a column.
    """
    tables = [_read(Path(file)) for file in files]
    origins = [Path(file).name for file, table in zip(files, tables, strict=True) for _ in range(len(table))]
    apart = pa.array(held_back(origins, every=held_back_every))
    rows = pa.concat_tables(tables)
    splits = {"train": rows.filter(pc.invert(apart)), "validation": rows.filter(apart)}
    if seen_labels is None:
        seen_labels = sorted({name for labels in splits["train"].column("labels").to_pylist() for name in labels})
    names = [name for name in seen_labels if name not in set(unseen_labels)]
    with whole_folder(folder) as unfinished:
        for split, table in splits.items():
            pq.write_table(table, unfinished / f"{split}.parquet", row_group_size=_ROWS_OF_A_GROUP)
        write_whole(unfinished / "labels_seen.txt", "".join(f"{name}\n" for name in names))
    return {split: len(table) for split, table in splits.items()}


def _read(file: Path) -> pa.Table:
    known = pq.read_schema(file).names
    if missing := [name for name in _COLUMNS if name not in known]:
        raise ValueError(f"{file} lacks the column {missing[0]!r}; it has {', '.join(known)}.")
    return pq.read_table(file, columns=_COLUMNS)


__all__ = ["write_multi_labels"]
