"""Tags of all pictures in one file: JSON Lines, CSV or Parquet, each with the columns path, tags and error.

A killed run loses no finished batch, whatever the format: rows go to a JSON Lines file, which only grows. CSV and
Parquet are made of it when the run ends, also by Ctrl-C; until then it stands beside them as `NAME.partial.jsonl`.
It goes only when the file that is made of it has every row.
"""

import csv
import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..atomic import append, drop_broken_line, whole_file
from .outputs import TaggedImage, TagOptions
from .paths import escape_path

_ROW_BEGINS = b'{"path": "'
_COLUMNS = ["path", "tags", "error"]
_ROWS_AT_ONCE = 10_000  # of a Parquet row group


class JsonlWriter:
    """One JSON object a line.

    Args:
        file: the file to write, in a folder that exists.
        options: what the rows come of.
        resume: go on with what is there, instead of refusing it.

    Raises:
        FileNotFoundError: when there is no folder to write in.
        ValueError: when resuming and the file is not of this command, or was written with other options.
    """

    def __init__(self, file: Path, options: TagOptions, *, resume: bool):
        if not file.absolute().parent.is_dir():
            raise FileNotFoundError(f"There is no folder for {str(file)!r}.")
        if file.is_dir():
            raise IsADirectoryError(f"{str(file)!r} is a folder; name a file in it.")
        self._file = file
        self._options = options
        self._held: set[str] = set()
        self._num_rows = 0  # that the file must hold
        if resume:
            self._hold_rows()
            drop_broken_line(self._file)  # a row that a killed run did not finish

    def refuse_existing(self, paths: Sequence[str]) -> None:
        """See [`Output`]."""
        if self._file.exists():
            raise FileExistsError(f"{str(self._file)!r} exists. Pass `--resume` to go on with it, or remove it.")

    def holds(self, path: str) -> bool:
        """See [`Output`]."""
        return escape_path(path) in self._held

    def write(self, images: Sequence[TaggedImage]) -> Sequence[TaggedImage]:
        """See [`Output`].

        Raises:
            OSError: when the disk does not take all of it; the file holds what it held before.
        """
        rows = [image.to_row() for image in images if not self.holds(image.path)]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        with self._telling_what_is_kept(self._file):
            append(self._file, lines)
        self._held.update(row["path"] for row in rows)
        self._num_rows += len(rows)
        return images

    def finish(self) -> None:
        """See [`Output`].

        Raises:
            OSError: when rows that were written are no longer there; the file stays as it is.
        """
        with self._telling_what_is_kept(self._file):
            append(self._file, "")
        with self._file.open("rb") as lines:
            self._expect(sum(line.endswith(b"\n") for line in lines))

    def _expect(self, num_rows: int) -> None:
        if num_rows != self._num_rows:
            raise OSError(
                f"{str(self._file)!r} holds {num_rows:,} rows where {self._num_rows:,} were written: something else "
                "changed it. It stays as it is; the same command with `--resume` tags what is missing."
            )

    @contextmanager
    def _telling_what_is_kept(self, file: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno is None:
                raise
            rows = f"The {self._num_rows:,} rows before that are kept in {str(self._file)!r}" * (self._num_rows > 0)
            raise OSError(
                f"Cannot write {str(file)!r}: {error.strerror}. {rows or 'No row is written yet'}; with this mended, "
                "the same command with `--resume` goes on."
            ) from error

    def _hold_rows(self) -> None:
        for row in self._rows():
            self._options.check(row, str(self._file))
            self._held.add(row["path"])
            self._num_rows += 1

    def _rows(self) -> Iterator[dict[str, Any]]:
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n") and line[: len(_ROW_BEGINS)] == _ROW_BEGINS[: len(line)]:
                    return  # a killed run did not finish it
                try:
                    row = json.loads(line)
                    yield {"path": row["path"], "tags": row["tags"], "error": row["error"]}
                except (ValueError, TypeError, KeyError):
                    raise ValueError(
                        f"Line {number} of {str(self._file)!r} is not a row that `ram-hf tag` writes; "
                        "mend or remove it, or choose another file."
                    ) from None


class _ConvertedWriter(JsonlWriter):
    """A format that cannot simply grow: rows collect beside it, and [`finish`] makes the file of them."""

    def __init__(self, file: Path, options: TagOptions, *, resume: bool):
        self._target = file
        partial = file.with_name(f"{file.name}.partial.jsonl")
        if resume and file.exists() and not partial.exists():  # an interrupted or a complete run
            with whole_file(partial) as unfinished, unfinished.open("w", encoding="utf-8") as lines:
                lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in self._checked(file, options))
        super().__init__(partial, options, resume=resume)

    def refuse_existing(self, paths: Sequence[str]) -> None:
        """See [`Output`]."""
        super().refuse_existing(paths)
        if self._target.exists():
            raise FileExistsError(f"{str(self._target)!r} exists. Pass `--resume` to go on with it, or remove it.")

    def finish(self) -> None:
        """See [`Output`].

        Raises:
            OSError: when the file cannot be made, or rows are missing; what they collect in stays.
        """
        with self._telling_what_is_kept(self._target), whole_file(self._target) as unfinished:
            self._convert(self._all_rows(), unfinished)
        self._file.unlink(missing_ok=True)

    def _all_rows(self) -> Iterator[dict[str, Any]]:
        number = 0
        for number, row in enumerate(self._rows(), start=1):  # noqa: B007
            yield row
        self._expect(number)

    def _checked(self, file: Path, options: TagOptions) -> Iterator[dict[str, Any]]:
        for row in self._read(file):
            options.check(row, str(file))
            yield row

    @staticmethod
    def _read(file: Path) -> Iterator[dict[str, Any]]:
        raise NotImplementedError

    @staticmethod
    def _convert(rows: Iterator[dict[str, Any]], unfinished: Path) -> None:
        raise NotImplementedError


class CsvWriter(_ConvertedWriter):
    """Columns path, tags (JSON) and error (empty when there is none)."""

    @staticmethod
    def _read(file: Path) -> Iterator[dict[str, Any]]:
        csv.field_size_limit(2**31 - 1)  # thousands of tags are one field
        with file.open(encoding="utf-8", newline="") as lines:
            rows = csv.DictReader(lines)
            try:
                if rows.fieldnames != _COLUMNS:
                    raise ValueError
                for row in rows:
                    yield {"path": row["path"], "tags": json.loads(row["tags"]), "error": row["error"] or None}
            except (TypeError, ValueError):
                raise ValueError(f"{str(file)!r} does not hold rows that `ram-hf tag` writes.") from None

    @staticmethod
    def _convert(rows: Iterator[dict[str, Any]], unfinished: Path) -> None:
        with unfinished.open("w", encoding="utf-8", newline="") as lines:
            writer = csv.DictWriter(lines, _COLUMNS)
            writer.writeheader()
            for row in rows:
                writer.writerow(
                    row | {"tags": json.dumps(row["tags"], ensure_ascii=False), "error": row["error"] or ""}
                )


class ParquetWriter(_ConvertedWriter):
    """Columns path (string), tags (list of {label: string, score: double}) and error (string or null).

    Raises:
        ImportError: when pyarrow is not installed.
    """

    def __init__(self, file: Path, options: TagOptions, *, resume: bool):
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise ImportError("Parquet needs pyarrow: pip install 'ram_hf[tag]', or write .jsonl or .csv.") from None
        super().__init__(file, options, resume=resume)

    @staticmethod
    def _read(file: Path) -> Iterator[dict[str, Any]]:
        import pyarrow.parquet as pq

        with pq.ParquetFile(file) as table:
            if table.schema_arrow.names != _COLUMNS:
                raise ValueError(f"{str(file)!r} does not hold rows that `ram-hf tag` writes.")
            for batch in table.iter_batches():
                yield from batch.to_pylist()

    @staticmethod
    def _convert(rows: Iterator[dict[str, Any]], unfinished: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        tags = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))
        schema = pa.schema([("path", pa.string()), ("tags", tags), ("error", pa.string())])
        with pq.ParquetWriter(unfinished, schema) as writer:
            while group := list(itertools.islice(rows, _ROWS_AT_ONCE)):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))


WRITERS = {".jsonl": JsonlWriter, ".csv": CsvWriter, ".parquet": ParquetWriter}


def make_writer(file: Path, options: TagOptions, *, resume: bool) -> JsonlWriter:
    """The writer for a file's extension; see [`JsonlWriter`].

    Raises:
        ValueError: when there is no format of that extension.
    """
    if file.suffix.lower() not in WRITERS:
        raise ValueError(f"`--output` must end with {', '.join(WRITERS)}, got {str(file)!r}.")
    return WRITERS[file.suffix.lower()](file, options, resume=resume)


__all__ = ["WRITERS", "CsvWriter", "JsonlWriter", "ParquetWriter", "make_writer"]
