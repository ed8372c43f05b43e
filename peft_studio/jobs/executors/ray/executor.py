"""Workers on a Ray cluster, whose nodes need not share a file system with the app.

The app talks to a process of its own, the bridge, and never loads Ray. On a node an actor starts the ordinary
supervisor in a folder there; the bridge mirrors what appears in it. A node that dies cuts its runs short, and the
scheduler has them go on elsewhere from the last checkpoint that was mirrored.
"""

import contextlib
import importlib.util
import subprocess
import sys
import threading
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from peft_studio.errors import ConfigError, JobError
from peft_studio.files import read_json
from peft_studio.jobs.executors.base import Wait
from peft_studio.processes.warm_client import child_environment
from peft_studio.runs.claims import claimant_lives
from peft_studio.runs.paths import RunPaths

RETRY_PAUSE = 10.0  # seconds between two attempts to connect
FRESH = 15.0  # seconds after which a bridge that tells nothing is not believed any more
CLOSE_PATIENCE = 10.0  # seconds for the bridge to end
_REQUIREMENT = "ray==2.60.*"


class RayExecutor:
    """Starts supervisors on the nodes of a Ray cluster.

    Args:
        home: The home folder.
        threads: CPU threads of each worker.
        address: Of the cluster, such as ``10.0.0.1:6379``; when empty, that of one that runs on this machine, or else
            one is started that ends with the app.
        request: CPUs and GPUs of a run that asks for none itself.
        module: Name of the module that a worker runs; also an attribute.

    Raises:
        ConfigError: Ray is not installed.
    """

    is_here = False
    claim_timeout = 600.0  # a node may first have to load the package, and be sent data and a checkpoint

    def __init__(
        self,
        home: Path,
        threads: int,
        address: str = "",
        request: tuple[float, float] = (1.0, 0.0),
        module: str = "peft_studio.worker",
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ConfigError(
                f"PEFT_STUDIO_EXECUTOR = 'ray' needs Ray, which is not installed. Run: pip install '{_REQUIREMENT}'",
                "executor",
            )
        self._home = home
        self._threads = threads
        self._address = address
        self._request = request
        self.module = module
        self._lock = threading.RLock()
        self._is_open = False
        self._bridge: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self._listener = threading.Thread()
        self._spawned = self._heard = float("-inf")
        self._nodes: list[tuple[list[float], list[float]]] = []  # what is free of each, and all; CPUs and GPUs
        self._starting: dict[str, list[float]] = {}  # what the runs ask for that were started and are not claimed yet
        self._problem = ""

    def open(self) -> None:
        """Starts connecting."""
        with self._lock:
            self._is_open = True
            (self._home / "cache").mkdir(parents=True, exist_ok=True)
            self._keep_bridge()

    def ready(self) -> bool:
        """Whether the cluster answers; tries again now and then when it does not."""
        with self._lock:
            self._keep_bridge()
            return time.monotonic() - self._heard < FRESH

    def must_wait(self, paths: RunPaths) -> Wait | None:
        """The cluster cannot be reached, or no node has enough CPUs and GPUs that are free."""
        if not self.ready():
            return Wait(f"waits for the Ray cluster{f': {self._problem}' if self._problem else ''}")
        wanted = self._requested(paths)
        words = f"{wanted[0]:g} CPU" + (f" and {wanted[1]:g} GPU" if wanted[1] else "")
        nodes, starting = self._nodes, [taken for run, taken in list(self._starting.items()) if run != paths.id]
        if not any(_fits(wanted, whole) for _, whole in nodes):
            return Wait(f"waits for the Ray cluster: no node has {words}", holds_up=False)
        free = [list(left) for left, _ in nodes]
        for taken in starting:
            for place in [node for node in free if _fits(taken, node)][:1]:
                place[:] = [have - want for have, want in zip(place, taken, strict=True)]
        if not any(_fits(wanted, node) for node in free):
            return Wait(f"waits for the Ray cluster: no node has {words} free")
        return None

    def start(self, paths: RunPaths) -> None:
        """Has a supervisor started on some node.

        Raises:
            JobError: The cluster cannot be reached.
        """
        request = self._requested(paths)
        with self._lock:
            self._starting[paths.id] = request
            try:
                self._send(run=paths.id, start=(self.module, request))
            except JobError:
                self._starting.pop(paths.id, None)
                raise

    def pending(self, paths: RunPaths) -> bool:
        """Whether what was started for this run may still claim it."""
        return paths.id in self._starting

    def lives(self, paths: RunPaths, claim: dict[str, Any]) -> bool:
        """Whether a claimant lives; on the cluster, until the bridge writes how it ended, or that it is lost."""
        if not str(claim.get("host", "")).startswith("ray:"):
            return claimant_lives(paths, claim)
        return not paths.exit.exists() and read_json(paths.claim) == claim

    def terminate(self, paths: RunPaths, force: bool) -> None:
        """Has the worker of a run ended on its node."""
        with contextlib.suppress(JobError):  # asked again soon
            self._send(run=paths.id, force=force)

    def close(self) -> None:
        """Ends the bridge; the runs go on, unless the cluster was started for this app only."""
        with self._lock:
            self._is_open = False
            self._end_bridge()
            self._spawned = float("-inf")

    def _requested(self, paths: RunPaths) -> list[float]:
        """CPUs and GPUs that a run asks for."""
        wanted = ((read_json(paths.config) or {}).get("config") or {}).get("resources") or {}
        pairs = zip(("cpus", "gpus"), self._request, strict=True)
        return [float(default if wanted.get(key) is None else wanted[key]) for key, default in pairs]

    def _send(self, **command: object) -> None:
        with self._lock:
            if not self.ready() or self._connection is None:
                raise JobError(f"The Ray cluster cannot be reached. {self._problem}".rstrip())
            try:
                self._connection.send(command)
            except OSError as exc:
                raise JobError(f"The connection to the Ray cluster was lost: {exc.strerror or exc}.") from exc

    def _listen(self, connection: "Connection[Any, Any]") -> None:
        """Notes what a bridge tells, until it ends."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                message = connection.recv()
                self._problem = message.get("problem", "")
                self._starting.pop(message.get("settled"), None)
                if "nodes" in message:
                    self._nodes, self._heard = message["nodes"], time.monotonic()

    def _keep_bridge(self) -> None:
        """Starts a bridge when there is none, but not too often."""
        if not self._is_open or self._listener.is_alive():
            return
        if self._bridge is not None:
            self._problem = self._problem or "the connection was lost"
            self._end_bridge()
        if time.monotonic() - self._spawned > RETRY_PAUSE:
            self._spawned = time.monotonic()
            self._starting.clear()
            self._spawn()

    def _spawn(self) -> None:
        self._connection, theirs = Pipe()
        command = [sys.executable, "-m", "peft_studio.jobs.executors.ray.bridge", str(self._home)]
        command += [str(theirs.fileno()), str(self._threads), self._address]
        options: dict[str, Any] = {
            "pass_fds": [theirs.fileno()],
            "stdin": subprocess.DEVNULL,
            "start_new_session": True,
        }
        env = {**child_environment(1), "RAY_USAGE_STATS_ENABLED": "0"}
        try:
            with theirs, (self._home / "cache" / "ray.log").open("ab") as log:
                self._bridge = subprocess.Popen(command, stdout=log, stderr=log, env=env, **options)
        except OSError as exc:
            self._problem = f"its bridge cannot be started ({exc.strerror or exc})"
            return
        self._listener = threading.Thread(target=self._listen, args=(self._connection,), daemon=True)
        self._listener.start()

    def _end_bridge(self) -> None:
        if self._bridge is None or self._connection is None:
            return
        with contextlib.suppress(OSError):
            self._connection.send(None)
        try:
            self._bridge.wait(CLOSE_PATIENCE)
        except subprocess.TimeoutExpired:
            self._bridge.kill()
            self._bridge.wait()
        self._listener.join()
        self._connection.close()
        self._bridge = self._connection = None
        self._heard = float("-inf")


def _fits(wanted: list[float], free: list[float]) -> bool:
    return all(want <= have + 1e-6 for want, have in zip(wanted, free, strict=True))
