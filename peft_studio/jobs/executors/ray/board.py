"""What the bridge to a Ray cluster knows, in a small file that the app and the command line read."""

import contextlib
import json
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from peft_studio.files import atomic_write, read_json

HEARTBEAT = 1.0  # seconds between two signs of life
FRESH = 15.0  # seconds after which a bridge without one is not believed any more


@dataclass
class Board:
    """Attributes are what the file says; the bridge changes them through the methods. Thread-safe.

    Attributes:
        path: The file.
        attached: Whether the bridge is connected, and knows the runs on the cluster.
        problem: Why it is not, in words.
        done: Number of the last command that was carried out.
        nodes: ``free`` and ``all`` CPUs and GPUs of each node.
        runs: By id: ``request`` (CPUs and GPUs) and, once the run is claimed, ``claim`` (pid and process start).
    """

    path: Path
    attached: bool = False
    problem: str = ""
    done: int = 0
    nodes: list[dict[str, list[float]]] = field(default_factory=list)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._written = 0.0

    def change(self, **values: Any) -> None:
        """Changes some attributes."""
        with self._lock:
            if any(getattr(self, name) != value for name, value in values.items()):
                for name, value in values.items():
                    setattr(self, name, value)
                self._write()

    def enter(self, run_id: str, **values: Any) -> None:
        """Enters a run, or changes its entry."""
        with self._lock:
            self.runs = {**self.runs, run_id: {**self.runs.get(run_id, {}), **values}}
            self._write()

    def drop(self, run_id: str) -> None:
        """Forgets a run."""
        with self._lock:
            self.runs = {other: entry for other, entry in self.runs.items() if other != run_id}
            self._write()

    def beat(self) -> None:
        """Shows that the bridge lives."""
        if time.monotonic() - self._written > HEARTBEAT:
            with self._lock:
                self._write()

    def _write(self) -> None:
        shown = {key: value for key, value in asdict(self).items() if key != "path"}
        with contextlib.suppress(Exception):  # a full disk: the old file grows stale
            atomic_write(self.path, json.dumps(shown))
        self._written = time.monotonic()


class BoardReader:
    """Reads the file again only when it was changed. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] = (0, 0)
        self._board: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        """What the bridge knows; empty when there is none, or it has not shown a sign of life for some time."""
        try:
            found = self._path.stat()
        except OSError:
            return {}
        seen = (found.st_mtime_ns, found.st_ino)
        if seen != self._seen:
            self._board, self._seen = read_json(self._path) or {}, seen
        return self._board if abs(time.time() - found.st_mtime) < FRESH else {}
