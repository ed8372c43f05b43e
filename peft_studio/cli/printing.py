"""How commands print: one JSON value as the last line, or a table for people."""

import json
from collections.abc import Sequence
from typing import Any


def print_json(value: Any) -> None:
    """Prints one line of JSON."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)


def print_table(rows: Sequence[Sequence[Any]]) -> None:
    """Prints rows in columns."""
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
