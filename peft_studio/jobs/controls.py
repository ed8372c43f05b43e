"""What people ask of a run: to stop, to pause, to go on, to train longer."""

import contextlib
import json
import time
from pathlib import Path

from peft_studio.errors import ConfigError, InvalidStateError, StorageError
from peft_studio.files import atomic_write
from peft_studio.runs.index import RunIndex
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.queue import RunQueue
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.requeue import BY_USER, complete_requeue, requeue
from peft_studio.runs.status import Status
from peft_studio.runs.store import RunStore

SECOND_REQUEST = 2.0  # seconds within which a second click is taken for a double click
MOST_STEPS = 1_000_000  # as `TrainingConfig.max_steps`


class RunControls:
    """Turns requests into files of the run's folder, where its worker and the scheduler find them.

    Works whether or not an app runs: the command line writes the same files.

    Args:
        store: The run folders.
        index: What is known about them.
        queue: Their order.
    """

    def __init__(self, store: RunStore, index: RunIndex, queue: RunQueue) -> None:
        self._store = store
        self._index = index
        self._queue = queue

    def stop(self, run_id: str) -> None:
        """Asks a run to stop; see `JobManager.stop`."""
        paths, info = self._look(run_id)
        if Status(info.status) is Status.QUEUED:
            complete_requeue(paths)  # or the flag would be moved away with the last worker's
        elif not Status(info.status).is_active:
            return
        _ask(paths.stop, f"The run {run_id} could not be asked to stop")

    def pause(self, run_id: str) -> None:
        """Asks a running run to pause; see `JobManager.pause`."""
        paths, info = self._look(run_id)
        status = Status(info.status)
        if status is Status.PAUSED:
            return
        if status not in (Status.RUNNING, Status.PAUSING):
            instead = "Hold it instead." if status is Status.QUEUED else "Only a running run can be paused."
            raise InvalidStateError(f"The run {run_id} is {status}, so it cannot be paused. {instead}")
        _ask(paths.pause, f"The run {run_id} could not be asked to pause")

    def resume(self, run_id: str) -> None:
        """Puts a run back into the queue; see `JobManager.resume`."""
        paths, info = self._look(run_id)
        if Status(info.status) is Status.QUEUED:
            return
        if "resume" not in info.actions:
            raise InvalidStateError(f"The run {run_id} cannot be resumed: {_why_not(info)}")
        self._check_config(run_id)
        self._requeue(paths)

    def extend(self, run_id: str, more_steps: int) -> int:
        """Trains a run longer; see `JobManager.extend`."""
        paths, info = self._look(run_id)
        if not 1 <= more_steps <= MOST_STEPS:
            raise InvalidStateError(f"{more_steps} more steps are not possible; allowed: 1 to {MOST_STEPS:,}.")
        if "extend" not in info.actions:
            raise InvalidStateError(f"The run {run_id} cannot be trained longer: {_why_not(info)}")
        self._check_config(run_id)
        finished = Status(info.status) is Status.FINISHED  # perhaps early, by early stopping
        total = (info.checkpoint_step if finished else info.max_steps) or info.step
        atomic_write(paths.extended, json.dumps({"max_steps": total + more_steps}))
        self._requeue(paths)
        return total + more_steps

    def hold(self, run_id: str, held: bool) -> None:
        """Holds a queued run back, or releases it; see `JobManager.hold`."""
        _, info = self._look(run_id)
        if Status(info.status) is not Status.QUEUED:
            raise InvalidStateError(f"The run {run_id} is {info.status}; only a queued run can be held or released.")
        self._queue.hold(run_id, held)

    def prioritize(self, run_id: str, priority: str) -> None:
        """Gives a queued run a priority; see `JobManager.prioritize`."""
        _, info = self._look(run_id)
        if Status(info.status) is not Status.QUEUED:
            raise InvalidStateError(f"The run {run_id} is {info.status}; only a queued run has a priority.")
        self._queue.prioritize(run_id, priority)

    def _look(self, run_id: str) -> tuple[RunPaths, RunInfo]:
        return self._store.paths(run_id), self._index.get(run_id)

    def _check_config(self, run_id: str) -> None:
        """A run that no worker could take must not be put into the queue: it would lose the end that it has."""
        try:
            self._store.config(run_id)
        except ConfigError as exc:
            raise InvalidStateError(f"The run {run_id} cannot go on: {exc}") from exc

    def _requeue(self, paths: RunPaths) -> None:
        self._queue.enter(paths.id)
        requeue(paths, BY_USER)
        self._index.changed(paths.id)


def _why_not(info: RunInfo) -> str:
    if not Status(info.status).is_over:
        return f"it is {info.status}."
    if info.status == Status.FINISHED and info.checkpoint_step is not None:
        return "it has finished. Train it longer instead."
    return f"it is {info.status} and has no checkpoint to go on from. Clone it to run it again."


def _ask(flag: Path, problem: str) -> None:
    """Writes a flag; asked again after some seconds it says "now"."""
    try:
        with contextlib.suppress(FileExistsError):
            return flag.touch(exist_ok=False)
        if abs(time.time() - flag.stat().st_mtime) > SECOND_REQUEST:  # the clock may have been set back
            flag.write_text("now\n", encoding="utf-8")
    except OSError as exc:
        raise StorageError(f"{problem}: {exc.strerror or exc}.") from exc
