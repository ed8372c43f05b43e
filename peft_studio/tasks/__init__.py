"""The task registry. Adding a task: one file that defines a ``Task``, and one line here."""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from peft_studio.errors import ConfigError, did_you_mean
from peft_studio.tasks.base import Row, Split, Task, TaskKind, first_rows
from peft_studio.tasks.bistro import BISTRO
from peft_studio.tasks.defects import DEFECTS
from peft_studio.tasks.docstrings import DOCSTRINGS
from peft_studio.tasks.headlines import HEADLINES
from peft_studio.tasks.reviews import REVIEWS

if TYPE_CHECKING:
    from peft_studio.tasks.custom import CustomData

TASKS: dict[str, Task] = {task.name: task for task in (BISTRO, HEADLINES, DOCSTRINGS, REVIEWS, DEFECTS)}
"""All built-in tasks by name, in the order of the form."""
CUSTOM = "custom"
"""The name of a task made from the user's own files."""


class TaskSource(Protocol):
    """What names a task: ``config.TaskConfig``, which has the other fields of ``CustomData`` too."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> TaskKind | None: ...
    @property
    def train_file(self) -> str: ...
    @property
    def train_rows(self) -> int: ...


def get_task(name: str) -> Task:
    """Looks a built-in task up.

    Raises:
        ConfigError: No task has this name.
    """
    try:
        return TASKS[name]
    except KeyError:
        hint = did_you_mean(name, [*TASKS, CUSTOM])
        raise ConfigError(f"There is no task {name!r}. {hint}", "task.id") from None


def task_of(source: TaskSource) -> Task:
    """The task that a config names, built-in or made from files, with as many training rows as it asks for.

    Raises:
        ConfigError: No task has this name.
        DataError: A file cannot be used; the message names file, row and column.
    """
    task = _whole_task(source)
    return replace(task, load=partial(_load_some, task, source.train_rows)) if source.train_rows else task


def _whole_task(source: TaskSource) -> Task:
    if source.id != CUSTOM:
        return get_task(source.id)
    from peft_studio.tasks.custom import make_task

    return make_task(custom_data(source))


def _load_some(task: Task, count: int, split: Split) -> Sequence[Row]:
    return first_rows(task.load(split), count) if split == "train" else task.load(split)


def custom_data(source: TaskSource) -> "CustomData":
    """The files and columns of a task made from files, with the kind guessed where it is not given.

    Raises:
        DataError: A file cannot be used; the message names file, row and column.
    """
    from peft_studio.tasks.custom import CustomData

    given = {each.name: getattr(source, each.name) for each in fields(CustomData)}
    return CustomData(**{**given, "kind": source.kind or guess_kind(Path(source.train_file))})


def guess_kind(file: Path) -> TaskKind:
    """What a file's target column asks for.

    Raises:
        DataError: The file cannot be used.
    """
    from peft_studio.tasks.custom import table_facts

    return table_facts(file).guessed().kind
