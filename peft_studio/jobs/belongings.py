"""What somebody has in an app that they share with others: what it takes, taking it along, deleting it, and its end
when they do not come back.

Runs name their owner; folders of uploads begin with the owner's mark, and data sets that were fetched hold the marks
of those who asked for them.
"""

import contextlib
import json
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from peft_studio.archives.run_archive import pack_run
from peft_studio.errors import InvalidStateError, LimitError, RunNotFoundError, StorageError
from peft_studio.files import atomic_write, read_json, remove
from peft_studio.machine.path_policy import marked_folders, owner_mark
from peft_studio.runs.housekeeping import DAY, Housekeeper, tree_bytes
from peft_studio.runs.index import RunIndex
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.store import RunStore
from peft_studio.settings import Settings

VISITS = "visits.json"
MOST_SEEN = 50_000  # visitors between two looks after the house
_CHUNK = 2**20


class Belongings:
    """Finds what belongs to whom. Thread-safe; all that it remembers can be dropped at any time.

    Args:
        settings: The home folder, and after how many days things of visitors expire.
        store: The run folders.
        index: The list of runs.
        keeper: Knows what runs take on the disk.
    """

    def __init__(self, settings: Settings, store: RunStore, index: RunIndex, keeper: Housekeeper) -> None:
        self._settings = settings
        self._store = store
        self._index = index
        self._keeper = keeper
        self._lock = threading.Lock()
        self._seen: dict[str, float] = {}
        self._sizes: dict[Path, tuple[int, int]] = {}  # of folders of data: their mtime, and what was found then
        self._leaving: set[str] = set()

    def runs(self, owner: str) -> list[RunInfo]:
        """Somebody's runs, newest first."""
        return [info for info in self._index.all() if info.owner == owner]

    def files(self, owner: str) -> list[Path]:
        """Folders of what somebody has uploaded or fetched."""
        mark = owner_mark(owner)
        return [folder for folder, marks in marked_folders(self._settings.home) if mark in marks]

    def kept(self, owners: Iterable[str]) -> tuple[int, int]:
        """Bytes that things of some people take, and those of all visitors: runs, uploads and fetched data."""
        wanted = set(owners)
        infos = [info for info in self._index.all() if info.owner]
        sizes = self._keeper.sizes(infos)
        mine, all_of_them = (
            sum(sizes[info.id] for info in some) for some in ([info for info in infos if info.owner in wanted], infos)
        )
        marks, nobody = {owner_mark(owner) for owner in wanted}, owner_mark("")
        for folder, of in marked_folders(self._settings.home):
            size = self._size(folder)
            mine += size if marks & of else 0
            all_of_them += size if of - {nobody} else 0
        return mine, all_of_them

    def _size(self, folder: Path) -> int:
        with contextlib.suppress(OSError):
            changed = folder.stat().st_mtime_ns
            known = self._sizes.get(folder)
            if known is None or known[0] != changed:
                known = self._sizes[folder] = (changed, tree_bytes(folder))
            return known[1]
        return 0

    def packed(self, owner: str) -> Iterator[bytes]:
        """A zip with all of somebody's runs that are over, each as `run_archive` packs one, and their data files.

        It is made while it is read, and never is in memory as a whole.

        Raises:
            LimitError: They are being taken along already.
        """
        with self._lock:
            if owner in self._leaving:
                raise LimitError("Your things are being packed already; wait for that download to end.")
            self._leaving.add(owner)
        parts = self._pack(owner)
        next(parts)  # begun: from here on it lets go of its place however it ends
        return parts

    def _pack(self, owner: str) -> Iterator[bytes]:
        sink = _Sink()
        listed: dict[str, list[str]] = {"runs": [], "files": [], "left_out": []}
        try:
            yield b""
            with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
                for info in self.runs(owner):
                    with tempfile.NamedTemporaryFile(dir=self._settings.cache_dir, suffix=".zip") as packed:
                        try:
                            pack_run(self._store.paths(info.id), info.status, Path(packed.name))
                        except (InvalidStateError, RunNotFoundError, StorageError):
                            listed["left_out"].append(info.id)  # it trains, or went meanwhile
                            continue
                        listed["runs"].append(info.id)
                        yield from _copy(archive, sink, Path(packed.name), f"runs/{info.id}.zip")
                for path in (path for folder in self.files(owner) for path in sorted(folder.glob("[!.]*"))):
                    name = f"files/{path.parent.name}/{path.name}"
                    listed["files"].append(name)
                    yield from _copy(archive, sink, path, name)
                archive.writestr("contents.json", json.dumps(listed, indent=2) + "\n")
            yield sink.taken()
        finally:
            with self._lock:
                self._leaving.discard(owner)

    def delete(self, owner: str, stop: Callable[[str], object], delete: Callable[[str], object]) -> list[str]:
        """Deletes all that somebody has.

        Args:
            owner: Whose.
            stop: Asks a run to stop.
            delete: Deletes a run.

        Returns:
            Ids of the runs that are at work: they were asked to stop, and are to be deleted later.
        """
        busy = []
        for info in self.runs(owner):
            try:
                delete(info.id)
            except InvalidStateError:
                stop(info.id)
                busy.append(info.id)
            except RunNotFoundError:
                continue
        mark = owner_mark(owner)
        for folder in self.files(owner):
            _leave(folder, mark)
        return busy

    def visited(self, visitor: str) -> None:
        """Remembers that somebody is here; written down with the next look after the house."""
        if visitor and (visitor in self._seen or len(self._seen) < MOST_SEEN):
            self._seen[visitor] = time.time()

    def expire(self, delete: Callable[[str], object], now: float | None = None) -> list[str]:
        """Deletes the things of visitors who have not been here for too long; of those whose runs are at work, none.

        Args:
            delete: Deletes a run.
            now: The time in seconds; the clock's when not given.

        Returns:
            Ids of the visitors whose things went.
        """
        days = self._settings.limit("most_idle_days")
        if not days:
            return []
        last, busy = self._last_visits(), {info.owner for info in self._index.all() if info.status.is_active}
        limit = (time.time() if now is None else now) - days * DAY
        gone = [owner for owner, when in last.items() if when < limit and owner not in busy]
        for owner in gone:
            with contextlib.suppress(OSError, StorageError):
                self.delete(owner, lambda _run: None, delete)
        known = {owner_mark(owner) for owner in ("", *last)}
        for folder, marks in marked_folders(self._settings.home):  # of those who have never come back
            for mark in marks - known:
                with contextlib.suppress(OSError):
                    if folder.stat().st_mtime < limit:
                        _leave(folder, mark)
        return gone

    def _last_visits(self) -> dict[str, float]:
        """When each visitor who has something was here last; keeps it in a file."""
        path = self._settings.home / VISITS
        known = {name: when for name, when in (read_json(path) or {}).items() if isinstance(when, float | int)}
        with self._lock:
            seen, self._seen = self._seen, {}
        latest = {name: max(known.get(name, 0.0), seen.get(name, 0.0)) for name in {*known, *seen}}
        marks = frozenset[str]().union(*(of for _, of in marked_folders(self._settings.home)))
        found = {name: when for name, when in latest.items() if owner_mark(name) in marks}
        for info in self._index.all():
            if info.owner:
                found[info.owner] = max(found.get(info.owner, 0.0), latest.get(info.owner, 0.0), info.created)
        with contextlib.suppress(OSError, StorageError):
            atomic_write(path, json.dumps(found))
        return found


class _Sink:
    """Takes what a zip writes, until that is fetched; it cannot go back."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """There is nothing behind it."""

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _copy(archive: zipfile.ZipFile, sink: _Sink, path: Path, name: str) -> Iterator[bytes]:
    """Writes a file into a zip, and gives what that makes piece by piece."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as source:
        with archive.open(zipfile.ZipInfo(name, time.localtime()[:6]), "w", force_zip64=True) as target:
            while piece := source.read(_CHUNK):
                target.write(piece)
                yield sink.taken()
        yield sink.taken()


def _leave(folder: Path, mark: str) -> None:
    """Takes somebody out of those who have a folder of data; it goes with the last of them."""
    if folder.name.startswith(f"{mark}-"):
        remove(folder)
        return
    (folder / f".of-{mark}").unlink(missing_ok=True)
    if not any(folder.glob(".of-*")):
        remove(folder)
