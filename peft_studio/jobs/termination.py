"""Sees to it that a request to stop or to pause ends a worker in the end, even one that does not listen."""

import time
from pathlib import Path

from peft_studio.files import is_there
from peft_studio.jobs.executors.base import Executor
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.status import Status

KILL_AFTER = 5.0  # seconds from SIGTERM to SIGKILL


class Press:
    """After the grace asks by SIGTERM, and then kills.

    Args:
        executor: Where workers run.
        grace: Seconds that a worker has to end by itself.
    """

    def __init__(self, executor: Executor, grace: float) -> None:
        self._executor = executor
        self._grace = grace
        self._seen: dict[tuple[str, Status], float] = {}  # when the request was first seen; times are monotonic
        self._asked: dict[tuple[str, Status], float] = {}  # when SIGTERM was sent

    def forget(self, run_id: str) -> None:
        """A new worker of a run has its whole grace again."""
        for times in (self._seen, self._asked):
            for key in [key for key in times if key[0] == run_id]:
                del times[key]

    def press(self, paths: RunPaths, status: Status) -> None:
        """Looks whether the time has come to be less polite.

        Args:
            paths: A run that was asked to stop or to pause.
            status: Which of the two.
        """
        if not self._is_due(paths, status):
            return
        now = time.monotonic()
        asked = self._asked.setdefault((paths.id, status), now)
        if asked == now:
            self._executor.terminate(paths, force=False)
        elif now - asked > KILL_AFTER:
            self._executor.terminate(paths, force=True)

    def _is_due(self, paths: RunPaths, status: Status) -> bool:
        flag: Path = paths.pause if status is Status.PAUSING else paths.stop
        try:
            found = flag.stat()
        except OSError:
            return False
        # A second request leaves a byte in the file: do not wait for the grace to pass.
        if found.st_size:
            return True
        # Ended before its first checkpoint, a run would lose what it has learned: only a second request may do that.
        if status is Status.PAUSING and not is_there(paths.checkpoint):
            return False
        # Not by the time of the file, which means nothing once somebody has set the clock.
        return time.monotonic() - self._seen.setdefault((paths.id, status), time.monotonic()) >= self._grace
