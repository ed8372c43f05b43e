"""One run on a node of a Ray cluster: what the actor does there, in a folder that exists only as long as it."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from peft_studio.errors import ModelError
from peft_studio.files import read_json
from peft_studio.processes.warm_client import child_environment
from peft_studio.runs.claims import end_worker
from peft_studio.runs.paths import RunPaths

# Its input ends however the actor comes to an end; then it kills the supervisor's group and removes the folder. The
# shell that starts it ends at once, so Ray does not know it as a child of the actor and lets it live.
_GUARD = """exec 3<&0
(read -r group <&3; cat <&3; [ "$group" ] && kill -9 "-$group"; sleep 1; exec rm -rf -- "$0") >/dev/null 2>&1 &"""

Marks = dict[str, tuple[int, int, int]]
"""Size, time of change and inode of each file below an item of a run's folder; "." is the item, if that is a file."""
Items = dict[str, tuple[Marks, dict[str, "ray.ObjectRef[bytes]"]]]
"""Files and folders by name: their marks, and each file's bytes in Ray's object store."""


@dataclass(frozen=True)
class News:
    """What has happened on a node since somebody last looked.

    Attributes:
        claim: What ``claim.json`` says, with the node as its host; None while there is none.
        exit: What ``exit.json`` says, likewise.
        grown: What follows in the event log, in whole lines, and in the log, by name.
        items: Files and folders that have changed.
        ended: Whether the supervisor has ended, or was never started, so that the growing files are complete.
        final: Whether the reader has all items, too.
    """

    claim: dict[str, Any] | None
    exit: dict[str, Any] | None
    grown: dict[str, bytes]
    items: Items
    ended: bool
    final: bool


class NodeRun:
    """Starts the ordinary supervisor in a folder, and answers what is new there. Ray makes an actor of it.

    Args:
        base: Folder of this home's runs on every node; it also keeps their cache.
        run_id: The run.
    """

    def __init__(self, base: str, run_id: str) -> None:
        Path(base).mkdir(mode=0o700, exist_ok=True)
        top = tempfile.mkdtemp(prefix="run-", dir=base)  # a new one for every attempt: no two workers share it
        self.paths = paths = RunPaths(Path(top) / run_id)
        paths.root.mkdir()
        others = (paths.claim, paths.exit, paths.events, paths.log, paths.stop, paths.pause)
        self._not_offered = {path.name for path in others}
        self._sent: dict[str, Marks] = {}
        self._items: Items = {}
        self._supervisor: subprocess.Popen[bytes] | None = None
        guard = ["sh", "-c", _GUARD, top]
        self._guard = subprocess.Popen(guard, bufsize=0, stdin=subprocess.PIPE, start_new_session=True)
        self._guard.wait()

    def begin(self, module: str, threads: int, model: str, files: "Mapping[str, ray.ObjectRef[bytes]]") -> None:
        """Starts the supervisor.

        Args:
            module: What it runs.
            threads: CPU threads.
            model: A folder that the run needs and that is not sent; or nothing.
            files: What is sent, by name in the run's folder.

        Raises:
            ModelError: The model's folder is not on this node.
        """
        if model and not Path(model).is_dir():
            raise ModelError(
                f"The base model's folder {model} does not exist on the Ray node {socket.gethostname()}. "
                "Models are not sent: copy it to the same path on every node, or use a catalogue model or a Hub id."
            )
        root = self.paths.root
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(ray.get(data))
        self._sent = {path.name: _marks(path) for path in root.iterdir()}
        env = {key: value for key, value in child_environment(threads).items() if not key.startswith("RAY_")}
        command = [sys.executable, "-m", module, str(root), "--threads", str(threads)]
        with self.paths.log.open("ab") as log:
            # A session, so that all of it can be found even when the supervisor is killed.
            self._supervisor = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=root, env=env
            )
        assert self._guard.stdin is not None
        self._guard.stdin.write(f"{self._supervisor.pid}\n".encode())

    def news(
        self, sizes: Mapping[str, int], fetched: Mapping[str, Marks], flags: Mapping[str, bytes], force: bool | None
    ) -> News:
        """Passes wishes on, and says what is new.

        Args:
            sizes: How much of the event log and the log the reader has, by name, in bytes.
            fetched: The files and folders that it has.
            flags: ``stop`` and ``pause``, if they are there.
            force: Whether to kill the worker or to ask it to end; None for neither.
        """
        for name, text in flags.items():
            if not (self.paths.root / name).exists():
                (self.paths.root / name).write_bytes(text)
        if force is not None:
            end_worker(self.paths, force)
        # The order matters. What had ended when this began can say nothing more, and events are newer than the
        # checkpoint, so that a run which goes on from it has all steps before it.
        ended = self._has_ended()
        exit_info, claim = read_json(self.paths.exit), read_json(self.paths.claim)
        if claim is not None:
            claim["host"] = f"ray:{ray.get_runtime_context().get_node_id()}"
        entries = [path for path in self.paths.root.iterdir() if path.name not in self._not_offered]
        complete = all([self._offer(path, fetched) for path in entries if not path.name.startswith(".")])
        grown = {name: _rest(self.paths.root / name, size) for name, size in sizes.items()}
        if not ended:
            events = grown[self.paths.events.name]
            grown[self.paths.events.name] = events[: events.rfind(b"\n") + 1]
        return News(claim, exit_info, grown, self._items, ended, ended and complete)

    def _has_ended(self) -> bool:
        """Whether the supervisor has ended. It stays a zombie, so that nobody else gets the id of its group."""
        if self._supervisor is None:
            return True
        return os.waitid(os.P_PID, self._supervisor.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _offer(self, path: Path, fetched: Mapping[str, Marks]) -> bool:
        """Offers an item when it has changed and the last offer was fetched; whether the reader is up to date."""
        has = fetched.get(path.name, self._sent.get(path.name))
        if path.name in self._items and self._items[path.name][0] == has:
            del self._items[path.name]
        with contextlib.suppress(OSError):  # it changes this instant, and is looked at again soon
            marks = _marks(path)
            if has == marks:
                return True
            if path.name not in self._items:
                data = {name: ray.put((path / name).read_bytes()) for name in marks}
                if _marks(path) == marks:
                    self._items[path.name] = marks, data
        return False


def _marks(item: Path) -> Marks:
    """A file itself, or those below a folder; half-written ones have names with a dot in front."""
    files = [path for path in item.rglob("*") if not path.name.startswith(".")] if item.is_dir() else [item]
    found = ((str(path.relative_to(item)), path.stat()) for path in sorted(files) if path.is_file())
    return {name: (stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in found}


def _rest(path: Path, offset: int) -> bytes:
    """What follows in a file that grows; nothing when there is none."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(offset)
        return file.read()
    return b""
