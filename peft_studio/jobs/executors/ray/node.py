"""One run on a node of a Ray cluster: what the actor does there, in a folder that exists only as long as it."""

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from peft_studio.errors import JobError
from peft_studio.jobs.executors.ray.guard import ENDED
from peft_studio.jobs.executors.ray.outbox import Outbox
from peft_studio.processes.warm_client import child_environment
from peft_studio.runs.claims import end_worker
from peft_studio.runs.paths import RunPaths

PIECE = 4_000_000  # bytes that travel at a time
LOCK_PATIENCE = 30.0  # seconds for the worker before on this node to be gone


class NodeRun:
    """Prepares a folder, starts the ordinary supervisor in it, and answers what is new. Ray makes an actor of it.

    Args:
        folder: The run's folder on every node: ``<base>/runs/<run id>``.
    """

    def __init__(self, folder: str) -> None:
        self._paths = RunPaths(Path(folder))
        self._outbox = Outbox(self._paths)
        self._lock = -1
        self._guard: subprocess.Popen[bytes] | None = None
        self._base: dict[str, int] | None = None

    def base(self) -> dict[str, int] | None:
        """What `begin` was told; None before."""
        return self._base

    def node(self) -> str:
        """Id of the node that this is."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def prepare(self) -> None:
        """Takes the folder and empties it.

        Raises:
            JobError: A worker of this run is still ending here.
        """
        root = self._paths.root
        for other in root.parent.glob("*"):
            _remove_if_left(other)
        end = time.monotonic() + LOCK_PATIENCE
        while (lock := _lock(root, make=True)) < 0:
            if time.monotonic() > end:
                raise JobError(f"On {socket.gethostname()} another worker of the run {root.name} is still ending.")
            time.sleep(0.2)
        self._lock = lock
        for entry in root.iterdir():
            if entry.name != ".lock":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def put(self, name: str, data: bytes) -> None:
        """Appends to a file in the run's folder."""
        path = self._paths.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(data)

    def begin(self, module: str, threads: int, model_folder: str, base: dict[str, int]) -> str:
        """Starts the supervisor.

        Args:
            module: What it runs.
            threads: CPU threads.
            model_folder: A folder that the run needs and that is not sent; or nothing.
            base: How long the app's copies of the growing files are now, in bytes, for whoever takes over the run.

        Returns:
            Why this node cannot run it; empty when it was started.
        """
        if model_folder and not Path(model_folder).is_dir():
            return (
                f"The base model's folder {model_folder} does not exist on the Ray node {socket.gethostname()}. "
                "Models are not sent: copy it to the same path on every node, or use a catalogue model or a Hub id."
            )
        env = {key: value for key, value in child_environment(threads).items() if not key.startswith("RAY_")}
        root = str(self._paths.root)
        worker = [sys.executable, "-m", module, root, "--threads", str(threads)]
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "peft_studio.jobs.executors.ray.guard", root, *worker],
            stdin=subprocess.PIPE,
            env=env,
            pass_fds=[self._lock],
            start_new_session=True,
        )
        self._guard.wait()  # it goes on in a process of its own, which holds the lock
        os.close(self._lock)
        self._base = base
        return ""

    def news(self, offsets: dict[str, int], fetched: dict[str, str]) -> dict[str, Any]:
        """What has happened since.

        Args:
            offsets: How much of ``events`` and ``log`` the reader has, in bytes.
            fetched: The stamp of each file and folder that it has.

        Returns:
            ``claim`` and ``exit`` as texts; new ``events`` and ``log`` as bytes, the former in whole lines;
            ``more`` of these; the ``items`` to fetch; whether the supervisor has ``ended``; and whether this is
            ``final``, so that nothing can follow.
        """
        paths = self._paths
        # The order matters. What had ended when this began can say nothing more, and events are newer than the
        # checkpoint, so that a run which goes on from it has all steps before it.
        ended = (paths.root / ENDED).exists()
        exit_text, claim = _text(paths.exit), _text(paths.claim)
        items, complete = self._outbox.look(fetched)
        events, more_events = _piece(paths.events, offsets["events"], lines=not ended)
        log, more_log = _piece(paths.log, offsets["log"], lines=False)
        more = more_events or more_log
        return {
            "claim": claim,
            "exit": exit_text,
            "events": events,
            "log": log,
            "more": more,
            "items": items,
            "ended": ended,
            "final": ended and complete and not more,
        }

    def read(self, name: str, stamp: str, file: str, offset: int) -> bytes:
        """A piece of an item; see `Outbox.read`."""
        return self._outbox.read(name, stamp, file, offset, PIECE)

    def flag(self, name: str, text: str) -> None:
        """Writes ``stop`` or ``pause``."""
        (self._paths.root / name).write_text(text, encoding="utf-8")

    def signal(self, force: bool) -> None:
        """Ends the worker; see `end_worker`."""
        end_worker(self._paths, force)


def _lock(folder: Path, make: bool) -> int:
    """The descriptor of a folder's lock; -1 when somebody has it, or it is not there."""
    path = folder / ".lock"
    fd = -1
    try:
        if make:
            folder.parent.parent.mkdir(mode=0o700, exist_ok=True)  # what is in it is for this user only
            folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | (os.O_CREAT if make else 0), 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino == path.stat().st_ino:  # else it was removed and made anew since it was opened
            return fd
    except OSError:
        pass
    if fd >= 0:
        os.close(fd)
    return -1


def _remove_if_left(folder: Path) -> None:
    """Removes a folder whose guard was killed."""
    fd = _lock(folder, make=False)
    if fd >= 0:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)


def _piece(path: Path, offset: int, lines: bool) -> tuple[bytes, bool]:
    """What follows in a file that grows, and whether there is more."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(PIECE + 1)
    except FileNotFoundError:
        return b"", False
    more = len(data) > PIECE
    data = data[:PIECE]
    return (data[: data.rfind(b"\n") + 1] if lines else data), more


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8")
    return ""
