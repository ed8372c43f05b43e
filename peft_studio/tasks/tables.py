"""Reads a table of the user's: CSV, TSV, JSON, JSON Lines or Parquet, with errors that say where the trouble is.

A column that nobody needs may hold anything: what no cell can hold is noted beside the table, and refused only where
the column plays a part.

Pickle-type files are never opened, since reading one runs whatever code it holds. Texts, CSV and JSON are read by
Python's own parsers: a library that guesses types would turn ``007`` into 7 and ``NA`` into nothing, and would not say
in which line and column a file is at fault.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft_studio.errors import DataError
from peft_studio.tasks.encodings import decode
from peft_studio.tasks.reading.limits import MAX_CELL, check_cells, too_long
from peft_studio.tasks.reading.parquet import Unread, parquet_file
from peft_studio.tasks.reading.text_formats import Record, TextRows, check_names, read_text

MAX_BYTES = 200_000_000
MAX_ROWS = 200_000

Cell = str | tuple[str, ...]
"""A text, or several of them, such as the references of a row."""

_TEXT_FORMATS = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson")
_VECTOR = 8
"""So many numbers with a point in one cell are an embedding or the like, and no labels."""
_BEGINNING = 200  # bytes of a file that tell what it is
_HALF_CHARACTER = re.compile("[\\ud800-\\udfff]")
_RUNS_CODE = "is a pickle-type file. Such files can run code when they are read, so they are never opened."
_REFUSED = {
    **dict.fromkeys((".bin", ".pt", ".pth", ".pkl", ".pickle", ".joblib"), _RUNS_CODE),
    **dict.fromkeys((".xlsx", ".xls"), "is an Excel workbook. Save the sheet as CSV UTF-8 in Excel first."),
}
_NO_DATA = {
    b"version https://git-lfs": "is a git-lfs pointer, not the file itself: get it with 'git lfs pull'.",
    **dict.fromkeys(
        (b"<!doctype html", b"<html"),
        "is a web page, not data: where it was downloaded, an error or a login came back.",
    ),
}
"""How texts begin that stand where a data file should be."""


@dataclass(frozen=True)
class Table:
    """The rows of one file; to be treated as read-only.

    Attributes:
        path: The file.
        columns: Column names, in the file's order.
        rows: Rows; every row has every column, and a missing value is an empty text.
        encoding: Encoding of a text file, or ``parquet``.
        numbers: For each row its line or record in the file, counted from 1.
        unit: What ``numbers`` counts: ``line``, ``record`` or ``row``.
        faults: For columns with values that no cell can hold, the first such row and what is in it. Nested values are
            in the rows as JSON.
        notes: What people should know of how the file was read.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[dict[str, Cell]]
    encoding: str
    numbers: list[int]
    unit: str
    faults: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.name

    def place(self, index: int) -> str:
        """Where a row is, for messages: ``train.csv, line 7``."""
        return f"{self.name}, {self.unit} {self.numbers[index]}"

    def require(self, column: str) -> None:
        """Makes sure that a column that plays a part holds nothing but texts.

        Raises:
            DataError: It holds something else; the message says where.
        """
        if fault := self.faults.get(column):
            row, what = fault
            raise DataError(
                f"{self.place(row)}, column {column!r} holds {what}. Allowed: a text, a number or a list of texts."
            )


class _BadCellError(ValueError):
    """A value that no cell can hold; says what it is.

    Args:
        what: Its kind, for messages.
        stand_in: What is put in its place.
    """

    def __init__(self, what: str, stand_in: str = "") -> None:
        super().__init__(what)
        self.stand_in = stand_in


def read_table(path: Path) -> Table:
    """Reads a file by its suffix.

    Args:
        path: A .csv, .tsv, .txt, .json, .jsonl, .ndjson or .parquet file.

    Raises:
        DataError: The file cannot be read, is too large, or holds something other than rows.
    """
    check_file(path)
    suffix = path.suffix.lower()
    try:
        with path.open("rb") as file:
            data = file.read(_BEGINNING if suffix == ".parquet" else -1)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror}.") from error
    for beginning, what in _NO_DATA.items():
        if data[:_BEGINNING].lstrip().lower().startswith(beginning):
            raise DataError(f"{path.name} {what}")
    if suffix == ".parquet":
        return _table(path, TextRows(_checked_parquet(path), "row", []), "parquet")
    text, encoding = decode(data, path.name)
    if not text.strip():
        raise DataError(f"{path.name} is empty. It must hold at least one row.")
    return _table(path, read_text(text, suffix, path.name), encoding)


def check_file(path: Path) -> None:
    """Makes sure, without opening it, that a file may be read.

    Raises:
        DataError: There is no such file, or its format or size is not allowed.
    """
    suffix = path.suffix.lower()
    if suffix in _REFUSED:
        raise DataError(f"{path.name} {_REFUSED[suffix]} Allowed: {_allowed()}.")
    if suffix not in _TEXT_FORMATS and suffix != ".parquet":
        found = f"the suffix {path.suffix!r}" if suffix else "no suffix"
        raise DataError(f"{path.name} has {found}, so its format is not known. Allowed: {_allowed()}.")
    try:
        if not path.is_file():
            raise DataError(f"{path} is {'a folder' if path.is_dir() else 'missing'}. Give the path of a file.")
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror}.") from error
    if not size:
        raise DataError(f"{path.name} is empty. It must hold at least one row.")
    if size > MAX_BYTES:
        raise DataError(f"{path.name} has {size / 1e6:,.1f} MB. At most {MAX_BYTES / 1e6:,.0f} MB are allowed.")


def _allowed() -> str:
    return ", ".join([*_TEXT_FORMATS, ".parquet"])


def _checked_parquet(path: Path) -> Iterator[Record]:
    with parquet_file(path) as file:
        unpacked = file.unpacked_bytes(MAX_BYTES)
        if unpacked > MAX_BYTES:
            raise DataError(
                f"{path.name} unpacks to {unpacked / 1e6:,.1f} MB. At most {MAX_BYTES / 1e6:,.0f} MB are allowed."
            )
        _check_count(file.count, path.name)
        yield from file.records()


def _check_count(count: int, name: str) -> None:
    if count > MAX_ROWS:
        raise DataError(f"{name} has more than {MAX_ROWS:,} rows, which is the most allowed. Take a sample of it.")


def _table(path: Path, found: TextRows, encoding: str) -> Table:
    rows: list[dict[str, Cell]] = []
    numbers: list[int] = []
    columns: dict[str, None] = {}
    faults: dict[str, tuple[int, str]] = {}
    for number, record in found.records:
        _check_count(len(rows) + 1, path.name)
        if not record.keys() <= columns.keys():
            columns |= dict.fromkeys(record)
            check_cells(len(rows), len(columns), path.name)
            check_names(columns, path.name)
        for key, value in record.items():
            if (
                type(value) is not str or len(value) > MAX_CELL or not value.isascii()
            ):  # nearly all cells of most files are plain texts
                try:
                    record[key] = _cell(value)
                except _BadCellError as error:
                    record[key] = error.stand_in
                    faults.setdefault(key, (len(rows), str(error)))
        if len(rows) % 1000 == 0:
            check_cells(len(rows), len(columns), path.name)
        rows.append(record)
        numbers.append(number)
    check_cells(len(rows), len(columns), path.name)
    if not rows:
        raise DataError(f"{path.name} has no rows of data. It must hold at least one.")
    if not columns:
        raise DataError(f"{path.name} has no columns: every record is empty.")
    if any(len(row) < len(columns) for row in rows):
        rows = [{key: row.get(key, "") for key in columns} for row in rows]
    return Table(path, tuple(columns), rows, encoding, numbers, found.unit, faults, tuple(found.notes))


def _cell(value: Any) -> Cell:
    if isinstance(value, dict) and isinstance(value.get("text"), str | list):
        value = value["text"]  # as answers to questions are kept, with the places where they stand
    if isinstance(value, list) and not any(isinstance(part, list | dict | bytes) for part in value):
        if len(value) >= _VECTOR and all(isinstance(part, float) for part in value):
            raise _BadCellError("a list of numbers")
        if len(value) > MAX_CELL:
            raise _BadCellError(too_long(len(value)))
        texts = tuple(text for text in map(_cell, value) if text and isinstance(text, str))
        if (length := sum(map(len, texts)) + len(texts)) > MAX_CELL:
            raise _BadCellError(too_long(length))
        return texts
    if isinstance(value, bytes | Unread):
        raise _BadCellError("bytes" if isinstance(value, bytes) else value.what)
    if isinstance(value, dict | list):
        try:
            nested = json.dumps(value, ensure_ascii=False, default=_text)
        except RecursionError:
            raise _BadCellError("an object or list that is nested too deeply") from None
        if len(nested) > MAX_CELL:
            raise _BadCellError(too_long(len(nested)))
        raise _BadCellError("a nested object or list", _HALF_CHARACTER.sub("\ufffd", nested))
    text = _text(value)
    if len(text) > MAX_CELL:
        raise _BadCellError(too_long(len(text)))
    if _HALF_CHARACTER.search(text):
        halved = "half of a two-part character (a lone surrogate)"
        raise _BadCellError(halved, _HALF_CHARACTER.sub("\ufffd", text))
    return text


def _text(value: Any) -> str:
    if value is None or isinstance(value, bytes) or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
