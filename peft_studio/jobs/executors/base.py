"""What the scheduler needs from a place where workers run."""

from dataclasses import dataclass
from typing import Any, Protocol

from peft_studio.runs.paths import RunPaths


@dataclass(frozen=True)
class Wait:
    """Why a run cannot start now.

    Attributes:
        reason: In words.
        holds_up: Whether those behind it wait, too; else it might never get its turn.
    """

    reason: str
    holds_up: bool = True


def memory_wait(which: str, needed: float, free: float) -> Wait:
    """The wait for memory of some kind; bytes that a run needs, and that are free."""
    return Wait(f"waits for {which}: needs about {needed / 1e9:.1f} GB, {max(0, free) / 1e9:.1f} GB free")


class Executor(Protocol):
    """Starts and ends the process of a run. The run's folder, not this object, says how the run is doing.

    ``tests/jobs/executors/test_executors.py`` says what every implementation must do.

    Attributes:
        is_here: Whether workers take this machine's memory and cores, so that the app's limits apply to them.
        claim_timeout: Seconds from starting a supervisor to its claim, after which something must be wrong.
    """

    is_here: bool
    claim_timeout: float

    def open(self) -> None:
        """Begins to get ready; returns at once."""

    def ready(self) -> bool:
        """Whether `start` would start a run now."""

    def must_wait(self, paths: RunPaths) -> Wait | None:
        """Why there is no place for a run; None when there is one, as far as this executor can tell."""

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
