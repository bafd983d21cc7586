"""The photographs that RAM is trained and chosen on, as a dataset; those held back from the CLIP stay apart."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..atomic import whole_folder, write_whole
from ..data.annotations import UNKNOWN_COLUMN
from .photographs import held_back

Nouns: TypeAlias = Literal["absent", "unknown", "left-out"]

_COLUMNS = ["image", "labels"]
_NAMES = pa.list_(pa.string())
_ROWS_OF_A_GROUP = 1000


def write_multi_labels(
    files: Sequence[str | os.PathLike],
    folder: str | os.PathLike,
    *,
    seen_labels: Sequence[str] | None = None,
    unseen_labels: Sequence[str] = (),
    exact_labels: Sequence[str] = (),
    nouns: Nouns = "absent",
    held_back_every: int = 16,
) -> dict[str, int]:
    """Write the splits `train` and `validation`, `labels_seen.txt`, and `labels_unseen.txt` where there are any.

    Some labels of a photograph are complete, the others are nouns of its caption: what a caption does not name may be
    there all the same. `validation` counts it as absent in any case, so that all choices are judged alike.

    Args:
        files: Parquet files with `image` (bytes), `labels` (list of names), and maybe `labels_exact` (those of them
            that are complete; none is where it is null or not there).
        folder: to make.
        seen_labels: names to train with; None: all that the rows of `train` have.
        unseen_labels: names not to train with, whoever has them.
        exact_labels: names that are complete where `labels_exact` is given.
        nouns: what the other names are in `train` where a caption does not name them: `absent`; `unknown`, which makes
            the loss asymmetric; or `left-out`, as photographs without `labels_exact` then are.
        held_back_every: as in [`held_back`]; those rows are the split `validation`.

    Returns:
        Number of rows of each split.

    Raises:
        FileExistsError: when `folder` exists and is not an empty folder.
        ValueError: when a file lacks a column, or no name to train with is an exact one although nouns are left out.
    """
    tables = [_read(Path(file)) for file in files]
    names = [Path(file).name for file, table in zip(files, tables, strict=True) for _ in range(len(table))]
    apart = pa.array(held_back(names, every=held_back_every))
    rows = pa.concat_tables(tables)
    train, validation = rows.filter(pc.invert(apart)), rows.filter(apart)
    if seen_labels is None:
        seen_labels = sorted({name for labels in train["labels"].to_pylist() for name in labels})
    seen = [name for name in seen_labels if name not in unseen_labels]
    if nouns == "left-out":
        with_nouns, seen = seen, [name for name in seen if name in exact_labels]
        if not seen:
            raise ValueError(
                f"Without nouns no label is left of {', '.join(with_nouns)}: none of them is an exact one."
            )
    splits = {
        "train": _told(train, seen, exact_labels, nouns),
        "validation": _told(validation, [], exact_labels, "unknown" if nouns == "unknown" else "absent"),
    }
    with whole_folder(folder) as unfinished:
        for split, table in splits.items():
            pq.write_table(table, unfinished / f"{split}.parquet", row_group_size=_ROWS_OF_A_GROUP)
        for part, labels in (("seen", seen), ("unseen", unseen_labels)):
            if labels:
                write_whole(unfinished / f"labels_{part}.txt", "".join(f"{name}\n" for name in labels))
    return {split: len(table) for split, table in splits.items()}


def _read(file: Path) -> pa.Table:
    known = pq.read_schema(file).names
    if missing := [name for name in _COLUMNS if name not in known]:
        raise ValueError(f"{file} lacks the column {missing[0]!r}; it has {', '.join(known)}.")
    table = pq.read_table(file, columns=[*_COLUMNS, *({"labels_exact"} & set(known))])
    exact = table.column("labels_exact") if "labels_exact" in known else pa.nulls(len(table), _NAMES)
    return table.select(_COLUMNS).append_column("labels_exact", exact.cast(_NAMES))


def _told(rows: pa.Table, seen: Sequence[str], exact: Sequence[str], nouns: Nouns) -> pa.Table:
    """The columns of a split; both have the same, or `datasets` refuses the folder."""
    if nouns == "left-out":
        rows = rows.filter(pc.is_valid(rows["labels_exact"]))
        return pa.table({"image": rows["image"], "labels": rows["labels_exact"]})
    if nouns == "absent":
        return rows.select(_COLUMNS)
    unknown = [
        [name for name in seen if name not in named and (complete is None or name not in exact)]
        for named, complete in zip(rows["labels"].to_pylist(), rows["labels_exact"].to_pylist(), strict=True)
    ]
    return rows.select(_COLUMNS).append_column(UNKNOWN_COLUMN, pa.array(unknown, _NAMES))


__all__ = ["Nouns", "write_multi_labels"]
