"""All runs of a home folder, read once and then only where something changed."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from peft_studio.errors import RunNotFoundError, no_run
from peft_studio.runs.claims import claimant_lives
from peft_studio.runs.fold import Folds
from peft_studio.runs.index_cache import IndexCache, SettledReader
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.queue import DOWN, UP, QueueState, RunQueue, Turns
from peft_studio.runs.reader import RunInfo, RunReader
from peft_studio.runs.status import Lives, RunState, Status
from peft_studio.runs.store import RunStore

LOOK_SECONDS = 2.0  # between two looks whether another process put runs that are over back into the queue
FRESH_SECONDS = 0.1  # how long a list is given out again: many viewers ask at the same time

Reader = RunReader | SettledReader


class RunIndex:
    """A cache over the run folders; it can be dropped at any time. Thread-safe.

    Args:
        store: The run folders.
        queue: The order of the queued ones.
        lives: Tells whether the process that claimed a run lives.
        cache: The file that keeps what is known about runs that are over; None keeps nothing.

    Attributes:
        folds: The logs of the runs, for whatever else is made of them.
        notes: Why queued runs are not started, by id, as the scheduler says.
    """

    def __init__(
        self, store: RunStore, queue: RunQueue, lives: Lives = claimant_lives, cache: Path | None = None
    ) -> None:
        self._store = store
        self._queue = queue
        self._lives = lives
        self._cache = IndexCache(cache)
        self.folds = Folds()
        self.notes: dict[str, str] = {}
        self._lock = threading.RLock()
        self._readers: dict[str, Reader] = {}
        self._list: list[RunInfo] = []
        self._list_time = float("-inf")
        self._look_time = float("-inf")

    def all(self) -> list[RunInfo]:
        """Every run, newest first."""
        with self._lock:
            if time.monotonic() - self._list_time > FRESH_SECONDS:
                readers = sorted(self._refresh(), key=_age)
                self._list = self._with_queue(readers)[::-1]
                self._list_time = time.monotonic()
                over = [reader.info() for reader in readers if reader.is_over and not reader.is_interrupted]
                self._cache.keep(over, self._store.root)
            return list(self._list)

    def get(self, run_id: str) -> RunInfo:
        """One run.

        Raises:
            RunNotFoundError: No run has this id.
        """
        paths = self._store.paths(run_id)
        with self._lock:
            info = self._reader(paths).info()
            if info.status != Status.QUEUED:
                return info
            infos = self._with_queue(sorted(self._refresh(), key=_age))
        return next((found for found in infos if found.id == run_id), info)

    def owner(self, run_id: str) -> str:
        """Whose run it is.

        Raises:
            RunNotFoundError: No run has this id.
        """
        with self._lock:
            return self._reader(self._store.paths(run_id)).info().owner

    def unfinished(self) -> list[tuple[RunPaths, RunState]]:
        """The runs that are not known to be over; the queued ones in the order in which they are to start."""
        with self._lock:
            readers = self._refresh()
            found = {reader.paths.id: reader for reader in readers if not reader.is_over}
            states = {run_id: reader.state() for run_id, reader in found.items()}
            queued = [reader for run_id, reader in found.items() if states[run_id].status is Status.QUEUED]
            turns = None
            if len({reader.info().owner for reader in queued}) > 1:
                turns = turns_of([reader.info() for reader in readers])
        order = self._queue.state().sort([(reader.waits_since, reader.paths.id) for reader in queued], turns)
        others = [run_id for run_id in found if states[run_id].status is not Status.QUEUED]
        return [(found[run_id].paths, states[run_id]) for run_id in (*others, *order)]

    def queued(self) -> list[str]:
        """Ids of the queued runs in the order in which they are to start."""
        return [paths.id for paths, state in self.unfinished() if state.status is Status.QUEUED]

    def turns(self) -> Turns | None:
        """What people have had, where runs of several wait; else None."""
        with self._lock:
            return turns_of([reader.info() for reader in self._refresh()])

    def is_paused(self) -> bool:
        """Whether no queued run may start."""
        return self._queue.state().paused

    def interrupted(self) -> list[RunPaths]:
        """The runs whose workers were killed or went down with the machine, as of the last look at all runs."""
        with self._lock:
            return [reader.paths for reader in self._readers.values() if reader.is_interrupted]

    def changed(self, run_id: str = "") -> None:
        """Makes the next list fresh; forgets a run that was deleted."""
        with self._lock:
            self._list_time = float("-inf")
            self._readers.pop(run_id, None)

    def _with_queue(self, readers: list[Reader]) -> list[RunInfo]:
        """What is known of the runs; the queued ones are told their places, and why they wait."""
        infos = [reader.info() for reader in readers]
        if all(info.status != Status.QUEUED for info in infos):
            return infos
        queue = self._queue.state()
        pairs = zip(readers, infos, strict=True)
        waiting = [(reader.waits_since, info.id) for reader, info in pairs if info.status == Status.QUEUED]
        turns = turns_of(infos)
        order = queue.sort(waiting, turns)
        steps = queue.steps(order, turns)
        places = {run_id: place for place, run_id in enumerate((run for run in order if run not in queue.held), 1)}
        return [
            _queued(info, places.get(info.id), queue, steps[info.id], self.notes.get(info.id, ""))
            if info.status == Status.QUEUED
            else info
            for info in infos
        ]

    def _refresh(self) -> list[Reader]:
        ids = self._store.ids()
        known = set(ids)
        for gone in [run_id for run_id in self._readers if run_id not in known]:
            del self._readers[gone]
        readers = []
        look = time.monotonic() - self._look_time > LOOK_SECONDS
        self._look_time = time.monotonic() if look else self._look_time
        for run_id in ids:
            reader = self._readers.get(run_id)
            if reader is not None and ((reader.is_over and not look) or reader.recheck()):
                readers.append(reader)
                continue
            with contextlib.suppress(RunNotFoundError):  # deleted since the look at the folder
                readers.append(self._reader(RunPaths(self._store.root / run_id)))
        return readers

    def _reader(self, paths: RunPaths) -> Reader:
        reader = self._readers.get(paths.id)
        if reader is None or not reader.recheck():
            if not paths.root.is_dir():
                raise RunNotFoundError(no_run(paths.id))
            reader = self._cache.find(paths) or RunReader(paths, self._lives, self.folds.of(paths))
            self._readers[paths.id] = reader
        return reader


def _age(reader: Reader) -> tuple[float, str]:
    return reader.created, reader.paths.id


def turns_of(infos: Iterable[RunInfo]) -> Turns | None:
    """What people have had, where runs of several wait; else None, and nobody takes turns."""
    infos = list(infos)
    owners = {info.id: info.owner for info in infos if info.status == Status.QUEUED}
    if len(set(owners.values())) < 2:
        return None
    running = Counter(info.owner for info in infos if Status(info.status).is_active)
    served: dict[str, float] = {}
    for info in infos:
        served[info.owner] = max(served.get(info.owner, 0.0), info.started or 0.0)
    return Turns(owners, running, served)


def _queued(info: RunInfo, place: int | None, queue: QueueState, steps: set[str], note: str) -> RunInfo:
    held = place is None
    note = "on hold" if held else "the queue is paused" if queue.paused else note
    reason = "; ".join(filter(None, (info.reason, note)))
    possible = [action for action in info.actions if action not in (UP, DOWN) or action in steps]
    actions = tuple("release" if held and action == "hold" else action for action in possible)
    priority = queue.priority(info.id)
    return replace(info, queue_position=place, held=held, reason=reason, actions=actions, priority=priority)
