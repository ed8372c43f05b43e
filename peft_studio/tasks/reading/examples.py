"""Rows of a task from the tables of the user's files: what each is given, what it should answer, what is left out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from peft_studio.errors import DataError, did_you_mean
from peft_studio.tasks.base import SPLITS, Row, Split, TaskKind
from peft_studio.tasks.columns import MAX_LABELS, fill, guess, label_of, ordered_labels, placeholders
from peft_studio.tasks.splitting import Example, merge, set_aside
from peft_studio.tasks.tables import Cell, Table

_CJK = "\u2e80"
"""From here on, characters belong to scripts that are written without spaces."""
_Fault = Literal["an empty input", "an empty target", "more than one label"]


@dataclass(frozen=True)
class CustomData:
    """Where the rows are and what their columns mean.

    Attributes:
        kind: ``generation`` or ``classification``.
        train_file: Training rows.
        validation_file: Validation rows; empty: set aside from the training rows.
        test_file: Test rows; empty: set aside from the training rows.
        input_column: What the model is given. When this and ``target_column`` are empty, all columns are guessed.
        target_column: What it should answer: a text, a list of accepted texts, or a label.
        references_column: More accepted answers for metrics; empty when there are none.
        template: The prompt with ``{column}`` placeholders; empty: the input, and in generation a line break after it.
    """

    kind: TaskKind
    train_file: str
    validation_file: str = ""
    test_file: str = ""
    input_column: str = ""
    target_column: str = ""
    references_column: str = ""
    template: str = ""

    def file(self, split: Split) -> str:
        """The file of a split; empty when it has none of its own."""
        return {"train": self.train_file, "validation": self.validation_file, "test": self.test_file}[split]


def make_rows(data: CustomData, tables: Mapping[Split, Table]) -> tuple[dict[str, Any], list[Row]]:
    """Turns tables into rows, sets some aside where files are missing, and counts.

    Args:
        data: What the columns mean; those that are not given are guessed.
        tables: The files' contents by split; always with ``train``.

    Returns:
        ``data`` with guessed columns filled in, ``counts`` of rows by split, the ``first`` training row, ``labels``,
        ``skipped`` rows by reason and ``shared`` prompts by split, as plain values; and the rows of all splits, one
        split after the other.

    Raises:
        DataError: A table cannot be used; the message names file, row and column.
    """
    data = _resolve(data, tables["train"])
    skipped: Counter[str] = Counter()
    parts = {split: _examples(table, data, skipped) for split, table in tables.items()}
    labels = _labels(parts["train"], data) if data.kind == "classification" else ()
    for split, examples in parts.items() if labels else ():
        _check_labels(examples, labels, tables[split])
    missing = [split for split in SPLITS if split not in tables]
    parts |= set_aside(parts["train"], missing, tables["train"].name, bool(labels))
    rows = {split: [example.row for example in parts[split]] for split in SPLITS}
    if data.kind == "generation":
        rows |= {split: merge(rows[split]) for split in SPLITS if split != "train"}
    first = rows["train"][0]
    facts = {
        "data": asdict(data),
        "counts": {split: len(rows[split]) for split in SPLITS},
        "first": {"prompt": first.prompt, "target": first.target},
        "labels": labels,
        "skipped": skipped,
        "shared": _shared(rows),
    }
    return facts, [row for split in SPLITS for row in rows[split]]


def _shared(rows: Mapping[Split, Sequence[Row]]) -> dict[Split, int]:
    known = {row.prompt for row in rows["train"]}
    counts = {split: sum(row.prompt in known for row in rows[split]) for split in SPLITS if split != "train"}
    return {split: count for split, count in counts.items() if count}


def _resolve(data: CustomData, table: Table) -> CustomData:
    """Fills in columns that were left to be guessed."""
    if data.input_column and data.target_column:
        return data
    found = guess(table, data.kind)
    source, target = found.input_column, found.target_column
    if data.input_column:
        return replace(data, target_column=source if target == data.input_column else target)
    if data.target_column:
        return replace(data, input_column=target if source == data.target_column else source)
    return replace(
        data,
        input_column=source,
        target_column=target,
        references_column=data.references_column or found.references_column,
        template=data.template or found.template,
    )


def _check_columns(table: Table, data: CustomData) -> None:
    for part in ("input", "target", "references"):
        column = getattr(data, f"{part}_column")
        if column and column not in table.columns:
            hint = did_you_mean(column, table.columns)
            raise DataError(f"{table.name} has no column {column!r}, which is to be the {part} column. {hint}")
    if data.input_column == data.target_column:
        raise DataError(f"Input and target are both the column {data.input_column!r}. They must be different columns.")
    try:
        used = placeholders(data.template, table.columns)
    except DataError as error:
        raise DataError(f"{table.name}: {error}") from None
    if data.template and not used:
        columns = ", ".join(table.columns)
        raise DataError(f"The template {data.template!r} uses no column. Write {{column}} for one of: {columns}.")


def _examples(table: Table, data: CustomData, skipped: Counter[str]) -> list[Example]:
    _check_columns(table, data)
    found: list[Example] = []
    faults: Counter[str] = Counter()
    for index, record in enumerate(table.rows):
        if not "".join(record[data.input_column]).strip():
            faults["an empty input"] += 1
            continue
        row = _label_row(record, data) if data.kind == "classification" else _text_row(record, data)
        if isinstance(row, Row):
            found.append(Example(row, index))
        else:
            faults[row] += 1
    if not found:
        counts = ", ".join(f"{count:,} with {fault}" for fault, count in faults.items())
        raise DataError(
            f"{table.name} has no usable rows: {counts}. A row needs an input (column {data.input_column!r}) and a "
            f"target (column {data.target_column!r})."
        )
    skipped.update(faults)
    return found


def _prompt(record: Mapping[str, Cell], data: CustomData) -> str:
    if data.template:
        return fill(data.template, record)
    cell = record[data.input_column]
    text = cell if isinstance(cell, str) else ", ".join(cell)
    return text + ("\n" if data.kind == "generation" else "")


def _label_row(record: Mapping[str, Cell], data: CustomData) -> Row | _Fault:
    label = label_of(record[data.target_column])
    if not label:
        return "more than one label" if label is None else "an empty target"
    return Row(_prompt(record, data), label, (label,))


def _text_row(record: Mapping[str, Cell], data: CustomData) -> Row | _Fault:
    targets = _answers(record[data.target_column])
    if not targets:
        return "an empty target"
    more = _answers(record[data.references_column]) if data.references_column else []
    prompt = _prompt(record, data)
    spaced = [_spaced(text, prompt) for text in (*targets, *more)]
    return Row(prompt, spaced[0], tuple(dict.fromkeys(spaced)))


def _answers(cell: Cell) -> list[str]:
    texts = [cell] if isinstance(cell, str) else cell
    return [text.rstrip() for text in texts if text.strip()]


def _spaced(text: str, prompt: str) -> str:
    """Begins an answer with a space where one belongs: tokenizers take a word and the space before it as one."""
    joined = prompt[-1:].isspace() or text[0].isspace() or text[0] >= _CJK
    return text if joined else f" {text}"


def _labels(train: Sequence[Example], data: CustomData) -> tuple[str, ...]:
    names = ordered_labels(example.row.target for example in train)
    where = f"{Path(data.train_file).name}, column {data.target_column!r}"
    if len(names) == 1:
        raise DataError(f"{where} has one class only, {names[0]!r}. Classification needs 2 to {MAX_LABELS} classes.")
    if len(names) > MAX_LABELS:
        raise DataError(
            f"{where} has {len(names):,} different values. Classification needs 2 to {MAX_LABELS} classes; if these "
            "are free texts, choose generation."
        )
    return names


def _check_labels(examples: Sequence[Example], names: Sequence[str], table: Table) -> None:
    known_names = frozenset(names)
    for example in examples:
        if example.row.target not in known_names:
            known = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
            raise DataError(
                f"{table.place(example.index)} has the label {example.row.target!r}, which no training row has. "
                f"Labels of the training rows: {known}."
            )
