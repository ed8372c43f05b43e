"""The order in which queued runs start, which of them are held back, and whether the queue stands still.

``queue.json`` in the home folder holds only what differs from "first come, first served"; without the file, or with a
damaged one, that is the order. App and command line change it whole, under a lock.
"""

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from peft_studio.errors import InvalidStateError, StorageError
from peft_studio.jobs.store import atomic_write, read_json

FRONT, UP, DOWN = "front", "up", "down"


@dataclass(frozen=True)
class QueueState:
    """What the file says.

    Attributes:
        order: Ids of runs that were put into an order; all others come after them, first come, first served.
        held: Ids of runs that are not started until they are released.
        paused: Whether no run is started at all.
    """

    order: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    paused: bool = False

    def sort(self, waiting: Iterable[tuple[float, str]]) -> list[str]:
        """Ids in the order in which they are to start.

        Args:
            waiting: For each queued run, since when it waits, and its id.
        """
        places = {run_id: place for place, run_id in enumerate(self.order)}
        return [run_id for _, run_id in sorted(waiting, key=lambda item: (places.get(item[1], len(places)), *item))]


class RunQueue:
    """The queue of a home folder. Thread-safe, and safe beside other processes.

    Args:
        home: The home folder.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / "queue.json"
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._state = QueueState()

    def state(self) -> QueueState:
        """What the file says now; it is read again only when it changed."""
        with self._lock:
            try:
                found = self._path.stat()
                seen: tuple[int, ...] = (found.st_mtime_ns, found.st_size, found.st_ino)
            except OSError:
                seen = ()
            if seen != self._seen:
                self._state, self._seen = _parse(read_json(self._path) or {}), seen
            return self._state

    def move(self, run_id: str, to: str | int, waiting: Sequence[str]) -> None:
        """Gives a queued run another place.

        Args:
            run_id: The run.
            to: ``"front"``, ``"up"``, ``"down"``, or its new place, from 1.
            waiting: Ids of all queued runs in their present order.

        Raises:
            InvalidStateError: The run is not queued, or there is no such place.
            StorageError: The file cannot be written.
        """
        if run_id not in waiting:
            raise InvalidStateError(f"The run {run_id} is not in the queue; only queued runs can be moved.")
        place = waiting.index(run_id)
        target = {FRONT: 0, UP: place - 1, DOWN: place + 1}.get(to) if isinstance(to, str) else to - 1
        if target is None or (not isinstance(to, str) and not 0 <= target < len(waiting)):
            raise InvalidStateError(
                f"There is no place {to!r} in the queue; allowed: {FRONT}, {UP}, {DOWN}, 1 to {len(waiting)}."
            )
        order = [other for other in waiting if other != run_id]
        order.insert(max(0, target), run_id)
        with self._changing() as state:
            self._write(replace(state, order=tuple(order)))

    def hold(self, run_id: str, held: bool) -> None:
        """Holds a run back, or lets it go.

        Raises:
            StorageError: The file cannot be written.
        """
        with self._changing() as state:
            others = tuple(other for other in state.held if other != run_id)
            self._write(replace(state, held=(*others, run_id) if held else others))

    def pause(self, paused: bool) -> None:
        """Lets no run start any more, or lets them start again.

        Raises:
            StorageError: The file cannot be written.
        """
        with self._changing() as state:
            self._write(replace(state, paused=paused))

    def enter(self, run_id: str, first: bool = False) -> None:
        """Forgets what was said about a run that enters the queue anew; it comes last, or first.

        Raises:
            StorageError: The file cannot be written.
        """
        state = self.state()
        if not first and run_id not in (*state.order, *state.held):
            return
        with self._changing() as state:
            order = tuple(other for other in state.order if other != run_id)
            held = tuple(other for other in state.held if other != run_id)
            self._write(replace(state, order=(run_id, *order) if first else order, held=held))

    @contextlib.contextmanager
    def _changing(self) -> Iterator[QueueState]:
        """The state as it is now, while nobody else can change it."""
        try:
            fd = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as exc:
            raise StorageError(f"{self._path} cannot be changed: {exc.strerror or exc}.") from exc
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(fd, fcntl.LOCK_EX)
            self._seen = None  # what is written must rest on the file itself
            yield self.state()
        finally:
            self._seen = None
            os.close(fd)

    def _write(self, state: QueueState) -> None:
        atomic_write(self._path, json.dumps({"v": 1, **asdict(state)}) + "\n")


def _parse(found: dict[str, Any]) -> QueueState:
    return QueueState(_ids(found.get("order")), _ids(found.get("held")), found.get("paused") is True)


def _ids(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()
