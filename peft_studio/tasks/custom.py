"""``custom``: a task made from the user's own files.

What is set aside for validation and test depends on the rows alone, so the same files always give the same splits.
Rows with one prompt never fall into two of them. Pure Python: the web process makes these tasks too.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import peft_studio.tasks.metrics as metrics
from peft_studio.errors import DataError, did_you_mean
from peft_studio.tasks.base import SPLITS, Row, Split, Task, TaskKind
from peft_studio.tasks.columns import MAX_LABELS, fill, guess, label_of, ordered_labels, placeholders
from peft_studio.tasks.splitting import Example, merge, set_aside
from peft_studio.tasks.tables import Cell, Table, read_table

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


@dataclass(frozen=True)
class CustomRows:
    """What the files hold, ready for use.

    Attributes:
        data: The data's description, with guessed columns filled in.
        rows: Rows by split.
        labels: Class names in the order of their numbers; empty in generation.
        skipped: How many rows of all files were left out, by what they have.
        shared: How many rows of the validation and the test file have a prompt that a training row has too; no entry
            where there are none.
    """

    data: CustomData
    rows: Mapping[Split, tuple[Row, ...]]
    labels: tuple[str, ...]
    skipped: Mapping[str, int]
    shared: Mapping[Split, int]


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
        description=" ".join([f"Your own rows: {counts}.", *notes, *shared_notes(custom.shared)]),
        template=data.template or f"{{{data.input_column}}}" + ("\n" if generation else ""),
        load=partial(_load, custom),
        score=metrics.score_texts if generation else partial(metrics.score_labels, labels=custom.labels),
        headline="bleu" if generation else "accuracy",
        labels=custom.labels,
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


def _load(custom: CustomRows, split: Split) -> list[Row]:
    return list(custom.rows[split])


def load_rows(data: CustomData) -> CustomRows:
    """Reads the files and splits the rows; does so once for files that stay the same.

    Raises:
        DataError: A file cannot be used; the message names file, row and column.
    """
    files = (data.file(split) for split in SPLITS)
    return _rows(data, tuple(_stamp(Path(file)) if file else (0, 0) for file in files))


def cached_table(path: Path) -> Table:
    """Like ``read_table``, but reads a file that stays the same only once.

    Raises:
        DataError: The file cannot be used, or the app is public and the file is not an upload.
    """
    _check_place(path)
    return _table(path, _stamp(path))


_public_home: Path | None = None


def restrict_to(home: Path | None) -> None:
    """Has this process read only files that visitors of a public app uploaded or fetched into a home folder."""
    global _public_home
    _public_home = home and home.resolve()


def _check_place(path: Path) -> None:
    """On a public Space, visitors may name their uploads and fetched data sets, not any file of the machine."""
    if _public_home is None:
        return
    folders = path.resolve().parents[1:3]
    if folders not in [(_public_home / name, _public_home) for name in ("uploads", "datasets")]:
        raise DataError(f"On a Space only uploaded files can be used, and {str(path)!r} is not one. Upload it first.")


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return 0, 0  # reading it will say what is wrong
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=4)
def _table(path: Path, stamp: tuple[int, int]) -> Table:
    return read_table(path)


@lru_cache(maxsize=4)
def _rows(data: CustomData, stamps: tuple[tuple[int, int], ...]) -> CustomRows:
    if not data.train_file:
        raise DataError("No training file is given. It is needed; validation and test files are not.")
    tables = {split: cached_table(Path(data.file(split))) for split in SPLITS if data.file(split)}
    data = _resolve(data, tables["train"])
    skipped: Counter[str] = Counter()
    parts = {split: _examples(table, data, skipped) for split, table in tables.items()}
    labels = _labels(parts["train"], data) if data.kind == "classification" else ()
    for examples in parts.values() if labels else ():
        _check_labels(examples, labels)
    missing = [split for split in SPLITS if split not in tables]
    parts |= set_aside(parts["train"], missing, tables["train"].name, bool(labels))
    rows = {split: [example.row for example in parts[split]] for split in SPLITS}
    if data.kind == "generation":
        rows |= {split: merge(rows[split]) for split in SPLITS if split != "train"}
    return CustomRows(data, {split: tuple(rows[split]) for split in SPLITS}, labels, dict(skipped), _shared(rows))


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
            found.append(Example(row, table.place(index)))
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


def _check_labels(examples: Sequence[Example], names: Sequence[str]) -> None:
    for example in examples:
        if example.row.target not in names:
            known = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
            raise DataError(
                f"{example.place} has the label {example.row.target!r}, which no training row has. Labels of the "
                f"training rows: {known}."
            )
