"""One run on the command line: starts its worker and follows it, with a progress bar, until it is over."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
from tqdm import tqdm

from peft_studio.errors import JobError, StorageError
from peft_studio.jobs.reader import RunInfo, RunReader
from peft_studio.jobs.state import Status
from peft_studio.jobs.store import RunPaths
from peft_studio.jobs.warm_client import child_environment

POLL = 0.1  # seconds between two looks at the run's folder
PATIENCE = 5.0  # seconds for a run whose worker has ended to show who runs it


def start_worker(paths: RunPaths, threads: int) -> "subprocess.Popen[bytes]":
    """Starts a worker in a session of its own, so that Ctrl-C reaches only the command line.

    Args:
        paths: The run.
        threads: CPU threads for it.

    Raises:
        StorageError: Its log cannot be written.
    """
    command = [sys.executable, "-m", "peft_studio.worker", str(paths.root), "--threads", str(threads), "--by", "cli"]
    try:
        with paths.log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=child_environment(threads),
            )
    except OSError as exc:
        raise StorageError(f"The worker of {paths.id} could not be started: {exc.strerror or exc}.") from exc


class Follower:
    """Shows a run's progress on stderr.

    Args:
        paths: The run.
        worker: The process that was started for it; another may have been faster to claim the run.
        max_steps: Length of the bar.
    """

    def __init__(self, paths: RunPaths, worker: "subprocess.Popen[bytes]", max_steps: int) -> None:
        self._paths = paths
        self._worker = worker
        self._reader = RunReader(paths)
        pause = 0.5 if sys.stderr.isatty() else 10.0  # in a log file, a line now and then is enough
        self._bar = tqdm(total=max_steps, unit="step", file=sys.stderr, mininterval=pause, dynamic_ncols=True)
        self._stage = ""
        self._unclaimed_since = 0.0

    def wait(self) -> RunInfo:
        """Returns when the run is over. Ctrl-C stops it, which saves its adapter; a second Ctrl-C ends it at once.

        Raises:
            JobError: The worker ended before it took the run.
        """
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            while True:
                try:
                    info = self._show()
                    if Status(info.status).is_over:
                        return info
                    time.sleep(POLL)
                except KeyboardInterrupt:
                    self._stop()
        finally:
            signal.signal(signal.SIGTERM, previous)
            self._bar.close()
            self._reap()

    def _show(self) -> RunInfo:
        info = self._reader.info()
        self._bar.update(max(0, info.step - self._bar.n))
        if info.stage and info.stage != self._stage:
            self._stage = info.stage
            self._bar.set_description_str(info.stage, refresh=True)
        shown = {"loss": info.loss, "eval": info.eval_loss}
        self._bar.set_postfix(
            {key: f"{value:.4f}" for key, value in shown.items() if value is not None}, refresh=False
        )
        if info.status == Status.QUEUED and self._worker.poll() is not None:
            self._unclaimed_since = self._unclaimed_since or time.monotonic()
            if time.monotonic() - self._unclaimed_since > PATIENCE:
                raise JobError(f"The worker ended with exit code {self._worker.returncode}; see {self._paths.log}.")
        return info

    def _stop(self) -> None:
        if not self._paths.stop.exists():
            print("\nStopping; the adapter is saved. Press Ctrl-C again to end at once.", file=sys.stderr)
            self._paths.stop.touch()
        else:
            for child in self._workers():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGTERM)

    def _workers(self) -> list[int]:
        # The supervisor ignores signals; the worker is its child.
        with contextlib.suppress(psutil.Error):
            return [child.pid for child in psutil.Process(self._worker.pid).children()]
        return []

    def _reap(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._worker.wait(5)
