"""Workers on this machine: forked from the warm server in milliseconds, or started cold when that cannot be."""

import contextlib
from typing import Any

import psutil

from peft_studio.jobs.executors.base import Wait
from peft_studio.jobs.executors.gpu_placement import GpuPlaces
from peft_studio.processes.warm_client import WarmClient
from peft_studio.runs.claims import claimant_lives, end_worker
from peft_studio.runs.paths import RunPaths


class LocalExecutor:
    """Starts supervisors in sessions of their own, so that they outlive the app.

    Args:
        warm: The warm server, which the engine shares; `open` and `close` open and close it.
        threads: CPU threads for each worker.
        module: Name of the module that a worker runs, given the run's folder and ``--threads``.
        places: Which GPUs a run was given; None on a machine without.
        public: Whether workers may read only files that visitors brought.
    """

    is_here = True
    claim_timeout = 60.0

    def __init__(
        self,
        warm: WarmClient,
        threads: int,
        module: str = "peft_studio.worker",
        places: GpuPlaces | None = None,
        public: bool = False,
    ) -> None:
        self._warm = warm
        self._public = public
        self._threads = threads
        self._module = module
        self._places = places
        self._started: dict[str, psutil.Process] = {}

    def open(self) -> None:
        """Starts loading the warm server."""
        self._warm.open()

    def ready(self) -> bool:
        """False only while a warm server that will soon be ready loads: a cold start would be slower and heavier."""
        self._warm.reap()
        return self._warm.ready() or not self._warm.worth_waiting()

    def must_wait(self, _paths: RunPaths) -> Wait | None:
        """Never: what the machine can bear, the scheduler knows."""
        return None

    def start(self, paths: RunPaths) -> None:
        """Starts a supervisor.

        Raises:
            JobError: No process could be started.
        """
        args = [str(paths.root), "--threads", str(self._threads), *(["--public"] if self._public else [])]
        gpus = self._places.given(paths) if self._places else None
        args += [] if gpus is None else ["--gpus", ",".join(gpus)]
        pid = self._warm.launch(self._module, args, paths.log)
        with contextlib.suppress(psutil.NoSuchProcess):  # it may have ended already
            self._started[paths.id] = psutil.Process(pid)

    def pending(self, paths: RunPaths) -> bool:
        """Whether the supervisor that was started for this run still lives."""
        if self._warm.lives(self._started.get(paths.id)):
            return True
        self._started.pop(paths.id, None)
        return False

    def lives(self, paths: RunPaths, claim: dict[str, Any]) -> bool:
        """Whether a claimant lives."""
        return claimant_lives(paths, claim)

    def terminate(self, paths: RunPaths, force: bool) -> None:
        """Ends the worker below the run's supervisor, which stays to record how it ended."""
        end_worker(paths, force)

    def close(self) -> None:
        """Ends the warm server."""
        self._warm.close()
