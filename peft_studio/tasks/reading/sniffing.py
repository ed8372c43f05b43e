"""What a text file holds, whatever its name says: JSON, JSON Lines or a delimited table, with a header or without."""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from peft_studio.tasks.reading.column_names import KNOWN, plain

DELIMITERS = ",;\t|"
_SEPARATOR = re.compile(r'^"?sep=(.)"?\r?\n', re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_NO_SPACE = re.compile(r"[^ \t\r\n]|\Z")
_LONGEST_NAME, _MOST_WORDS = 100, 8
"""Characters and words of a column's name at most; what has more is a text of a row."""
_SAMPLE = 200


def is_json(text: str) -> bool:
    """Whether a file of any name holds objects, or a list of them."""
    head = text.lstrip()
    if head[:1] == "{":
        return _begins_with_value(head)
    return head[:1] == "[" and head[1:].lstrip()[:1] in ("{", "]") and _begins_with_value(head[1:].lstrip())


def _begins_with_value(text: str) -> bool:
    if text[:1] == "]":
        return True
    try:
        json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def whole_values(text: str) -> list[Any]:
    """JSON values that follow each other, one a line or spread over lines.

    Raises:
        ValueError: Something else is among them.
    """
    decoder, values, at = json.JSONDecoder(), [], 0
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        values.append(value)
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
    return values


def _after_space(text: str, at: int) -> int:
    found = _NO_SPACE.search(text, at)
    return found.start() if found else len(text)


def elements(text: str) -> Iterator[Any]:
    """Elements of a JSON list, each decoded as it is asked for.

    Raises:
        ValueError: It is no such list, or something comes after it.
    """
    decoder, at = json.JSONDecoder(), _after_space(text, 1)
    if text[at : at + 1] == "]":
        at += 1
    else:
        while True:
            value, at = decoder.raw_decode(text, at)
            yield value
            at = _after_space(text, at)
            mark, at = text[at : at + 1], at + 1
            if mark != ",":
                break
            at = _after_space(text, at)
        if mark != "]":
            raise ValueError("the list is not closed")
    if text[at:].strip():
        raise ValueError("something comes after the list")


def named_separator(text: str) -> tuple[str, str]:
    """The separator that a first line such as ``sep=;`` names for Excel, if there is one, and what comes after it."""
    match = _SEPARATOR.match(text)
    return (match.group(1), text[match.end() :]) if match else ("", text)


def lacks_header(first: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Why the first line of a table is a row and no header; empty when it is a header.

    Args:
        first: Its cells.
        rows: Those of the lines after it.
    """
    sample = [row for row in islice(rows, _SAMPLE) if len(row) == len(first)]
    columns = list(zip(*sample, strict=True)) or [()] * len(first)
    named = [plain(cell) in KNOWN and cell not in values for cell, values in zip(first, columns, strict=True)]
    repeated = list(first) in sample and len(first) > 1  # tables that were put one below the other
    if any(named) or repeated or not all(cell.strip() for cell in first):
        return ""
    for cell, values in zip(first, columns, strict=True):
        long = len(cell) > _LONGEST_NAME or len(cell.split()) > _MOST_WORDS
        alike = sum(map(len, values)) * 2 >= len(cell) * len(values)  # a survey's header holds questions
        if long and alike and not cell.rstrip().endswith(("?", ":")):
            return f"{cell[:40]!r} is too long for a column's name"
        if _NUMBER.fullmatch(cell) and all(_NUMBER.fullmatch(value.strip()) for value in values):
            return f"{cell!r} is a number, as all below it"
        if cell.strip() in map(str.strip, values) and len(set(values)) <= max(20, len(values) // 5):
            return f"{cell!r} occurs again below it"
        if cell.startswith(("http://", "https://")):
            return f"{cell[:40]!r} is an address"
    return ""
