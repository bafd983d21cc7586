"""Parquet shards of images, with the card that `datasets` reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..atomic import write_whole

_ROW_GROUP = 100  # images that a reader of a shard fetches at once


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
        self._features = Features(columns)
        self._schema = self._features.arrow_schema
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
        card = _dataset_card(self._features, self._split, self.num_rows, self._num_bytes, note)
        write_whole(self._folder / "README.md", card)
        return names

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._rows:
            self._shards.append(self._folder / f"shard-{len(self._shards):05d}")
            table = pa.Table.from_pylist(self._rows, schema=self._schema)
            pq.write_table(table, self._shards[-1], row_group_size=_ROW_GROUP)
            self._rows = []


def write_lines(file: Path, lines: Sequence[str]) -> None:
    """Write one line for each string."""
    write_whole(file, "".join(f"{line}\n" for line in lines))


def _dataset_card(features: Any, split: str, num_images: int, num_bytes: int, note: str) -> str:
    from huggingface_hub import DatasetCardData

    # The number of images is what lets a stream know how long an epoch is; the features, what the Hub shows.
    data = DatasetCardData(
        task_categories=["zero-shot-image-classification", "image-classification"],
        tags=["multi-label"],
        dataset_info={
            "features": features._to_yaml_list(),
            "splits": [{"name": split, "num_examples": num_images, "num_bytes": num_bytes}],
        },
        configs=[{"config_name": "default", "data_files": [{"split": split, "path": f"{split}-*.parquet"}]}],
    )
    return f"---\n{data.to_yaml()}\n---\n\n{note}\n"


__all__ = ["ShardFiles", "write_lines"]
