"""Rows of delimited and JSON texts, with errors that name the line or record.

What a file holds counts, not how its name ends: a list of objects may be in a ``.jsonl`` or ``.txt`` file, and lines
of objects in a ``.json`` file.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from peft_studio.errors import DataError
from peft_studio.tasks.reading.limits import MAX_NAME, check_columns, check_record
from peft_studio.tasks.reading.sniffing import (
    DELIMITERS,
    elements,
    is_json,
    lacks_header,
    named_separator,
    whole_values,
)

Record = tuple[int, dict[str, Any]]
"""A row's line or record in its file, counted from 1, and its values as the file gives them."""

_LONGEST_CELL = 2**31 - 1  # characters; files are much smaller, so a cell may be as long as its file
_SAMPLE = 200  # rows that are looked at to tell whether the first one is a header
_SAMPLE_CHARACTERS = 2_000_000  # of a text, that are looked at to tell which delimiter it has


@dataclass(frozen=True)
class TextRows:
    """What a text file holds.

    Attributes:
        records: Its rows, read as they are asked for.
        unit: What their numbers count: ``line`` or ``record``.
        notes: What people should know of how it was read; complete once the first row has been read.
    """

    records: Iterator[Record]
    unit: str
    notes: list[str]


def read_text(text: str, suffix: str, name: str) -> TextRows:
    """Rows of a text file, by what it holds.

    Args:
        text: The whole file.
        suffix: How its name ends.
        name: Its name, for messages.

    Raises:
        DataError: From ``records``: what is wrong, and where.
    """
    notes: list[str] = []
    if suffix not in (".json", ".jsonl", ".ndjson") and not is_json(text):
        return TextRows(read_delimited(text, name, notes), "line", notes)
    lines = (line for line in io.StringIO(text, newline=None) if line.strip())
    first = next(lines, "")
    by_line = suffix in (".jsonl", ".ndjson") or (first.lstrip().startswith("{") and _is_whole(first))
    by_line = by_line and not (first.lstrip().startswith("[") and is_json(text))
    if by_line and (suffix in (".jsonl", ".ndjson") or next(lines, "")):
        return TextRows(read_json_lines(text, name), "line", notes)
    return TextRows(read_json(text, name), "record", notes)


def _is_whole(line: str) -> bool:
    """Whether a line is a JSON value by itself."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def read_delimited(text: str, name: str, notes: list[str]) -> Iterator[Record]:
    """Rows of a CSV or TSV text, by the delimiter that it names or that fits its first rows best.

    Args:
        text: The whole file.
        name: The file's name, for messages.
        notes: Takes what people should know of how it was read.

    Raises:
        DataError: A row has too many or too few cells, a quotation mark is never closed, or a column has no name.
    """
    csv.field_size_limit(_LONGEST_CELL)
    named, text = named_separator(text)
    skipped = 1 if named else 0
    mark = named or _delimiter(text)
    # Tab-separated files often hold bare quotation marks; nothing is lost by taking those literally.
    literal = mark == "\t" and not _quotes_balance(text)
    options: dict[str, Any] = {"quoting": csv.QUOTE_NONE} if literal else {"strict": True}
    fed = _Fed(text, name, skipped)
    reader = csv.reader(fed, delimiter=mark, **options)
    lines = _numbered(reader, fed, name, skipped)
    first = next(lines, None)
    if first is None:
        return
    check_columns(len(first[1]), name)
    sample = list(islice(lines, _SAMPLE))
    header = _header(first[1], [cells for _, cells in sample], name, notes)
    rows = chain([first] if notes else [], sample, lines)
    for number, cells in rows:
        if len(cells) != len(header):
            raise DataError(
                f"{name}, line {number} has {len(cells)} cells where {len(header)} are expected, one for each "
                f"column of the header. Put a cell in quotation marks if it holds {mark!r} or a line break."
            )
        yield number, dict(zip(header, cells, strict=True))


class _Fed(Iterator[str]):
    """Lines of a text, that says when one row has too many: the parser would take a whole file as a row.

    Args:
        text: The text.
        name: The file's name, for messages.
        skipped: Lines before the text's first.
    """

    def __init__(self, text: str, name: str, skipped: int) -> None:
        self._lines = enumerate(io.StringIO(text, newline=""), skipped + 1)
        self._name = name
        self.characters = 0

    def __next__(self) -> str:
        number, line = next(self._lines)
        self.characters += len(line)
        check_record(self.characters, f"{self._name}, line {number}")
        return line


def _numbered(reader: Any, fed: _Fed, name: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """Lines that hold cells, each with the number of its first line in the file, of which some were skipped."""
    start = skipped + 1
    try:
        for cells in reader:
            fed.characters = 0
            if cells:
                yield start, cells
            start = skipped + reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{name}, line {start}: a quotation mark is misplaced or never closed ({error}). Within a quoted cell, "
            'write a quotation mark twice ("").'
        ) from None


def _header(first: list[str], rows: list[list[str]], name: str, notes: list[str]) -> list[str]:
    """The names of the columns; of a table without a header, which is then noted, those that say their places."""
    if why := lacks_header(first, rows):
        columns = [f"column {at}" for at in range(1, len(first) + 1)]
        notes.append(f"{name} seems to have no header ({why}), so its first line is a row: {', '.join(columns)}.")
        return columns
    header = [cell.strip() for cell in first]
    if not header[0] and len(header) > 1 and "index" not in header and all(row[0].isdecimal() for row in rows if row):
        header[0] = "index"  # as pandas writes the numbers of its rows
    check_names(header, name)
    return header


def _quotes_balance(text: str) -> bool:
    try:
        for _ in csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True):
            pass
    except csv.Error:
        return False
    return True


def _delimiter(text: str) -> str:
    best, best_score = ",", (0.0, 1)
    head = text[:_SAMPLE_CHARACTERS]
    for mark in DELIMITERS:
        sample = list(islice(filter(None, csv.reader(io.StringIO(head, newline=""), delimiter=mark)), 50))
        if len(head) < len(text) and 1 < len(sample) < 50:
            sample.pop()  # is cut off
        sample = sample or [[""]]
        width = len(sample[0])
        score = (sum(len(cells) == width for cells in sample) / len(sample), width)
        if width > 1 and (best_score[1] == 1 or score > best_score):
            best, best_score = mark, score
    return best


def check_names(columns: Iterable[str], name: str) -> None:
    """Makes sure that every column can be named.

    Raises:
        DataError: A name is empty or there twice.
    """
    known: set[str] = set()
    for at, column in enumerate(columns, 1):
        if not column.strip():
            raise DataError(
                f"{name}: column {at} of the header has no name. Every column needs one; in pandas, write the table "
                "with index=False."
            )
        if column in known:
            raise DataError(f"{name}: the header has two columns named {column!r}. Names must differ.")
        if len(column) > MAX_NAME:
            raise DataError(
                f"{name}: column {at} has a name of {len(column):,} characters, {column[:40]!r} …. "
                f"At most {MAX_NAME:,} are allowed."
            )
        known.add(column)


def _parse(text: str, name: str, line: int = 0) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{name}, line {line or error.lineno}, column {error.colno}"
        raise DataError(f"{where}: this is not valid JSON ({error.msg}).") from None
    except (RecursionError, ValueError) as error:
        why = "is nested too deeply" if isinstance(error, RecursionError) else "holds a number of too many digits"
        raise DataError(
            f"{name}{f', line {line}' if line else ''}: this JSON cannot be read, since it {why}."
        ) from None


def read_json_lines(text: str, name: str) -> Iterator[Record]:
    """Rows of a JSON Lines text; empty lines count but give nothing.

    Raises:
        DataError: A line is not a JSON object; the message says where.
    """
    # Not splitlines(): it also breaks at U+2028, which JSON strings may hold.
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        check_record(len(line), f"{name}, line {number}")
        if line.strip():
            yield number, _object(_parse(line, name, number), f"{name}, line {number}")


def read_json(text: str, name: str) -> Iterator[Record]:
    """Rows of a JSON text: a list of objects, one such list in an object, or a list of values for each column.

    Raises:
        DataError: It is not valid JSON, or holds something else.
    """
    text = text.strip()
    if text.startswith("["):  # one after the other, so that a file that is too much is left as soon as that shows
        try:
            for number, record in enumerate(elements(text), 1):
                yield number, _object(record, f"{name}, record {number}")
        except (ValueError, RecursionError):
            _parse(text, name)  # says what is wrong, and where
            raise
        return
    try:
        values = whole_values(text)
    except (ValueError, RecursionError):
        values = []  # said below, with its place
    rows = values if len(values) > 1 else _records(values[0] if values else _parse(text, name), name)
    for number, record in enumerate(rows, 1):
        yield number, _object(record, f"{name}, record {number}")


def _object(value: Any, where: str) -> dict[str, Any]:
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
