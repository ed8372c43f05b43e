"""Rows of delimited and JSON texts, with errors that name the line or record."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from peft_studio.errors import DataError

Record = tuple[int, dict[str, Any]]
"""A row's line or record in its file, counted from 1, and its values as the file gives them."""

_DELIMITERS = ",;\t|"
_LONGEST_CELL = 2**31 - 1  # characters; files are much smaller, so a cell may be as long as its file


def read_delimited(text: str, name: str) -> Iterator[Record]:
    """Rows of a CSV or TSV text, by the delimiter that fits its first rows best.

    Args:
        text: The whole file.
        name: The file's name, for messages.

    Raises:
        DataError: A row has too many or too few cells, a quotation mark is never closed, or a column has no name.
    """
    csv.field_size_limit(_LONGEST_CELL)
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
                check_names(header, name)
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


def read_json_lines(text: str, name: str) -> Iterator[Record]:
    """Rows of a JSON Lines text; empty lines count but give nothing.

    Raises:
        DataError: A line is not a JSON object; the message says where.
    """
    # Not splitlines(): it also breaks at U+2028, which JSON strings may hold.
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            yield number, _object(_parse(line, name, number), f"{name}, line {number}")


def read_json(text: str, name: str) -> Iterator[Record]:
    """Rows of a JSON text: a list of objects, one such list in an object, or a list of values for each column.

    Raises:
        DataError: It is not valid JSON, or holds something else.
    """
    for number, record in enumerate(_records(_parse(text, name), name), 1):
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
