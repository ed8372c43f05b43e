"""The task registry. Adding a task: one file that defines a ``Task``, and one line here."""

from peft_studio.errors import ConfigError, did_you_mean
from peft_studio.tasks.base import Task
from peft_studio.tasks.bistro import BISTRO

TASKS: dict[str, Task] = {task.name: task for task in (BISTRO,)}


def get_task(name: str) -> Task:
    """Looks a task up.

    Raises:
        ConfigError: No task has this name.
    """
    try:
        return TASKS[name]
    except KeyError:
        raise ConfigError(f"There is no task {name!r}. {did_you_mean(name, TASKS)}", "task.id") from None
