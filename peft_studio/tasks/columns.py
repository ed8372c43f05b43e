"""Guesses which column of a table plays which part."""

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from peft_studio.errors import BadChatError, DataError
from peft_studio.tasks.base import TaskKind
from peft_studio.tasks.chats import looks_like_chat, parse_turns
from peft_studio.tasks.reading.column_names import (
    ANSWERERS,
    BOOLEAN_STARTS,
    CHATS,
    HISTORIES,
    INPUTS,
    LABELS,
    REFERENCES,
    SYSTEMS,
    TARGETS,
    WEAK_LABELS,
    WEAK_TARGETS,
    first,
    plain,
)
from peft_studio.tasks.reading.contents import are_numbers, is_boolean, is_idle, is_label
from peft_studio.tasks.reading.labels import MAX_LABELS, folded
from peft_studio.tasks.reading.preferences import is_rejected, left_out, of_pair, preference
from peft_studio.tasks.reading.templates import pair_template
from peft_studio.tasks.tables import Table

_SAMPLE = 2000
_CHATS_SEEN = 50
"""Rows that are looked at to tell whether a column holds conversations."""


@dataclass(frozen=True)
class Guess:
    """What the columns of a table seem to be; for a person to check.

    Attributes:
        input_column: What the model is given.
        target_column: What it should answer.
        references_column: More accepted answers; empty when there is no such column.
        kind: ``generation`` or ``classification``.
        reason: Why, in one or two sentences.
        template: A prompt template, where the input seems to be spread over two columns; empty otherwise.
        chat_column: Whole conversations; then there may be no input and no target.
        history_column: What was said before the input; empty when there is no such column.
        system_column: What a model is told before all else; empty when there is no such column.
        notes: What a person should know of it, as sentences: which answers of pairs are left out, and doubts.
    """

    input_column: str
    target_column: str
    references_column: str
    kind: TaskKind
    reason: str
    template: str = ""
    chat_column: str = ""
    history_column: str = ""
    system_column: str = ""
    notes: tuple[str, ...] = ()


def guess(table: Table, kind: TaskKind | None = None) -> Guess:
    """Tells input from target by the columns' names and, where those say nothing, by their contents.

    Args:
        table: The table.
        kind: What the task is to be, if that is settled.

    Raises:
        DataError: Fewer than two columns hold anything.
    """
    names = {key: plain(key) for key in table.columns}
    pair = preference(names)
    apart = {key for key in names if is_rejected(names[key]) or (pair and key not in pair and of_pair(names[key]))}
    if kind != "classification" and (chat := _chat(table, names, pair, apart)):
        return chat
    filled = {key: texts for key in table.columns if key not in table.faults and (texts := _texts(table, key))}
    if len(filled) < 2:
        raise DataError(_too_few(table, filled))
    found = _pair(names, filled, pair, apart) if pair else _by_name(names, filled, apart, kind)
    lost = [key for key in table.faults if names[key] in (*LABELS, *TARGETS)]
    if lost and names[found.target_column] not in (*LABELS, *TARGETS):
        doubt = (
            f"Is {found.target_column!r} what the model should answer? {lost[0]!r} holds {table.faults[lost[0]][1]}."
        )
        found = replace(found, notes=(doubt,))
    return found if found.kind == "classification" else _with_turns_before(table, names, found)


def _too_few(table: Table, filled: Mapping[str, object]) -> str:
    others = "".join(f" The column {key!r} holds {what}." for key, (_, what) in list(table.faults.items())[:3])
    return (
        f"{table.name} has {len(filled)} column{'' if len(filled) == 1 else 's'} with values "
        f"({', '.join(filled) or 'none'}). At least two are needed: one with inputs, one with targets.{others}"
    )


def _chat(
    table: Table, names: Mapping[str, str], pair: tuple[str, str] | None, apart: Collection[str]
) -> Guess | None:
    """What a table of conversations holds; None if it holds none."""
    chats = [key for key in table.columns if key not in apart and key not in (pair or ())[1:] and _talks(table, key)]
    if pair and pair[0] not in chats:
        return None
    if not chats:
        return None
    column = pair[0] if pair else first({key: names[key] for key in chats}, CHATS) or chats[0]
    if not pair and names[column] == "prompt":
        found = [key for key in chats if names[key] in ("completion", "response", "answer")]
        column = found[0] if found else column
    before, after = "", ""
    ends = [turns[-1][0] for turns in _sampled_turns(table, column) if turns]
    starts = [next((role for role, _ in turns if role != "system"), "") for turns in _sampled_turns(table, column)]
    others = {
        key: name for key, name in names.items() if key != column and key not in apart and key not in (pair or ())
    }
    if starts.count("assistant") * 2 > len(starts):
        before = first(others, ("prompt", "question", "instruction", "input", "context"))
    if ends and ends.count("user") == len(ends):
        after = first(others, TARGETS)
    system = first(others, SYSTEMS)
    reason = f"Chats {column!r}: turns with their speakers."
    notes = (left_out(pair),) if pair else ()
    return Guess(before, after, "", "generation", reason, "", column, "", system, notes)


def _sampled_turns(table: Table, column: str) -> list[Sequence[tuple[str, str]]]:
    found: list[Sequence[tuple[str, str]]] = []
    for row in table.rows[:_CHATS_SEEN]:
        with contextlib.suppress(BadChatError):
            found.append(parse_turns(row[column]))
    return found


def _talks(table: Table, column: str) -> bool:
    """Whether most of a column's first cells are conversations."""
    cells = [row[column] for row in table.rows[:_CHATS_SEEN] if row[column]]
    return bool(cells) and sum(map(looks_like_chat, cells)) * 2 > len(cells)


def _pair(
    names: Mapping[str, str], filled: Mapping[str, list[str]], pair: tuple[str, str], apart: Collection[str]
) -> Guess:
    """Of two answers, the better one is the target."""
    better, worse = pair
    rest = {key: names[key] for key in filled if key not in (better, worse) and key not in apart}
    useful = {key: name for key, name in rest.items() if not is_idle(name, filled[key])} or rest
    if not useful or better not in filled:
        raise DataError(
            f"The columns {better!r} and {worse!r} hold pairs of answers, but no column holds what they answer. "
            "Add one, or make each answer a whole dialogue of Human: and Assistant: turns."
        )
    source, why = _input(useful, filled)
    reason = f"Input {source!r}: {why}. Target {better!r}: the better one of a pair of answers."
    template = pair_template(source, {key: name for key, name in useful.items() if key != source}, "generation")
    return Guess(source, better, "", "generation", reason, template, notes=(left_out(pair),))


def _with_turns_before(table: Table, names: Mapping[str, str], found: Guess) -> Guess:
    """A guess with the columns of what was said before the input, if any row has such."""
    used = (found.input_column, found.target_column, found.references_column)
    free = {
        key: name for key, name in names.items() if key not in used and any(row[key] for row in table.rows[:_SAMPLE])
    }
    history, system = first(free, HISTORIES), first(free, SYSTEMS)
    if not history and not system:
        return found
    told = " and ".join(repr(key) for key in (history, system) if key)
    reason = f"{found.reason} With {told}, each row is a chat."
    return replace(found, history_column=history, system_column=system, reason=reason)


def _by_name(
    names: Mapping[str, str], filled: Mapping[str, list[str]], apart: Collection[str], kind: TaskKind | None
) -> Guess:
    allowed = [key for key in filled if key not in apart]
    allowed = allowed if len(allowed) > 1 else list(filled)
    asked = "user" if first(names, ANSWERERS) else ""
    useful = [key for key in allowed if names[key] == asked or not is_idle(names[key], filled[key])]
    pool = useful if len(useful) > 1 else allowed
    references = first({key: names[key] for key in pool}, REFERENCES) if len(pool) > 2 else ""
    pool = [key for key in pool if key != references]
    target, why_target = _target({key: names[key] for key in pool}, filled)
    rest = {key: names[key] for key in pool if key != target}
    source, why_source = _input(rest, filled)
    if not target:
        target, why_target = _remaining({key: name for key, name in rest.items() if key != source}, filled)
    reason = f"Input {source!r}: {why_source}. Target {target!r}: {why_target}."
    notes = _doubts({key: names[key] for key in pool}, source, target, why_target, filled)
    if kind is None:
        kind = "classification" if is_label(names[target], filled[target]) else "generation"
        reason += f" {_why_kind(kind, filled[target])}"
    template, judged = pair_template(source, rest, kind), _judged(names, target, filled)
    if judged and kind == "classification":
        template = f"{{{source}}}\n{{{judged}}}"
    return Guess(source, target, references if kind == "generation" else "", kind, reason, template, notes=notes)


def _judged(names: Mapping[str, str], target: str, filled: Mapping[str, list[str]]) -> str:
    """The answer that a column of yes and no judges, as in sets of single preferences."""
    answers = {key: name for key, name in names.items() if key != target and name in ("completion", "response")}
    return first(answers, ("completion", "response")) if is_boolean(filled[target]) else ""


def _doubts(
    names: Mapping[str, str], source: str, target: str, why: str, filled: Mapping[str, list[str]]
) -> tuple[str, ...]:
    """What makes a guess doubtful, as questions."""
    rivals = [key for key in names if key not in (source, target)]
    if _judged(names, target, filled):
        return (
            f"Is it {target!r} that the model should learn to tell? If it says which answers people liked, keep only "
            "the liked rows in the file and choose the answer as target.",
        )
    named = [key for key in rivals if names[key] in LABELS or names[key] in TARGETS]
    if named:
        return (f"Is {target!r} what the model should answer, and not {' or '.join(map(repr, named[:3]))}?",)
    if rivals and why != "by its name":
        others = ", ".join(map(repr, rivals[:3]))
        return (f"Is {target!r} what the model should answer? No column's name says so. There are also {others}.",)
    if names[target] in LABELS and are_numbers(filled[target]) and len(set(filled[target])) > MAX_LABELS:
        return (f"{target!r} holds many different numbers. The model would write them as texts. Is that meant?",)
    return ()


def _texts(table: Table, column: str) -> list[str]:
    """The first values of a column; lists count as their first entry."""
    cells = (row[column] for row in table.rows[:_SAMPLE])
    firsts = ((cell if isinstance(cell, str) else next(iter(cell), "")) for cell in cells)
    return [text.strip() for text in firsts if text.strip()]


def _target(names: Mapping[str, str], filled: Mapping[str, list[str]]) -> tuple[str, str]:
    asks = [key for key in names if names[key].startswith(BOOLEAN_STARTS) and is_label("", filled[key])]
    for wanted in (LABELS, TARGETS, [names[key] for key in asks], WEAK_LABELS):
        if found := first(names, wanted):
            return found, "by its name"
    if first(names, INPUTS):
        return "", ""  # the target is what the input leaves over
    return _few_values(names, filled)


def _input(names: Mapping[str, str], filled: Mapping[str, list[str]]) -> tuple[str, str]:
    if found := first(names, INPUTS):
        return found, "by its name"
    return _longest(names, filled)


def _remaining(names: Mapping[str, str], filled: Mapping[str, list[str]]) -> tuple[str, str]:
    if found := first(names, WEAK_TARGETS):
        return found, "by its name"
    if len(names) == 1:
        return next(iter(names)), "the only other column"
    few = _few_values(names, filled)
    return few if few[0] else _longest(names, filled)


def _few_values(names: Iterable[str], filled: Mapping[str, list[str]]) -> tuple[str, str]:
    short = [key for key in names if is_label("", filled[key])]
    if not short:
        return "", ""
    return min(short, key=lambda key: len(set(filled[key]))), "few different short values"


def _longest(names: Iterable[str], filled: Mapping[str, list[str]]) -> tuple[str, str]:
    longest = max(names, key=lambda key: sum(map(len, filled[key])) / len(filled[key]))
    return longest, "the longest texts of the remaining columns"


def _why_kind(kind: TaskKind, texts: Sequence[str]) -> str:
    if kind == "classification":
        return f"Its values are few ({len(set(map(folded, texts)))}) and short, so this is classification."
    return "Its values are mostly different or long, so this is generation."
