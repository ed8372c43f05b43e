"""Workers on a Ray cluster, whose nodes need not share a file system with the app.

The app talks to a process of its own, the bridge, and never loads Ray. On a node an actor starts the ordinary
supervisor in a folder there; the bridge mirrors what appears in it. A node that dies cuts its runs short, and the
scheduler has them go on elsewhere from the last checkpoint that was mirrored.
"""

import contextlib
import importlib.util
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from peft_studio.errors import ConfigError, JobError
from peft_studio.files import read_json
from peft_studio.jobs.executors.base import Wait
from peft_studio.jobs.executors.ray.board import BoardReader
from peft_studio.processes.warm_client import child_environment
from peft_studio.runs.claims import claimant_lives
from peft_studio.runs.paths import RunPaths

RETRY_PAUSE = 10.0  # seconds between two attempts to connect
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
        self._path = home / "cache" / "ray.json"
        self._board = BoardReader(self._path)
        self._lock = threading.RLock()
        self._is_open = False
        self._bridge: subprocess.Popen[bytes] | None = None
        self._spawned = float("-inf")
        self._number = 0
        self._asked: dict[str, int] = {}  # number of the command that starts a run
        self._problem = ""

    def open(self) -> None:
        """Starts connecting."""
        with self._lock:
            self._is_open = True
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._keep_bridge()

    def ready(self) -> bool:
        """Whether the cluster answers; tries again now and then when it does not."""
        with self._lock:
            self._keep_bridge()
        return bool(self._board.read().get("attached"))

    def must_wait(self, paths: RunPaths) -> Wait | None:
        """The cluster cannot be reached, or no node has enough CPUs and GPUs that are free."""
        if not self.ready():
            return Wait(f"waits for the Ray cluster{f': {self._problem}' if self._problem else ''}")
        board, wanted = self._board.read(), self._requested(paths)
        words = f"{wanted[0]:g} CPU" + (f" and {wanted[1]:g} GPU" if wanted[1] else "")
        nodes = board.get("nodes", [])
        if not any(_fits(wanted, node["all"]) for node in nodes):
            return Wait(f"waits for the Ray cluster: no node has {words}", holds_up=False)
        free = [list(node["free"]) for node in nodes]
        for taken in self._not_placed(board, paths.id):
            place = next((node for node in free if _fits(taken, node)), None)
            if place is not None:
                place[:] = [have - want for have, want in zip(place, taken, strict=True)]
        if not any(_fits(wanted, node) for node in free):
            return Wait(f"waits for the Ray cluster: no node has {words} free")
        return None

    def start(self, paths: RunPaths) -> None:
        """Has a supervisor started on some node.

        Raises:
            JobError: The cluster cannot be reached.
        """
        with self._lock:
            self._asked[paths.id] = self._command(
                do="start", run=paths.id, request=self._requested(paths), module=self.module
            )

    def pending(self, paths: RunPaths) -> bool:
        """Whether what was started for this run may still claim it."""
        number, board = self._asked.get(paths.id), self._board.read()
        if number is None or not self.ready():
            return number is not None
        entry = board.get("runs", {}).get(paths.id)
        if board["done"] < number or (entry is not None and "claim" not in entry):
            return True
        self._asked.pop(paths.id, None)
        return False

    def lives(self, paths: RunPaths, claim: dict[str, Any]) -> bool:
        """Whether a claimant lives. While the cluster cannot be reached it is taken to: nothing else is known."""
        if not str(claim.get("host", "")).startswith("ray:"):
            return claimant_lives(paths, claim)
        board = self._board.read()
        if not board.get("attached"):
            return True
        found = board["runs"].get(paths.id, {}).get("claim")
        return bool(found == [claim.get("pid"), claim.get("process_start")])

    def terminate(self, paths: RunPaths, force: bool) -> None:
        """Has the worker of a run ended on its node."""
        with contextlib.suppress(JobError):  # asked again soon
            self._command(do="signal", run=paths.id, force=force)

    def close(self) -> None:
        """Ends the bridge; the runs go on, unless the cluster was started for this app only."""
        with self._lock:
            self._is_open = False
            if self._bridge is not None:
                self._end_bridge(self._bridge)
                self._bridge, self._spawned = None, float("-inf")
            self._path.unlink(missing_ok=True)

    def _requested(self, paths: RunPaths) -> list[float]:
        """CPUs and GPUs that a run asks for."""
        wanted = ((read_json(paths.config) or {}).get("config") or {}).get("resources") or {}
        pairs = zip(("cpus", "gpus"), self._request, strict=True)
        return [float(default if wanted.get(key) is None else wanted[key]) for key, default in pairs]

    def _not_placed(self, board: dict[str, Any], but: str) -> list[list[float]]:
        """What the runs ask for that were started and have no place yet, as far as is known."""
        runs = board.get("runs", {})
        found = [entry["request"] for run_id, entry in runs.items() if "claim" not in entry and run_id != but]
        asked = [run_id for run_id, number in self._asked.items() if number > board["done"] and run_id not in runs]
        return found + [self._requested(RunPaths(self._home / "runs" / run_id)) for run_id in asked if run_id != but]

    def _command(self, **command: Any) -> int:
        with self._lock:
            bridge = self._bridge
            if bridge is None or bridge.stdin is None or not self.ready():
                raise JobError(f"The Ray cluster cannot be reached. {self._problem}".rstrip())
            self._number += 1
            try:
                bridge.stdin.write(json.dumps({**command, "number": self._number}).encode() + b"\n")
                bridge.stdin.flush()
            except OSError as exc:
                raise JobError(f"The connection to the Ray cluster was lost: {exc.strerror or exc}.") from exc
            return self._number

    def _keep_bridge(self) -> None:
        """Starts a bridge when there is none, but not too often."""
        if not self._is_open or (self._bridge is not None and self._bridge.poll() is None):
            return
        if self._bridge is not None:
            self._problem = self._board.read().get("problem") or self._problem or "the connection was lost"
            self._end_bridge(self._bridge)
            self._bridge = None
            self._path.unlink(missing_ok=True)
        if time.monotonic() - self._spawned > RETRY_PAUSE:
            self._spawned = time.monotonic()
            self._asked.clear()
            self._path.unlink(missing_ok=True)
            self._spawn()

    def _spawn(self) -> None:
        command = [sys.executable, "-m", "peft_studio.jobs.executors.ray.bridge", str(self._home), str(self._path)]
        command += ["--address", self._address, "--threads", str(self._threads)]
        try:
            with self._path.with_suffix(".log").open("ab") as log:
                self._bridge = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env={**child_environment(1), "RAY_USAGE_STATS_ENABLED": "0"},
                )
        except OSError as exc:
            self._problem = f"its bridge cannot be started ({exc.strerror or exc})"

    def _end_bridge(self, bridge: "subprocess.Popen[bytes]") -> None:
        if bridge.stdin is not None:
            with contextlib.suppress(OSError):
                bridge.stdin.close()
        try:
            bridge.wait(CLOSE_PATIENCE)
        except subprocess.TimeoutExpired:
            bridge.kill()
            bridge.wait()


def _fits(wanted: list[float], free: list[float]) -> bool:
    return all(want <= have + 1e-6 for want, have in zip(wanted, free, strict=True))
