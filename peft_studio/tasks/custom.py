"""``custom``: a task made from the user's own files.

What is set aside for validation and test depends on the rows alone, so the same files always give the same splits.
Rows with one prompt never fall into two of them. The web process makes these tasks too, from what the reader program
says of the files.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import peft_studio.tasks.metrics as metrics
from peft_studio.errors import DataError
from peft_studio.machine.path_policy import resolve
from peft_studio.tasks.base import SPLITS, Row, Split, Task
from peft_studio.tasks.columns import Guess, guess
from peft_studio.tasks.reading.arrow import ArrowRows, rows_to_arrow, table_from_arrow, table_to_arrow
from peft_studio.tasks.reading.custom_data import CustomData
from peft_studio.tasks.reading.examples import make_rows
from peft_studio.tasks.reading.table_cache import Facts, Found, find
from peft_studio.tasks.tables import Table, check_file, read_table

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True)
class TableFacts:
    """What a data file is found to hold.

    Attributes:
        columns: Column names, in the file's order.
        guess: What the columns seem to be; None when fewer than two hold anything.
        fault: Why there is no guess.
        notes: What people should know of how the file was read, as sentences.
    """

    columns: tuple[str, ...]
    guess: Guess | None
    fault: str = ""
    notes: tuple[str, ...] = ()

    def guessed(self) -> Guess:
        """What the columns seem to be.

        Raises:
            DataError: That cannot be said.
        """
        if self.guess is None:
            raise DataError(self.fault)
        return self.guess


@dataclass(frozen=True)
class CustomRows:
    """What the files hold, ready for use.

    Attributes:
        data: The data's description, with guessed columns filled in.
        rows: Rows by split, each made when it is asked for.
        first: The first training row.
        labels: Class names in the order of their numbers; empty in generation.
        skipped: How many rows of all files were left out, by what they have.
        shared: How many rows of the validation and the test file have a prompt that a training row has too; no entry
            where there are none.
        at_hand: Whether rows can be made without reading the files again.
        reason: Why the columns were guessed as they were; empty where they were given.
        notes: What people should know of the files, as sentences.
    """

    data: CustomData
    rows: Mapping[Split, ArrowRows]
    first: Row
    labels: tuple[str, ...]
    skipped: Mapping[str, int]
    shared: Mapping[Split, int]
    at_hand: bool
    reason: str = ""
    notes: tuple[str, ...] = ()


def make_task(data: CustomData) -> Task:
    """Makes a task from files.

    Args:
        data: Files and columns.

    Raises:
        DataError: A file cannot be used; the message names file, row and column.
    """
    custom = load_rows(data)
    data = custom.data
    counts = ", ".join(f"{len(custom.rows[split]):,} {split}" for split in SPLITS)
    skipped = ", ".join(f"{count:,} with {fault}" for fault, count in custom.skipped.items())
    notes = [f"Skipped: {skipped}."] if skipped else []
    generation = data.kind == "generation"
    return Task(
        name="custom",
        title=f"Your data: {Path(data.train_file).name}",
        kind=data.kind,
        description=" ".join([f"Your own rows: {counts}.", *notes, *custom.notes]),
        template=data.template or f"{{{data.chat_column or data.input_column}}}" + ("\n" if generation else ""),
        load=custom.rows.__getitem__,
        score=metrics.score_texts if generation else partial(metrics.score_labels, labels=custom.labels),
        headline="bleu" if generation else "accuracy",
        labels=custom.labels,
        chats=data.chats,
        notes=custom.notes,
        guess=custom.reason,
    )


def shared_notes(shared: Mapping[Split, int]) -> list[str]:
    """Sentences on rows that the model will have seen in training, which makes a score too good.

    Args:
        shared: See ``CustomRows``.
    """
    return [
        f"{count:,} {split} row{'s have' if count > 1 else ' has'} a prompt that is also in the training rows."
        for split, count in shared.items()
    ]


def load_rows(data: CustomData) -> CustomRows:
    """Rows of files, split and with what is to be known of them; the files are read if they are new.

    Raises:
        DataError: A file cannot be used; the message names file, row and column.
    """
    found = find_rows(data)
    facts = found.facts
    rows: dict[Split, ArrowRows] = {}
    start = 0
    for split in SPLITS:
        rows[split] = ArrowRows(found.columns, start, facts["counts"][split])
        start += facts["counts"][split]
    first = Row(facts["first"]["prompt"], facts["first"]["target"])
    whole = CustomData(**facts["data"])
    notes = (*facts["notes"], *shared_notes(facts["shared"]))
    return CustomRows(
        whole, rows, first, tuple(facts["labels"]), facts["skipped"], facts["shared"], found.at_hand, facts["reason"],
        notes,
    )  # fmt: skip


def table_facts(path: Path) -> TableFacts:
    """What a file holds; it is read if it is new.

    Raises:
        DataError: The file cannot be used, or may not be named by whoever asks.
    """
    facts = find_table(path).facts
    guessed = Guess(**facts["guess"]) if facts["guess"] else None
    return TableFacts(tuple(facts["columns"]), guessed, facts["fault"], tuple(facts["notes"]))


def find_table(path: Path) -> Found:
    """Facts and columns of a file.

    Raises:
        DataError: The file cannot be used, or may not be named by whoever asks.
    """
    path = resolve(path)
    check_file(path)
    return find("table", {"path": str(path)}, [path], partial(_make_table, path))


def find_rows(data: CustomData) -> Found:
    """Facts and rows of a task, see `load_rows`.

    Raises:
        DataError: A file cannot be used; the message names file, row and column.
    """
    if not data.train_file:
        raise DataError("No training file is given. It is needed; validation and test files are not.")
    files = [resolve(data.file(split)) for split in SPLITS if data.file(split)]
    for file in files:
        check_file(file)
    return find("rows", asdict(data), files, partial(_make_rows, data))


def _make_table(path: Path) -> "tuple[Facts, pyarrow.Table]":
    table = read_table(path)
    facts: Facts = {
        "columns": table.columns,
        "encoding": table.encoding,
        "unit": table.unit,
        "faults": table.faults,
        "notes": table.notes,
        "guess": None,
        "fault": "",
    }
    try:
        facts["guess"] = asdict(guess(table))
    except DataError as error:
        facts["fault"] = str(error)
    return facts, table_to_arrow(table)


def _table(path: Path) -> Table:
    found = find_table(path)
    return table_from_arrow(found.columns(), path, found.facts)


def _make_rows(data: CustomData) -> "tuple[Facts, pyarrow.Table]":
    tables = {split: _table(Path(data.file(split))) for split in SPLITS if data.file(split)}
    facts, rows = make_rows(data, tables)
    return facts, rows_to_arrow(rows)
