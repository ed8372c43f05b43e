"""Rows of a task from the tables of the user's files: what each is given, what it should answer, what is left out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from peft_studio.errors import BadChatError, DataError, did_you_mean
from peft_studio.tasks.base import SPLITS, Chat, Row, Split
from peft_studio.tasks.chats import (
    Turn,
    checked,
    history_turns,
    looks_like_chat,
    parse_turns,
    plain_text,
)
from peft_studio.tasks.columns import guess
from peft_studio.tasks.reading.custom_data import CustomData
from peft_studio.tasks.reading.labels import (
    MAX_LABELS,
    folded,
    label_of,
    name_of,
    ordered_labels,
    spelling_notes,
    spellings,
)
from peft_studio.tasks.reading.limits import MAX_CELL, MAX_PROMPTS
from peft_studio.tasks.reading.preferences import pair_notes
from peft_studio.tasks.reading.templates import fill, placeholders
from peft_studio.tasks.splitting import Example, merge, set_aside
from peft_studio.tasks.tables import Cell, Table

_SHOWN = 100_000
"""Characters of the first row that are told without reading all rows."""
_LONGEST_LABEL = 1_000
_CJK = "\u2e80"
"""From here on, characters belong to scripts that are written without spaces."""
_Fault = Literal["an empty input", "an empty target", "an empty chat", "more than one label"]
_SEVERAL: _Fault = "more than one label"


def make_rows(data: CustomData, tables: Mapping[Split, Table]) -> tuple[dict[str, Any], list[Row]]:
    """Turns tables into rows, sets some aside where files are missing, and counts.

    Args:
        data: What the columns mean; those that are not given are guessed.
        tables: The files' contents by split; always with ``train``.

    Returns:
        ``data`` with guessed columns filled in, ``counts`` of rows by split, the ``first`` training row, ``labels``,
        ``skipped`` rows by reason, ``shared`` prompts by split, the ``reason`` of a guess, and ``notes``, sentences on
        what people should know, as plain values; and the rows of all splits, one split after the other.

    Raises:
        DataError: A table cannot be used; the message names file, row and column.
    """
    data, reason, notes = _resolve(data, tables["train"])
    notes = [*dict.fromkeys(note for table in tables.values() for note in table.notes), *notes]
    skipped: Counter[str] = Counter()
    parts = {split: _examples(table, data, skipped) for split, table in tables.items()}
    labels: tuple[str, ...] = ()
    if data.kind == "classification":
        notes += _one_spelling(parts)
        labels = _labels(parts["train"], data)
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
        "first": {"prompt": first.prompt[:_SHOWN], "target": first.target[:_SHOWN]},
        "labels": labels,
        "skipped": skipped,
        "shared": _shared(rows),
        "reason": reason,
        "notes": notes,
    }
    return facts, [row for split in SPLITS for row in rows[split]]


def _shared(rows: Mapping[Split, Sequence[Row]]) -> dict[Split, int]:
    known = {row.prompt for row in rows["train"]}
    counts = {split: sum(row.prompt in known for row in rows[split]) for split in SPLITS if split != "train"}
    return {split: count for split, count in counts.items() if count}


def _resolve(data: CustomData, table: Table) -> tuple[CustomData, str, list[str]]:
    """Fills in columns that were left to be guessed; says why, and what a person should know of it."""
    notes = pair_notes(table.columns, data.target_column or data.chat_column)
    if data.chat_column or (data.input_column and data.target_column):
        return data, "", notes
    found = guess(table, data.kind)
    source, target = found.input_column, found.target_column
    if data.input_column and not found.chat_column:
        return replace(data, target_column=source if target == data.input_column else target), "", notes
    if data.target_column and not found.chat_column:
        return replace(data, input_column=target if source == data.target_column else source), "", notes
    guessed = replace(
        data,
        input_column=source,
        target_column=target,
        references_column=data.references_column or found.references_column,
        template=data.template or found.template,
        chat_column=found.chat_column,
        history_column=data.history_column or found.history_column,
        system_column=data.system_column or found.system_column,
    )
    return guessed, found.reason, list(found.notes)


def _check_columns(table: Table, data: CustomData) -> None:
    for part in ("input", "target", "references", "chat", "history", "system"):
        column = getattr(data, f"{part}_column")
        if column and column not in table.columns:
            hint = did_you_mean(column, table.columns)
            raise DataError(f"{table.name} has no column {column!r}, which is to be the {part} column. {hint}")
        if column and part not in ("chat", "history") and not (part == "input" and data.chat_column):
            table.require(column)
    if data.input_column == data.target_column and not data.chat_column:
        raise DataError(f"Input and target are both the column {data.input_column!r}. They must be different columns.")
    try:
        used = placeholders(data.template, table.columns)
    except DataError as error:
        raise DataError(f"{table.name}: {error}") from None
    for column in used:
        table.require(column)
    if data.template and not used:
        columns = ", ".join(table.columns)
        raise DataError(f"The template {data.template!r} uses no column. Write {{column}} for one of: {columns}.")


def _examples(table: Table, data: CustomData, skipped: Counter[str]) -> list[Example]:
    _check_columns(table, data)
    found: list[Example] = []
    faults: Counter[str] = Counter()
    made = 0
    for index, record in enumerate(table.rows):
        if not data.chat_column and not "".join(record[data.input_column]).strip():
            faults["an empty input"] += 1
            continue
        if data.chats and data.kind == "generation":
            row: Row | _Fault = _chat_row(record, data, table, index)
        else:
            row = _label_row(record, data) if data.kind == "classification" else _text_row(record, data)
        if isinstance(row, Row):
            made += len(row.prompt)
            if len(row.prompt) > 2 * MAX_CELL or made > MAX_PROMPTS:
                raise DataError(
                    f"{table.place(index)}: the template makes a prompt of {len(row.prompt):,} characters here, and "
                    f"{made:,} so far. At most {2 * MAX_CELL:,} and {MAX_PROMPTS:,} are allowed."
                )
            found.append(Example(row, index))
        else:
            faults[row] += 1
    if (several := faults[_SEVERAL]) >= max(1, len(found)):
        raise DataError(
            f"{table.name}, column {data.target_column!r} has more than one label in {several:,} of "
            f"{len(table.rows):,} rows. Allowed: one label in each row; a model with several is not offered here."
        )
    if not found and data.chat_column:
        raise DataError(f"{table.name}, column {data.chat_column!r} holds no chats: all of its cells are empty.")
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
        return _SEVERAL if label is None else "an empty target"
    return Row(_prompt(record, data), label, (label,))


def _chat_row(record: Mapping[str, Cell], data: CustomData, table: Table, index: int) -> Row | _Fault:
    if data.chat_column and not "".join(record[data.chat_column]).strip("[]{} \n"):
        return "an empty chat"
    if not data.chat_column and not _answers(record[data.target_column]):
        return "an empty target"
    try:
        turns = checked(_turns(record, data))
    except BadChatError as error:
        column = data.chat_column or data.history_column or data.system_column
        raise DataError(f"{table.place(index)}, column {column!r} holds {error}.") from None
    target = turns[-1][1]
    return Row(plain_text(turns[:-1]), target, (target,), chat=Chat(turns, data.loss_on == "all"))


def _turns(record: Mapping[str, Cell], data: CustomData) -> list[Turn]:
    """A row's turns, from all the columns that hold some."""
    turns: list[Turn] = []
    if data.history_column:
        turns += history_turns(record[data.history_column])
    if not data.chat_column:
        turns += [("user", _prompt(record, data).rstrip("\n")), ("assistant", _answers(record[data.target_column])[0])]
    else:
        turns += parse_turns(record[data.chat_column])
        if data.input_column and next((role for role, _ in turns if role != "system"), "") == "assistant":
            given = record[data.input_column]
            turns = [*(parse_turns(given) if looks_like_chat(given) else [("user", "".join(given))]), *turns]
        if data.target_column and turns and turns[-1][0] != "assistant":
            turns += [("assistant", answer) for answer in _answers(record[data.target_column])[:1]]
    told = "".join(record[data.system_column]) if data.system_column else ""
    if told.strip() and turns and turns[0][0] != "system":
        turns = [("system", told), *turns]
    return turns


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


def _one_spelling(parts: Mapping[Split, list[Example]]) -> list[str]:
    """Gives all spellings of a label one name; says which there were.

    Args:
        parts: Rows by split, which are changed. Those of training give the names.
    """
    found = spellings(each.row.target for part in parts.values() for each in part)
    names = {fold: name_of(ways) for fold, ways in spellings(each.row.target for each in parts["train"]).items()}
    for examples in parts.values():
        for at, example in enumerate(examples):
            name = names.get(folded(example.row.target), example.row.target)
            if name != example.row.target:
                examples[at] = replace(example, row=replace(example.row, target=name, references=(name,)))
    return spelling_notes(found)


def _labels(train: Sequence[Example], data: CustomData) -> tuple[str, ...]:
    names = ordered_labels(example.row.target for example in train)
    where = f"{Path(data.train_file).name}, column {data.target_column!r}"
    if (longest := max(map(len, names))) > _LONGEST_LABEL:
        raise DataError(f"{where} has a label of {longest:,} characters. At most {_LONGEST_LABEL:,} are allowed.")
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
