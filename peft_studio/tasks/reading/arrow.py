"""Tables and rows as Arrow columns, in files that any number of processes map into memory."""

import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from peft_studio.tasks.base import Chat, Row
from peft_studio.tasks.tables import Cell, Table

if TYPE_CHECKING:
    import pyarrow

_PLACES = ""
"""Name of the column with each row's line or record in its file; columns of files are never without a name."""
_MOST_AT_ONCE = 10_000_000  # characters of the shortest targets
_AT_A_TIME = 1000  # rows that are turned into Python objects together


def table_to_arrow(table: Table) -> "pyarrow.Table":
    """A table's columns: texts, or lists of texts where any cell is one. A text in such a column is a list of one."""
    import pyarrow

    columns: dict[str, pyarrow.Array] = {_PLACES: pyarrow.array(table.numbers, pyarrow.int64())}
    for name in table.columns:
        cells: list[Cell] = [row[name] for row in table.rows]
        if all(isinstance(cell, str) for cell in cells):
            columns[name] = pyarrow.array(cells, pyarrow.large_string())
        else:
            lists = [cell if isinstance(cell, tuple) else (cell,) if cell else () for cell in cells]
            columns[name] = pyarrow.array(lists, pyarrow.large_list(pyarrow.large_string()))
    return pyarrow.table(columns)


def table_from_arrow(columns: "pyarrow.Table", path: Path, facts: Mapping[str, Any]) -> Table:
    """The table that ``table_to_arrow`` was given, read from ``path``; ``facts`` are its other attributes."""
    names = [name for name in columns.column_names if name != _PLACES]
    cells = [
        values if isinstance(values[0], str) else list(map(tuple, values))
        for values in (columns.column(name).to_pylist() for name in names)
    ]
    rows = [dict(zip(names, values, strict=True)) for values in zip(*cells, strict=True)]
    faults = {column: (row, what) for column, (row, what) in facts["faults"].items()}
    numbers = columns.column(_PLACES).to_pylist()
    return Table(path, tuple(names), rows, facts["encoding"], numbers, facts["unit"], faults, tuple(facts["notes"]))


def rows_to_arrow(rows: Sequence[Row]) -> "pyarrow.Table":
    """Prompts, targets, references and chats; references are null where the target is the only one."""
    import pyarrow

    texts = pyarrow.large_string()
    more = [None if row.references == (row.target,) else row.references for row in rows]
    return pyarrow.table(
        {
            "prompt": pyarrow.array([row.prompt for row in rows], texts),
            "target": pyarrow.array([row.target for row in rows], texts),
            "references": pyarrow.array(more, pyarrow.large_list(texts)),
            "chat": pyarrow.array([row.chat and json.dumps(astuple(row.chat)) for row in rows], texts),
        }
    )


def write_file(columns: "pyarrow.Table", path: Path) -> None:
    """Writes an Arrow file.

    Raises:
        OSError: It cannot be written.
    """
    import pyarrow

    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_file(file, columns.schema) as writer:
        writer.write_table(columns)


def map_file(path: Path) -> "pyarrow.Table":
    """Maps an Arrow file into memory; nothing is read before it is looked at.

    Raises:
        OSError: It is missing or cannot be read.
        pyarrow.ArrowException: It is damaged.
    """
    import pyarrow

    return pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all()


@dataclass(eq=False)
class ArrowRows(Sequence[Row]):
    """Rows of one split, made when they are asked for.

    Attributes:
        columns: Gives the columns of all splits, see ``rows_to_arrow``; called with the first row that is asked for.
        start: The split's first row in them.
        length: How many rows it has.
    """

    columns: "Callable[[], pyarrow.Table]"
    start: int
    length: int

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        numbers = range(self.start, self.start + self.length)[index]
        return self._made([numbers])[0] if isinstance(numbers, int) else self._made(numbers)

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, self.length, _AT_A_TIME):
            yield from self[start : start + _AT_A_TIME]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(operator.eq, self, other))

    def shortest_targets(self, count: int) -> list[str]:
        """The shortest targets, shortest first; no other row is made. Fewer, but one, where they are very long."""
        import pyarrow.compute

        targets = self.columns().column("target").slice(self.start, self.length)
        lengths = pyarrow.compute.utf8_length(targets)
        order = pyarrow.compute.sort_indices(lengths).slice(0, count)
        sums = accumulate(lengths.take(order).to_pylist())
        few = max(1, sum(total <= _MOST_AT_ONCE for total in sums))
        shortest: list[str] = targets.take(order.slice(0, few)).to_pylist()
        return shortest

    def _made(self, numbers: Sequence[int]) -> list[Row]:
        import pyarrow

        columns = self.columns().take(pyarrow.array(numbers, pyarrow.int64()))
        values = (columns.column(name).to_pylist() for name in ("prompt", "target", "references", "chat"))
        return [
            Row(prompt, target, tuple(more or (target,)), chat=_chat(chat))
            for prompt, target, more, chat in zip(*values, strict=True)
        ]


def _chat(text: str | None) -> Chat | None:
    if text is None:
        return None
    turns, all_turns = json.loads(text)
    return Chat(tuple((role, said) for role, said in turns), all_turns)
