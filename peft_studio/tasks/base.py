"""What a task is: data, template and metric in one frozen entry. Pure Python: the web process reads it too."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

TaskKind = Literal["generation", "classification"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


Role = Literal["system", "user", "assistant", "tool"]
"""Who speaks in a chat."""


@dataclass(frozen=True)
class Chat:
    """A conversation that a model is to lead.

    Attributes:
        turns: Role and text of each turn, in order; the last one is the assistant's.
        all_turns: Whether the loss is taken on all turns, and not on the assistant's only.
    """

    turns: tuple[tuple[Role, str], ...]
    all_turns: bool = False


@dataclass(frozen=True)
class Row:
    """One example.

    Attributes:
        prompt: What the model is given.
        target: What it should answer; the loss is taken on these tokens and the end-of-text token only. In
            classification, the name of the right class.
        references: All acceptable answers, for metrics; holds at least ``target``.
        slots: Attribute values that the answer must state, by attribute name; empty when the task has none.
        chat: The whole conversation, of which ``target`` is the last turn; how the turns before it are put to a model
            is for the model's template to say. None for a row that is no chat.
    """

    prompt: str
    target: str
    references: tuple[str, ...] = ()
    slots: Mapping[str, str] = field(default_factory=dict)
    chat: Chat | None = None


def some_rows(rows: Sequence[Row], count: int) -> Sequence[Row]:
    """At most ``count`` rows, evenly spaced, so that a file that is sorted by label is not read at one end only."""
    return [rows[number * len(rows) // count] for number in range(count)] if len(rows) > count else rows


def first_rows(rows: Sequence[Row], count: int) -> Sequence[Row]:
    """The first rows of a fixed mix, in which those of a smaller count are the beginning of those of a larger one.

    Args:
        rows: All there are, in the order of their file.
        count: How many at most.

    Returns:
        All rows as they are, where there are no more.
    """
    if len(rows) <= count:
        return rows
    mixed = list(range(len(rows)))
    random.Random(_MIX).shuffle(mixed)  # files may be sorted by label
    return [rows[number] for number in mixed[:count]]


_MIX = 20_251_128


@dataclass(frozen=True)
class Task:
    """Data, template and metric.

    Attributes:
        name: Identifier in presets and on the command line.
        title: Name shown to people.
        kind: ``generation``: answer with text; ``classification``: choose one of ``labels``.
        description: One or two sentences.
        template: How a prompt looks, for people.
        load: ``split -> rows``; deterministic.
        score: ``(rows, predictions) -> metrics``; every value is a percentage or a score from 0 to 100.
        headline: The metric of ``score`` that stands for the task in tables.
        labels: Class names of a classification task.
        reads_library: Whether the rows come from Python's standard library, which takes some seconds to read.
        realised: ``(slots, text) -> attribute -> stated?`` for tasks whose rows have slots.
        chats: Whether the rows are conversations.
        notes: What people should know of the files that it was made from, as sentences.
        guess: Why columns were guessed as they were; empty where nothing was guessed.
    """

    name: str
    title: str
    kind: TaskKind
    description: str
    template: str
    load: Callable[[Split], Sequence[Row]]
    score: Callable[[Sequence[Row], Sequence[str]], dict[str, float]]
    headline: str
    labels: tuple[str, ...] = ()
    reads_library: bool = False
    realised: Callable[[Mapping[str, str], str], dict[str, bool]] | None = None
    chats: bool = False
    notes: tuple[str, ...] = ()
    guess: str = ""
