"""Tables and rows come back from Arrow as they were."""

import json
from pathlib import Path
from typing import Any

import pytest

from peft_studio.tasks.base import Chat, Row
from peft_studio.tasks.reading.arrow import (
    ArrowRows,
    map_file,
    rows_to_arrow,
    table_from_arrow,
    table_to_arrow,
    write_file,
)
from peft_studio.tasks.tables import Table

ROWS = [Row(f"prompt {at}", "x" * (at % 7 + 1), ("x" * (at % 7 + 1),)) for at in range(2500)]
ROWS[3] = Row("größe 🙂\n", "a\u2028b", ("a\u2028b", "c"))


def facts_of(table: Table) -> dict[str, Any]:
    """What is kept of a table beside its columns, as JSON gives it back."""
    parts = {name: getattr(table, name) for name in ("encoding", "unit", "faults", "notes")}
    return dict(json.loads(json.dumps(parts)))


def test_a_table_comes_back(tmp_path: Path) -> None:
    rows = [{"007": "007", "b": ("x", "y"), "c": ""}, {"007": " NA ", "b": (), "c": "1e5"}]
    table = Table(Path("t.csv"), ("007", "b", "c"), rows, "utf-8", [2, 5], "line", {"c": (1, "bytes")}, ("Noted.",))
    write_file(table_to_arrow(table), tmp_path / "rows.arrow")
    again = table_from_arrow(map_file(tmp_path / "rows.arrow"), table.path, facts_of(table))
    assert again == table and again.place(1) == "t.csv, line 5"


def test_a_text_among_lists_is_a_list_of_one() -> None:
    table = Table(Path("t.json"), ("a",), [{"a": ("x", "y")}, {"a": "z"}, {"a": ""}], "utf-8", [1, 2, 3], "record")
    again = table_from_arrow(table_to_arrow(table), table.path, facts_of(table))
    assert [row["a"] for row in again.rows] == [("x", "y"), ("z",), ()]


def test_rows_are_made_when_they_are_asked_for(tmp_path: Path) -> None:
    write_file(rows_to_arrow([ROWS[0], *ROWS]), tmp_path / "rows.arrow")
    rows = ArrowRows(lambda: map_file(tmp_path / "rows.arrow"), 1, len(ROWS))
    assert len(rows) == len(ROWS) and rows == ROWS and list(rows) == ROWS
    assert (rows[0], rows[-1], rows[3]) == (ROWS[0], ROWS[-1], ROWS[3])
    assert (rows[990:1010], rows[-3:], rows[::1000], rows[5:2]) == (ROWS[990:1010], ROWS[-3:], ROWS[::1000], [])
    assert rows != ROWS[1:] and rows != ["x"] * len(ROWS)
    with pytest.raises(IndexError):
        rows[len(ROWS)]


def test_the_shortest_targets_come_in_order() -> None:
    rows = ArrowRows(lambda: rows_to_arrow(ROWS), 2, 20)
    wanted = sorted((row.target for row in ROWS[2:22]), key=len)
    assert rows.shortest_targets(5) == wanted[:5] and rows.shortest_targets(99) == wanted


def test_chats_come_back() -> None:
    chat = Chat((("user", "hi"), ("assistant", "hello\nyou")), all_turns=True)
    rows = [Row("User:\nhi", "hello\nyou", ("hello\nyou",), chat=chat), Row("a", "b", ("b",))]
    columns = rows_to_arrow(rows)
    assert list(ArrowRows(lambda: columns, 0, 2)) == rows
