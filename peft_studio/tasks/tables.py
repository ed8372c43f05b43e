"""Reads a table of the user's: CSV, TSV, JSON, JSON Lines or Parquet, with errors that say where the trouble is.

Pickle-type files are never opened, since reading one runs whatever code it holds. Pure Python: the web process reads
tables too.
"""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from peft_studio.errors import DataError
from peft_studio.tasks.encodings import decode

MAX_BYTES = 200_000_000
MAX_ROWS = 200_000

Cell = str | tuple[str, ...]
"""A text, or several of them, such as the references of a row."""
Record = tuple[int, Mapping[str, Any]]
"""A row's number in its file, and its values as the file gives them."""

_DELIMITERS = ",;\t|"
_HALF_CHARACTER = re.compile("[\\ud800-\\udfff]")
_RUNS_CODE = "is a pickle-type file. Such files can run code when they are read, so they are never opened."
_REFUSED = {
    **dict.fromkeys((".bin", ".pt", ".pth", ".pkl", ".pickle", ".joblib"), _RUNS_CODE),
    **dict.fromkeys((".xlsx", ".xls"), "is an Excel workbook. Save the sheet as CSV UTF-8 in Excel first."),
}


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
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[dict[str, Cell]]
    encoding: str
    numbers: list[int]
    unit: str

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.name

    def place(self, index: int) -> str:
        """Where a row is, for messages: ``train.csv, line 7``."""
        return f"{self.name}, {self.unit} {self.numbers[index]}"


def read_table(path: Path) -> Table:
    """Reads a file by its suffix.

    Args:
        path: A .csv, .tsv, .json, .jsonl, .ndjson or .parquet file.

    Raises:
        DataError: The file cannot be read, is too large, or holds something other than rows of texts.
    """
    suffix = path.suffix.lower()
    try:
        _check_file(path, suffix)
        data = path.read_bytes() if suffix != ".parquet" else b""
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror}.") from error
    if suffix == ".parquet":
        return _parquet(path)
    text, encoding = decode(data, path.name)
    if not text.strip():
        raise DataError(f"{path.name} is empty. It must hold at least one row.")
    unit, read = _TEXT_FORMATS[suffix]
    return _table(path, read(text, path.name), encoding, unit)


def _check_file(path: Path, suffix: str) -> None:
    if suffix in _REFUSED:
        raise DataError(f"{path.name} {_REFUSED[suffix]} Allowed: {_allowed()}.")
    if suffix not in _TEXT_FORMATS and suffix != ".parquet":
        found = f"the suffix {path.suffix!r}" if suffix else "no suffix"
        raise DataError(f"{path.name} has {found}, so its format is not known. Allowed: {_allowed()}.")
    if not path.is_file():
        raise DataError(f"{path} is {'a folder' if path.is_dir() else 'missing'}. Give the path of a file.")
    size = path.stat().st_size
    if not size:
        raise DataError(f"{path.name} is empty. It must hold at least one row.")
    if size > MAX_BYTES:
        raise DataError(f"{path.name} has {size / 1e6:,.1f} MB. At most {MAX_BYTES / 1e6:,.0f} MB are allowed.")


def _allowed() -> str:
    return ", ".join([*_TEXT_FORMATS, ".parquet"])


def _read_delimited(text: str, name: str) -> Iterator[Record]:
    csv.field_size_limit(MAX_BYTES)
    mark = _delimiter(text)
    # Tab-separated files often hold bare quotation marks; nothing is lost by taking those literally.
    literal = mark == "\t" and not _quotes_balance(text)
    options: dict[str, Any] = {"quoting": csv.QUOTE_NONE} if literal else {"strict": True}
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, **options)
    header: list[str] = []
    start = 1
    try:
        for cells in reader:
            if cells and not header:
                header = [cell.strip() for cell in cells]
                _check_names(header, name)
            elif cells:
                if len(cells) != len(header):
                    raise DataError(
                        f"{name}, line {start} has {len(cells)} cells where {len(header)} are expected, one for each "
                        f"column of the header. Put a cell in quotation marks if it holds {mark!r} or a line break."
                    )
                yield start, dict(zip(header, cells, strict=True))
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{name}, line {start}: a quotation mark is misplaced or never closed ({error}). Within a quoted cell, "
            'write a quotation mark twice ("").'
        ) from None


def _quotes_balance(text: str) -> bool:
    try:
        for _ in csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True):
            pass
    except csv.Error:
        return False
    return True


def _delimiter(text: str) -> str:
    best, best_score = ",", (0.0, 1)
    for mark in _DELIMITERS:
        sample = list(islice(filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=mark)), 50))
        width = len(sample[0])
        score = (sum(len(cells) == width for cells in sample) / len(sample), width)
        if width > 1 and (best_score[1] == 1 or score > best_score):
            best, best_score = mark, score
    return best


def _check_names(columns: Iterable[str], name: str) -> None:
    known: set[str] = set()
    for at, column in enumerate(columns, 1):
        if not column.strip():
            raise DataError(
                f"{name}: column {at} of the header has no name. Every column needs one; in pandas, write the table "
                "with index=False."
            )
        if column in known:
            raise DataError(f"{name}: the header has two columns named {column!r}. Names must differ.")
        known.add(column)


def _parse(text: str, name: str, line: int = 0) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{name}, line {line or error.lineno}, column {error.colno}"
        hint = " If each line is an object of its own, name the file .jsonl." if error.msg == "Extra data" else ""
        raise DataError(f"{where}: this is not valid JSON ({error.msg}).{hint}") from None
    except (RecursionError, ValueError) as error:
        raise DataError(f"{name}{f', line {line}' if line else ''}: this JSON cannot be read ({error}).") from None


def _read_json_lines(text: str, name: str) -> Iterator[Record]:
    # Not splitlines(): it also breaks at U+2028, which JSON strings may hold.
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            yield number, _object(_parse(line, name, number), f"{name}, line {number}")


def _read_json(text: str, name: str) -> Iterator[Record]:
    for number, record in enumerate(_records(_parse(text, name), name), 1):
        yield number, _object(record, f"{name}, record {number}")


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f'{where} is {_kind(value)}. It must be an object, such as {{"text": "…", "label": "…"}}.')
    return value


def _records(value: Any, name: str) -> Iterable[Any]:
    if isinstance(value, list):
        return value
    lists = {key: part for key, part in value.items() if isinstance(part, list)} if isinstance(value, dict) else {}
    nested = [key for key, part in lists.items() if part and isinstance(part[0], dict)]
    if len(nested) == 1:
        return list(lists[nested[0]])
    if len(nested) > 1:
        raise DataError(f"{name} holds several lists of rows: {', '.join(nested)}. Save each as a file of its own.")
    if not lists or len(lists) < len(value):
        raise DataError(
            f"{name} holds {_kind(value)} at its top. Allowed: a list of objects, an object with one such list, or an "
            "object with one list of values for each column."
        )
    first = next(iter(lists))
    for key, part in lists.items():
        if len(part) != len(lists[first]):
            raise DataError(f"{name}: column {key!r} has {len(part)} values, but {first!r} has {len(lists[first])}.")
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def _parquet(path: Path) -> Table:
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            facts = file.metadata
            _check_names(file.schema_arrow.names, path.name)
            unpacked = sum(facts.row_group(at).total_byte_size for at in range(facts.num_row_groups))
            if unpacked > MAX_BYTES:
                raise DataError(
                    f"{path.name} unpacks to {unpacked / 1e6:,.1f} MB. At most {MAX_BYTES / 1e6:,.0f} MB are allowed."
                )
            _check_count(facts.num_rows, path.name)
            columns = {name: file.read([name]).column(0).to_pylist() for name in file.schema_arrow.names}
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path.name} is not a Parquet file that can be read: {error}") from None
    records = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    return _table(path, enumerate(records, 1), "parquet", "row")


def _check_count(count: int, name: str) -> None:
    if count > MAX_ROWS:
        raise DataError(f"{name} has more than {MAX_ROWS:,} rows, which is the most allowed. Take a sample of it.")


def _table(path: Path, records: Iterable[Record], encoding: str, unit: str) -> Table:
    rows: list[dict[str, Cell]] = []
    numbers: list[int] = []
    columns: dict[str, None] = {}
    for number, record in records:
        _check_count(len(rows) + 1, path.name)
        if not record.keys() <= columns.keys():
            columns |= dict.fromkeys(record)
            _check_names(columns, path.name)
        rows.append({key: _cell(value, f"{path.name}, {unit} {number}", key) for key, value in record.items()})
        numbers.append(number)
    if not rows:
        raise DataError(f"{path.name} has no rows of data. It must hold at least one.")
    if not columns:
        raise DataError(f"{path.name} has no columns: every record is empty.")
    full = [{key: row.get(key, "") for key in columns} for row in rows]
    return Table(path, tuple(columns), full, encoding, numbers, unit)


def _cell(value: Any, where: str, column: str) -> Cell:
    if isinstance(value, list) and not any(isinstance(part, list) for part in value):
        texts = (_cell(part, where, column) for part in value)
        return tuple(text for text in texts if text and isinstance(text, str))
    what = "bytes" if isinstance(value, bytes) else "a nested object or list"
    if not isinstance(value, bytes | dict | list):
        text = _text(value)
        if not _HALF_CHARACTER.search(text):
            return text
        what = "half of a two-part character (a lone surrogate)"
    raise DataError(f"{where}, column {column!r} holds {what}. Allowed: a text, a number or a list of texts.")


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


_TEXT_FORMATS: dict[str, tuple[str, Callable[[str, str], Iterator[Record]]]] = {
    ".csv": ("line", _read_delimited),
    ".tsv": ("line", _read_delimited),
    ".json": ("record", _read_json),
    ".jsonl": ("line", _read_json_lines),
    ".ndjson": ("line", _read_json_lines),
}
