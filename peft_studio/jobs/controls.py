"""What people ask of a run becomes a file of its folder, where its worker and the scheduler find it."""

import contextlib
import json
import time
from pathlib import Path

from peft_studio.errors import ConfigError, InvalidStateError, StorageError
from peft_studio.files import atomic_write
from peft_studio.jobs.actions import MOST_STEPS
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.requeue import complete_requeue
from peft_studio.runs.status import Status
from peft_studio.runs.store import read_config

SECOND_REQUEST = 2.0  # seconds within which a second click is taken for a double click


def ask_to_stop(paths: RunPaths, status: Status) -> None:
    """Asks a run to stop; one that is over is left alone.

    Raises:
        StorageError: The request cannot be written.
    """
    if status is Status.QUEUED:
        complete_requeue(paths)  # or the flag would be moved away with the last worker's
    if not status.is_over:
        _ask(paths.stop, f"The run {paths.id} could not be asked to stop")


def ask_to_pause(paths: RunPaths, status: Status) -> None:
    """Asks a run to pause; one that is paused is left alone.

    Raises:
        InvalidStateError: It is not running.
        StorageError: The request cannot be written.
    """
    if status in (Status.RUNNING, Status.PAUSING):
        _ask(paths.pause, f"The run {paths.id} could not be asked to pause")
    elif status is not Status.PAUSED:
        instead = "Hold it instead." if status is Status.QUEUED else "Only a running run can be paused."
        raise InvalidStateError(f"The run {paths.id} is {status}, so it cannot be paused. {instead}")


def _ask(flag: Path, problem: str) -> None:
    """Writes a flag; asked again after some seconds it says "now"."""
    try:
        with contextlib.suppress(FileExistsError):
            return flag.touch(exist_ok=False)
        if abs(time.time() - flag.stat().st_mtime) > SECOND_REQUEST:  # the clock may have been set back
            flag.write_text("now\n", encoding="utf-8")
    except OSError as exc:
        raise StorageError(f"{problem}: {exc.strerror or exc}.") from exc


def lengthen(paths: RunPaths, info: RunInfo, more_steps: int) -> int:
    """Writes how many steps a run that is over makes in all, when it goes on; returns them.

    Raises:
        InvalidStateError: It cannot be trained longer, or not by so many.
        StorageError: The folder cannot be written.
    """
    if not 1 <= more_steps <= MOST_STEPS:
        raise InvalidStateError(f"{more_steps} more steps are not possible; allowed: 1 to {MOST_STEPS:,}.")
    check_can_go_on(paths, info, "extend")
    finished = info.status == Status.FINISHED  # perhaps early, by early stopping
    total = ((info.checkpoint_step if finished else info.max_steps) or info.step) + more_steps
    atomic_write(paths.extended, json.dumps({"max_steps": total}))
    return total


def check_can_go_on(paths: RunPaths, info: RunInfo, action: str) -> None:
    """Makes sure that a run can be resumed or extended.

    A run that no worker could take must not be put into the queue, either: it would lose the end that it has.

    Raises:
        InvalidStateError: It cannot; the message says why.
    """
    if action not in info.actions:
        cannot = "be resumed" if action == "resume" else "be trained longer"
        raise InvalidStateError(f"The run {paths.id} cannot {cannot}: {_why_not(info)}")
    try:
        read_config(paths.config)
    except ConfigError as exc:
        raise InvalidStateError(f"The run {paths.id} cannot go on: {exc}") from exc


def _why_not(info: RunInfo) -> str:
    if not Status(info.status).is_over:
        return f"it is {info.status}."
    if info.status == Status.FINISHED and info.checkpoint_step is not None:
        return "it has finished. Train it longer instead."
    return f"it is {info.status} and has no checkpoint to go on from. Clone it to run it again."
