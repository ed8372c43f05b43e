"""The scheduler: a thread that starts queued runs and sees to it that a stop ends in the end.

It decides from the folders alone, so one that is started anew goes on where the last one was.
"""

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from peft_studio.errors import JobError, StudioError
from peft_studio.jobs.claims import claim_run, write_exit
from peft_studio.jobs.events import EventWriter
from peft_studio.jobs.executors.base import Executor
from peft_studio.jobs.store import RunPaths, RunState, Status

TICK = 0.2  # seconds
CLAIM_TIMEOUT = 60.0  # seconds from starting a supervisor to its claim
MAX_ATTEMPTS = 3
RETRY_PAUSE = 1.0  # seconds before the second attempt, twice that before the third
KILL_AFTER = 5.0  # seconds from SIGTERM to SIGKILL

Unfinished = Callable[[], list[tuple[RunPaths, RunState]]]


@dataclass
class _Start:
    """A supervisor that was started and has not claimed its run yet."""

    paths: RunPaths
    time: float


@dataclass
class _Trouble:
    """A run that could not be started so far."""

    attempts: int
    retry_at: float


class Scheduler:
    """Starts runs in the order of their creation, a limited number at a time.

    Args:
        unfinished: Lists the runs that may still need something, oldest first.
        executor: Where workers run.
        max_running: Runs at a time.
        grace: Seconds that a worker has to stop by itself and save its adapter.
    """

    def __init__(self, unfinished: Unfinished, executor: Executor, max_running: int, grace: float) -> None:
        self._unfinished = unfinished
        self._executor = executor
        self._max_running = max_running
        self._grace = grace
        self._starting: dict[str, _Start] = {}
        self._trouble: dict[str, _Trouble] = {}
        self._asked: dict[str, float] = {}  # when SIGTERM was sent, monotonic
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._closing = False
        self._thread = threading.Thread(target=self._loop, name="scheduler", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Has it look at the queue now."""
        self._wake.set()

    def close(self) -> None:
        """Ends the thread; running workers go on."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def is_starting(self, run_id: str) -> bool:
        """Whether a supervisor was started for this run that has not claimed it yet."""
        return run_id in self._starting

    def _loop(self) -> None:
        while not self._closing:
            try:
                self.tick()
            except Exception:  # a queue that stands still because of one odd folder would be worse
                traceback.print_exc()
            self._wake.wait(TICK)
            self._wake.clear()

    def tick(self) -> None:
        """One look at all unfinished runs."""
        runs = self._unfinished()
        self._settle_starts(runs)
        running = [paths for paths, state in runs if state.status in (Status.RUNNING, Status.STOPPING)]
        for paths, state in runs:
            if state.status is Status.STOPPING:
                self._press(paths)
        free = self._max_running - len({paths.id for paths in running} | set(self._starting))
        now = time.monotonic()
        for paths, state in runs:
            if free <= 0 or self._closing:
                break
            trouble = self._trouble.get(paths.id)
            if state.status is not Status.QUEUED or paths.id in self._starting:
                continue
            if trouble is not None and now < trouble.retry_at:
                continue
            if not self._executor.ready():
                break
            self._start(paths)
            free -= 1

    def _start(self, paths: RunPaths) -> None:
        self._starting[paths.id] = _Start(paths, time.monotonic())
        try:
            self._executor.start(paths)
        except JobError as exc:
            self._failed_to_start(paths, str(exc))

    def _settle_starts(self, runs: list[tuple[RunPaths, RunState]]) -> None:
        """Forgets starts that led to a claim, and counts those that did not."""
        waiting = {paths.id for paths, state in runs if state.status is Status.QUEUED}
        self._trouble = {run_id: trouble for run_id, trouble in self._trouble.items() if run_id in waiting}
        for run_id, start in list(self._starting.items()):
            if run_id not in waiting:
                del self._starting[run_id]
            elif time.monotonic() - start.time > CLAIM_TIMEOUT:
                self._failed_to_start(start.paths, f"it did not claim the run within {CLAIM_TIMEOUT:.0f} s")
            elif not self._executor.pending(start.paths) and not start.paths.claim.exists():
                self._failed_to_start(start.paths, "its process ended before it claimed the run")

    def _failed_to_start(self, paths: RunPaths, reason: str) -> None:
        self._starting.pop(paths.id, None)
        attempts = self._trouble[paths.id].attempts + 1 if paths.id in self._trouble else 1
        self._trouble[paths.id] = _Trouble(attempts, time.monotonic() + attempts * RETRY_PAUSE)
        if attempts >= MAX_ATTEMPTS:
            self._give_up(paths, f"The worker could not be started ({reason}), tried {attempts} times; see the log.")

    def _give_up(self, paths: RunPaths, message: str) -> None:
        """Takes the run over, so that its folder says for good why it failed."""
        try:
            if claim_run(paths, by="scheduler"):
                writer = EventWriter(paths.events)
                writer.emit("failed", error=JobError.__name__, message=message)
                writer.close()
                write_exit(paths, code=1, signal=None)
        except (OSError, StudioError):  # a full disk: tried again later
            traceback.print_exc()

    def _press(self, paths: RunPaths) -> None:
        """Ends a worker that does not stop by itself: after the grace SIGTERM, then SIGKILL."""
        try:
            stop = paths.stop.stat()
        except OSError:
            return
        # A second request leaves a byte in the file: do not wait for the grace to pass.
        if not stop.st_size and time.time() - stop.st_mtime < self._grace:
            return
        now = time.monotonic()
        asked = self._asked.setdefault(paths.id, now)
        if asked == now:
            self._executor.terminate(paths, force=False)
        elif now - asked > KILL_AFTER:
            self._executor.terminate(paths, force=True)
