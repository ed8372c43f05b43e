"""The scheduler: a thread that starts queued runs, takes up interrupted ones, and has the deaf ones ended.

It decides from the folders alone, so one that is started anew goes on where the last one was.
"""

import threading
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass

from peft_studio.errors import JobError, StudioError
from peft_studio.files import read_json
from peft_studio.jobs.admission import Admission
from peft_studio.jobs.executors.base import Executor
from peft_studio.jobs.fair_share import FairShare
from peft_studio.jobs.termination import Press
from peft_studio.runs.claims import claim_run, write_exit
from peft_studio.runs.events import EventWriter
from peft_studio.runs.index import RunIndex
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.queue import RunQueue
from peft_studio.runs.requeue import BY_ITSELF, attempts, complete_requeue, may_start_by_itself, requeue
from peft_studio.runs.status import RunState, Status
from peft_studio.settings import Settings

TICK = 0.2  # seconds
MAX_TRIES = 3
RETRY_PAUSE = 1.0  # seconds before the second attempt, twice that before the third


@dataclass
class _Start:
    """A supervisor that was started and has not claimed its run yet."""

    paths: RunPaths
    time: float
    attempts: int  # how many there were before


class Scheduler:
    """Starts runs in the queue's order, as many at a time as limits and memory allow.

    Args:
        runs: The runs.
        executor: Where workers run.
        queue: Their order.
        admission: Whether there is memory for one more.
        press: Ends those that do not end by themselves.
        settings: How many may run, and whether interrupted ones are put back into the queue.
        share: How many of one visitor, and for how long.
    """

    def __init__(
        self,
        runs: RunIndex,
        executor: Executor,
        queue: RunQueue,
        admission: Admission,
        press: Press,
        settings: Settings,
        share: FairShare,
    ) -> None:
        self._runs = runs
        self._executor = executor
        self._queue = queue
        self._admission = admission
        self._press = press
        self._settings = settings
        self._share = share
        self._starting: dict[str, _Start] = {}
        self._trouble: dict[str, tuple[int, float]] = {}  # failed starts in a row, and when to try again
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
        """One look at all runs that may need something."""
        if self._settings.auto_resume:
            self._revive()
        runs = self._runs.unfinished()
        self._settle_starts(runs)
        for paths, state in runs:
            if state.status in (Status.STOPPING, Status.PAUSING):
                self._press.press(paths, state.status)
            elif state.status is Status.RUNNING:
                self._share.end_overlong(paths)
        busy = {paths.id: paths for paths, state in runs if state.status.is_active}
        busy |= {run_id: start.paths for run_id, start in self._starting.items()}
        self._fill([paths for paths, state in runs if state.status is Status.QUEUED], busy)

    def _fill(self, queued: Iterable[RunPaths], busy: dict[str, RunPaths]) -> None:
        """Starts what may start. One that must wait for memory holds up all behind it, or it might starve."""
        queue = self._queue.state()
        is_here = self._executor.is_here
        notes: dict[str, str] = {}
        for paths in queued:
            if queue.paused or self._closing or (is_here and len(busy) >= self._settings.max_running):
                break
            if paths.id in queue.held or paths.id in busy or self._is_troubled(paths):
                continue
            if not self._share.may_start(paths, list(busy)):
                notes[paths.id] = "waits until a run of the same person ends"
                continue
            wait = self._executor.must_wait(paths)
            if wait is None and is_here:
                wait = self._admission.must_wait(paths, list(busy.values()))
            if wait is not None:
                notes[paths.id] = wait.reason
                if wait.holds_up:
                    break
                continue
            if not self._executor.ready():
                break
            self._start(paths)
            busy[paths.id] = paths
        self._runs.notes = notes

    def _is_troubled(self, paths: RunPaths) -> bool:
        return paths.id in self._trouble and time.monotonic() < self._trouble[paths.id][1]

    def _revive(self) -> None:
        """Puts interrupted runs back at the front of the queue."""
        for paths in self._runs.interrupted():
            # Whoever trains in a terminal has seen it end, and decides.
            if (read_json(paths.claim) or {}).get("by") != "app" or not may_start_by_itself(paths):
                continue
            try:
                requeue(paths, BY_ITSELF)
                self._queue.enter(paths.id, first=True)
            except StudioError:  # a process is still ending, or the disk is full: tried again later
                continue
            self._runs.changed(paths.id)

    def _start(self, paths: RunPaths) -> None:
        self._press.forget(paths.id)
        self._starting[paths.id] = _Start(paths, time.monotonic(), len(attempts(paths)))
        try:
            complete_requeue(paths)
            self._executor.start(paths)
        except StudioError as exc:
            self._failed_to_start(paths, str(exc))

    def _settle_starts(self, runs: list[tuple[RunPaths, RunState]]) -> None:
        """Forgets starts that led to a claim, and counts those that did not."""
        waiting = {paths.id for paths, state in runs if state.status is Status.QUEUED}
        self._trouble = {run_id: trouble for run_id, trouble in self._trouble.items() if run_id in waiting}
        for run_id, start in list(self._starting.items()):
            # It may have been claimed, have ended and be in the queue again, all since the last look.
            if run_id not in waiting or len(attempts(start.paths)) > start.attempts:
                del self._starting[run_id]
            elif start.paths.claim.exists():
                continue  # claimed since the look that ``runs`` come from
            elif time.monotonic() - start.time > self._executor.claim_timeout:
                patience = f"{self._executor.claim_timeout:.0f} s"
                self._failed_to_start(start.paths, f"it did not claim the run within {patience}")
            elif not self._executor.pending(start.paths) and not start.paths.claim.exists():
                self._failed_to_start(start.paths, "its process ended before it claimed the run")

    def _failed_to_start(self, paths: RunPaths, reason: str) -> None:
        self._starting.pop(paths.id, None)
        tries = self._trouble.get(paths.id, (0, 0.0))[0] + 1
        self._trouble[paths.id] = tries, time.monotonic() + tries * RETRY_PAUSE
        if tries >= MAX_TRIES:
            self._give_up(paths, f"The worker could not be started ({reason}), tried {tries} times; see the log.")

    def _give_up(self, paths: RunPaths, message: str) -> None:
        """Takes the run over, so that its folder says for good why it failed."""
        try:
            if claim_run(paths, by="scheduler", hold=False):
                writer = EventWriter(paths.events)
                writer.emit("failed", error=JobError.__name__, message=message)
                writer.close()
                write_exit(paths, code=1, signal=None)
        except (OSError, StudioError):  # a full disk: tried again later
            traceback.print_exc()
