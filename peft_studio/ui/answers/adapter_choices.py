"""Which adapters can answer side by side, and the rows that they can be asked."""

from collections.abc import Sequence

from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import parse_config
from peft_studio.runs.reader import RunInfo
from peft_studio.tasks import TASKS, get_task
from peft_studio.tasks.base import Row, Task
from peft_studio.ui.context import Studio


def usable(studio: Studio) -> list[RunInfo]:
    """Runs that can answer, newest first."""
    runs = studio.manager.library.list()
    return [info for info in runs if info.adapter_bytes and info.status in ("finished", "stopped")]


def adapters(studio: Studio, chosen: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Adapters that can stand beside those that are chosen, as label and id: name, base model, task and run."""
    return [(label(info), info.id) for info in offered(usable(studio), chosen)[0]]


def label(info: RunInfo) -> str:
    """What a run is called where its adapter is chosen."""
    return f"{info.name or info.title} · {info.model} · {info.task} · {info.id[9:15]}-{info.id[-4:]}"


def offered(runs: Sequence[RunInfo], chosen: Sequence[str]) -> tuple[list[RunInfo], str]:
    """Which runs go together with those that are chosen, and in words why others do not; all where none is chosen."""
    first = next((info for info in runs if info.id in chosen), None)
    if first is None:
        return list(runs), ""
    fit = [info for info in runs if info.id in chosen or (info.model, _form(info)) == (first.model, _form(first))]
    other = sum(info.model != first.model for info in runs if info not in fit)
    unlike = len(runs) - len(fit) - other
    why = [f"{other} on another base model than {first.model}"] if other else []
    why += [f"{unlike} that answer in another way (labels, or attention)"] if unlike else []
    return fit, f"Not offered beside these: {' and '.join(why)}." if why else ""


def _form(info: RunInfo) -> object:
    """What of a run must be the same for adapters to stand side by side: what it answers with, and attention."""
    task, model = (dict(info.config.get(part) or {}) for part in ("task", "model"))
    labels: object = TASKS[info.task].labels if info.task in TASKS else ()
    if task.get("kind") == "classification":
        labels = (task.get("train_file"), task.get("target_column"))
    return labels, {name: value for name, value in model.items() if name != "id"}


class AskableRows:
    """Rows to ask: those of the built-in tasks, and of the own data of runs.

    Args:
        studio: The app.
    """

    def __init__(self, studio: Studio) -> None:
        self._library = studio.manager.library

    def choices(self, runs: Sequence[str]) -> list[tuple[str, str]]:
        """The test sets that can be chosen, as label and name, beside some adapters."""
        known = [(entry.title, name) for name, entry in TASKS.items()]
        infos = [self._library.info(run) for run in runs]
        return [*known, *((f"Test rows of {label(info)}", self.of(info)) for info in infos if info.task not in TASKS)]

    @staticmethod
    def of(info: RunInfo) -> str:
        """The name of a run's test set."""
        return info.task if info.task in TASKS else f"run:{info.id}"

    def task(self, name: str) -> Task:
        """The task behind a test set.

        Raises:
            RunNotFoundError: It is that of a run that whoever asks may not see.
            DataError: The run's file cannot be read any more.
        """
        if not name.startswith("run:"):
            return get_task(name)
        return resolve(parse_config(self._library.info(name.removeprefix("run:")).config)).task

    def row(self, name: str, number: int | None) -> Row | None:
        """A row by its number, which begins with 1; None where there is none."""
        rows = self.task(name).load("test")
        return rows[number - 1] if number is not None and 1 <= number <= len(rows) else None
