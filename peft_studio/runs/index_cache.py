"""What is known about runs that are over, in one file of the cache: after a start, a long list is there at once.

The file can be deleted at any time and is made again. An entry counts only while the run's folder, its events and
its ``exit.json`` are as they were; of a run that was put back into the queue they are not.
"""

import contextlib
import json
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from peft_studio.files import cache_write, open_plain
from peft_studio.runs.event_log import loads
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.reader import RunInfo, changed_at
from peft_studio.runs.status import RunState, Status

VERSION = 5
SAVE_SECONDS = 10.0  # between two writes, while runs end one after another
_FIELDS = tuple(field.name for field in fields(RunInfo))

Stamp = list[int]


def stamp(paths: RunPaths) -> Stamp | None:
    """What changes when a run that is over changes: times of its folder, its events and ``exit.json``, and sizes."""
    try:
        folder, events, end = paths.root.stat(), paths.events.stat(), paths.exit.stat()
    except OSError:
        return None
    return [folder.st_mtime_ns, events.st_size, events.st_mtime_ns, end.st_size, end.st_mtime_ns]


class SettledReader:
    """A run that was over when it was last looked at, in place of a `RunReader`."""

    is_over = True
    is_interrupted = False

    def __init__(self, paths: RunPaths, info: RunInfo, mark: Stamp) -> None:
        self.paths = paths
        self.created = self.waits_since = info.created
        self._info = info
        self._folder, self._folder_time = str(paths.root), mark[0]

    def recheck(self) -> bool:
        """Whether what was known still holds; not when files came or went in the folder, as when the run goes on."""
        return changed_at(self._folder) == self._folder_time

    def info(self) -> RunInfo:
        """Everything that was known."""
        return self._info

    def state(self) -> RunState:
        """How it ended."""
        return RunState(self._info.status, self._info.reason)


class IndexCache:
    """The file; not thread-safe.

    Args:
        path: Where it is kept; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._entries: dict[str, Any] | None = None
        self._saved: set[str] = set()
        self._save_time = float("-inf")

    def find(self, paths: RunPaths) -> SettledReader | None:
        """A run as it was, if it still is so."""
        if self._entries is None:
            self._entries = self._load()
            self._saved = set(self._entries)
        entry = self._entries.pop(paths.id, None)  # asked for once; afterwards the index holds it
        if not isinstance(entry, dict) or entry.get("stamp") != stamp(paths):
            self._saved.discard(paths.id)  # to be written anew
            return None
        with contextlib.suppress(TypeError, KeyError, ValueError):  # damaged, or of another version
            status = Status(entry["info"]["status"])
            if status.is_final and entry["info"]["id"] == paths.id:
                info = {**entry["info"], "status": status, "actions": tuple(entry["info"]["actions"])}
                return SettledReader(paths, RunInfo(**{name: info[name] for name in _FIELDS}), entry["stamp"])
        return None

    def _load(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            found = {}
            if self._path is not None:
                with open_plain(self._path) as file:
                    found = loads(file.read())
            if isinstance(found, dict) and found.get("v") == VERSION and isinstance(found.get("runs"), dict):
                return dict(found["runs"])
        return {}

    def keep(self, infos: list[RunInfo], paths_of: Path) -> None:
        """Writes the file when other runs are over than it says, but not too often.

        Args:
            infos: All runs, of which only those that are over for good are kept.
            paths_of: The folder of all runs.
        """
        if self._path is None or time.monotonic() - self._save_time < SAVE_SECONDS:
            return
        over = [info for info in infos if info.status.is_final]
        if {info.id for info in over} == self._saved:
            return
        self._save_time = time.monotonic()
        entries = {}
        for info in over:
            mark = stamp(RunPaths(paths_of / info.id))
            if mark is not None:
                entries[info.id] = {"stamp": mark, "info": info.to_dict()}
        self._saved = {info.id for info in over}
        with contextlib.suppress(ValueError):  # the next start is slower, and that is all
            cache_write(self._path, json.dumps({"v": VERSION, "runs": entries}, allow_nan=False))
