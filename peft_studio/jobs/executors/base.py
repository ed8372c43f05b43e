"""What the scheduler needs from a place where workers run."""

from typing import Any, Protocol

from peft_studio.jobs.store import RunPaths


class Executor(Protocol):
    """Starts and ends the process of a run. The run's folder, not this object, says how the run is doing.

    ``tests/jobs/test_executors.py`` says what every implementation must do.
    """

    def open(self) -> None:
        """Begins to get ready; returns at once."""

    def ready(self) -> bool:
        """Whether `start` would start a run now."""

    def start(self, paths: RunPaths) -> None:
        """Starts a supervisor for a run, which will claim it.

        Raises:
            JobError: No process could be started.
        """

    def pending(self, paths: RunPaths) -> bool:
        """Whether what `start` started for this run still lives, and so may still claim it."""

    def lives(self, paths: RunPaths, claim: dict[str, Any]) -> bool:
        """Whether the supervisor that made a claim lives, wherever it is; also for claims of an earlier app."""

    def terminate(self, paths: RunPaths, force: bool) -> None:
        """Ends the worker of a claimed run: asks by SIGTERM or, with ``force``, kills it."""

    def close(self) -> None:
        """Lets go of what `open` made; workers go on."""
