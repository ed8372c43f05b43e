"""All runs of a home folder, read once and then only where something changed."""

import contextlib
import threading
import time
from dataclasses import replace
from pathlib import Path

from peft_studio.errors import RunNotFoundError
from peft_studio.jobs.index_cache import IndexCache, SettledReader
from peft_studio.jobs.reader import RunInfo, RunReader
from peft_studio.jobs.store import RunPaths, RunState, RunStore, Status

LOOK_SECONDS = 2.0  # between two looks whether another process put runs that are over back into the queue
FRESH_SECONDS = 0.1  # how long a list is given out again: many viewers ask at the same time


class RunIndex:
    """A cache over the run folders; it can be dropped at any time. Thread-safe."""

    def __init__(self, store: RunStore, cache: Path | None = None) -> None:
        self._store = store
        self._cache = IndexCache(cache)
        self._lock = threading.RLock()
        self._readers: dict[str, RunReader | SettledReader] = {}
        self._list: list[RunInfo] = []
        self._list_time = float("-inf")
        self._look_time = float("-inf")

    def all(self) -> list[RunInfo]:
        """Every run, newest first."""
        with self._lock:
            if time.monotonic() - self._list_time > FRESH_SECONDS:
                readers = sorted(self._refresh(), key=_age)
                self._list = _number_queue([reader.info() for reader in readers])[::-1]
                self._list_time = time.monotonic()
                self._cache.keep([reader.info() for reader in readers if reader.is_over], self._store.root)
            return list(self._list)

    def get(self, run_id: str) -> RunInfo:
        """One run.

        Raises:
            RunNotFoundError: No run has this id.
        """
        paths = self._store.paths(run_id)
        with self._lock:
            return self._reader(paths).info()

    def unfinished(self) -> list[tuple[RunPaths, RunState]]:
        """The runs that are not known to be over, oldest first."""
        with self._lock:
            readers = [reader for reader in self._refresh() if not reader.is_over]
            return [(reader.paths, reader.state()) for reader in sorted(readers, key=_age)]

    def changed(self, run_id: str = "") -> None:
        """Makes the next list fresh; forgets a run that was deleted."""
        with self._lock:
            self._list_time = float("-inf")
            self._readers.pop(run_id, None)

    def _refresh(self) -> list[RunReader | SettledReader]:
        ids = self._store.ids()
        known = set(ids)
        for gone in [run_id for run_id in self._readers if run_id not in known]:
            del self._readers[gone]
        readers = []
        look = time.monotonic() - self._look_time > LOOK_SECONDS
        self._look_time = time.monotonic() if look else self._look_time
        for run_id in ids:
            reader = self._readers.get(run_id)
            if reader is not None and not (look and type(reader) is SettledReader and reader.has_changed()):
                readers.append(reader)
                continue
            with contextlib.suppress(RunNotFoundError):  # deleted since the look at the folder
                readers.append(self._reader(RunPaths(self._store.root / run_id)))
        return readers

    def _reader(self, paths: RunPaths) -> RunReader | SettledReader:
        reader = self._readers.get(paths.id)
        if isinstance(reader, SettledReader) and reader.has_changed():
            reader = None
        if reader is None:
            if not paths.root.is_dir():
                raise RunNotFoundError(f"There is no run {paths.id!r} in {self._store.root}.")
            reader = self._readers[paths.id] = self._cache.find(paths) or RunReader(paths)
        return reader


def _age(reader: RunReader | SettledReader) -> tuple[float, str]:
    return reader.created, reader.paths.id


def _number_queue(infos: list[RunInfo]) -> list[RunInfo]:
    """Gives the queued ones, which come oldest first, their place in the queue."""
    place = 0
    numbered = []
    for info in infos:
        if info.status == Status.QUEUED:
            place += 1
            info = replace(info, queue_position=place)
        numbered.append(info)
    return numbered
