"""Rows of CSV and JSONL files as people's programs write them, Excel's among them."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..text_files import read_text

_DELIMITERS = (",", ";", "\t")


def csv_table(file: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Read a CSV: its header, and its rows with their numbers from 1; blank lines are passed over.

    The cells are separated by a comma, a semicolon (Excel's in much of Europe) or a tab, whichever the header is, or
    what a first line `sep=;` says.

    Raises:
        ValueError: when the file is no text, or its quotes do not match.
    """
    text = read_text(file)
    first, _, rest = text.partition("\n")
    if first.strip().lower().startswith("sep=") and len(first.strip()) == len("sep=") + 1:
        text, delimiter = rest, first.strip()[-1]
    elif first.rstrip("\r\n").lower() == "sep=\t":
        text, delimiter = rest, "\t"
    else:
        delimiter = _delimiter(text)
    rows = _rows(file, text, delimiter)
    header = next(rows, (0, []))[1]
    return [name.strip() for name in header], rows


def jsonl_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read a file of one JSON object a line, each with the number of its line; blank lines are passed over.

    Raises:
        ValueError: when a line is no JSON object.
    """
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{file}, line {number} is no JSON ({error}).") from error
        if not isinstance(row, dict):
            raise ValueError(f"{file}, line {number} holds a {type(row).__name__}; expected one object a line.")
        yield number, row


def _rows(file: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 0
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield number, cells
                number += 1
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num}: {error}.") from error


def _delimiter(text: str) -> str:
    """The one that cuts the header into most cells; of several, one that cuts the first row into as many."""

    def cells(delimiter: str) -> tuple[int, bool]:
        head = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            counts = [len(row) for row, _ in zip((row for row in head if row), range(2), strict=False)]
        except csv.Error:
            counts = []
        columns = counts[0] if counts else 0
        return columns, counts[1:] == [columns]

    return max(_DELIMITERS, key=cells)


__all__ = ["csv_table", "jsonl_rows"]
