"""What runs take on the disk, and how that is kept in bounds: a quota, retention, and freeing checkpoints.

Nothing is deleted unless somebody asked for it, by a click, a command or a setting; and retention never touches a run
that is queued, at work, paused or starred.
"""

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peft_studio.errors import InvalidStateError, StorageError
from peft_studio.files import is_there, remove
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.reader import RunInfo, changed_at
from peft_studio.runs.status import Status
from peft_studio.settings import Settings

MEGABYTE = 10**6
WARN_SHARE = 0.8  # of the quota, when no other limit for a warning is set
LEFTOVER_SECONDS = 3600.0  # an unfinished copy or deletion that is older was cut short
OTHERS_SECONDS = 30.0  # how long the size of caches and uploads is taken as it was
DAY = 86400.0
JUMP_SECONDS = 3600.0  # by which a clock is never corrected but by hand
ENDED = tuple(status.value for status in Status if status.is_final)
CHECKPOINT, STAR = "checkpoint", "starred"
_LEFTOVERS = (".new-", ".deleted-", ".import-")


@dataclass(frozen=True)
class RunDisk:
    """Bytes that a run takes, as its files are long.

    Attributes:
        total: All of it.
        checkpoint: What can be freed without losing the adapter or a metric; only resuming needs it.
        adapter: The saved adapter.
    """

    id: str
    total: int
    checkpoint: int
    adapter: int


@dataclass(frozen=True)
class DiskUse:
    """Bytes of a home folder.

    Attributes:
        runs: Each run, newest first.
        total: All runs.
        leftovers: What copies and deletions that were cut short left behind.
        others: Everything else in the home: caches, uploads, fetched data.
        free: Left on the disk.
        quota: What all runs may take; 0 without a limit.
        warn_at: From which size on there is a warning; 0 without one.
    """

    runs: tuple[RunDisk, ...]
    total: int
    leftovers: int
    others: int
    free: int
    quota: int
    warn_at: int

    @property
    def warning(self) -> str:
        """A sentence when the runs take too much; else empty."""
        if self.quota and self.total >= self.quota:
            return (
                f"The runs take {megabytes(self.total)} of the {megabytes(self.quota)} that are allowed, so no new "
                "run can start. Delete some or free their checkpoints, or raise PEFT_STUDIO_QUOTA_MB."
            )
        if self.warn_at and self.total >= self.warn_at:
            allowed = f" of the {megabytes(self.quota)} that are allowed" if self.quota else ""
            return f"The runs take {megabytes(self.total)}{allowed}."
        return ""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, with ``warning``."""
        return {**asdict(self), "warning": self.warning}


def megabytes(size: int) -> str:
    """A size for people."""
    if size < MEGABYTE:
        return f"{size / 1000:.0f} kB"
    return f"{size / MEGABYTE:,.0f} MB" if size >= 10 * MEGABYTE else f"{size / MEGABYTE:.1f} MB"


def tree_bytes(path: Path | str, besides: Path | None = None) -> int:
    """Bytes of all files below a folder; links are not followed, what vanishes meanwhile does not count.

    Args:
        path: The folder.
        besides: What in it is not counted.
    """
    total = 0
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            if besides is not None and entry.path == str(besides):
                continue
            with contextlib.suppress(OSError):
                is_folder = entry.is_dir(follow_symlinks=False)
                total += tree_bytes(entry.path) if is_folder else entry.stat(follow_symlinks=False).st_size
    return total


class Housekeeper:
    """Measures and frees the disk space of a home's runs. Thread-safe; its memory can be dropped at any time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._known: dict[str, tuple[int, RunDisk]] = {}  # by id: the folder's mtime and what was found then
        self._others = (float("-inf"), 0)
        self._offset = _clock_offset()

    def measure(self, infos: Iterable[RunInfo]) -> DiskUse:
        """The disk use of these runs and of the home they are in; one look at each folder that did not change."""
        settings = self._settings
        with self._lock:
            runs = tuple(self._run(RunPaths(settings.runs_dir / info.id), info.status.is_final) for info in infos)
            self._known = {run.id: self._known[run.id] for run in runs if run.id in self._known}
            others = self._measure_others()
        quota = int(settings.quota_mb * MEGABYTE)
        warn_at = int(settings.quota_warn_mb * MEGABYTE) or int(WARN_SHARE * quota)
        leftovers = sum(tree_bytes(path) for path in self.leftovers(0))
        free = _free_bytes(settings.home)
        return DiskUse(runs, sum(run.total for run in runs), leftovers, others, free, quota, warn_at)

    def sizes(self, infos: Iterable[RunInfo]) -> dict[str, int]:
        """Bytes of these runs alone, by id; those that are over are measured once."""
        with self._lock:
            return {
                info.id: self._run(RunPaths(self._settings.runs_dir / info.id), info.status.is_final).total
                for info in infos
            }

    def _run(self, paths: RunPaths, is_over: bool) -> RunDisk:
        """Files of a run that is over no longer grow, so that its folder's mtime tells whether anything changed."""
        changed = changed_at(str(paths.root))
        if changed == -1:
            return RunDisk(paths.id, 0, 0, 0)
        known = self._known.get(paths.id)
        if known is not None and known[0] == changed and is_over:
            return known[1]
        checkpoint, adapter = tree_bytes(paths.root / CHECKPOINT), tree_bytes(paths.adapter)
        found = RunDisk(paths.id, tree_bytes(paths.root), checkpoint, adapter)
        if is_over:
            self._known[paths.id] = (changed, found)
        return found

    def _measure_others(self) -> int:
        when, size = self._others
        if time.monotonic() - when > OTHERS_SECONDS:
            size = tree_bytes(self._settings.home, besides=self._settings.runs_dir)
            self._others = (time.monotonic(), size)
        return size

    def check_quota(self, infos: Iterable[RunInfo]) -> None:
        """Lets a new run pass when there is room for it.

        Raises:
            StorageError: The runs take all that is allowed.
        """
        if not self._settings.quota_mb:
            return
        use = self.measure(infos)
        if use.total >= use.quota:
            raise StorageError(use.warning)

    def outdated(self, infos: Iterable[RunInfo], now: float | None = None) -> list[str]:
        """Ids of the runs that retention would delete, oldest first; see `Settings.keep_runs` and ``keep_days``."""
        keep_runs, keep_days = self._settings.keep_runs, self._settings.keep_days
        ended = sorted((info for info in infos if info.status.is_final), key=_ended_at, reverse=True)
        free = [info for info in ended if not is_starred(RunPaths(self._settings.runs_dir / info.id))]
        limit = (time.time() if now is None else now) - keep_days * DAY
        too_many = {info.id for info in free[keep_runs:]} if keep_runs else set()
        by_age = keep_days and (now is not None or not self._clock_jumped())
        too_old = {info.id for info in free if _ended_at(info) < limit} if by_age else set()
        return [info.id for info in reversed(free) if info.id in too_many | too_old]

    def _clock_jumped(self) -> bool:
        """Whether somebody set the clock since the app started, so that the age of runs cannot be told by it."""
        return abs(_clock_offset() - self._offset) > JUMP_SECONDS

    def free_checkpoint(self, paths: RunPaths, status: str) -> int:
        """Removes a run's checkpoint; adapter, metrics and log stay.

        Returns:
            Bytes freed.

        Raises:
            InvalidStateError: The run is not over, or is paused and needs it.
            StorageError: It cannot be removed.
        """
        if not Status(status).is_final:
            raise InvalidStateError(
                f"The run {paths.id} is {status} and needs its checkpoint to go on. Only that of a run that is "
                f"{', '.join(ENDED[:-1])} or {ENDED[-1]} can be freed."
            )
        freed = tree_bytes(paths.root / CHECKPOINT)
        try:
            remove(paths.root / CHECKPOINT)
        except OSError as exc:
            raise StorageError(f"The checkpoint of {paths.id} could not be removed: {exc.strerror or exc}.") from exc
        return freed

    def leftovers(self, older_than: float = LEFTOVER_SECONDS) -> list[Path]:
        """Folders that a copy or a deletion left behind when it was cut short, so many seconds ago at least."""
        found = []
        with contextlib.suppress(OSError):
            for path in self._settings.runs_dir.iterdir():
                if path.name.startswith(_LEFTOVERS) and time.time() - path.stat().st_mtime >= older_than:
                    found.append(path)
        return found

    def remove_leftovers(self) -> int:
        """Removes what was left behind; returns the bytes freed."""
        freed = 0
        of_older_versions = self._settings.cache_dir / "curves"
        for path in (*self.leftovers(), of_older_versions):
            freed += tree_bytes(path)
            shutil.rmtree(path, ignore_errors=True)
        return freed


def is_starred(paths: RunPaths) -> bool:
    """Whether somebody marked the run as worth keeping."""
    return is_there(paths.root / STAR)


def set_star(paths: RunPaths, starred: bool) -> None:
    """Marks a run as worth keeping, or takes the mark away.

    Raises:
        StorageError: The folder cannot be written.
    """
    try:
        if starred:
            (paths.root / STAR).touch()
        else:
            (paths.root / STAR).unlink(missing_ok=True)
    except OSError as exc:
        raise StorageError(f"The run {paths.id} could not be marked: {exc.strerror or exc}.") from exc


def _clock_offset() -> float:
    """The clock's time less the seconds since the machine was started, sleep included."""
    return time.time() - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _ended_at(info: RunInfo) -> float:
    return (info.started or info.created) + (info.seconds or 0.0)


def _free_bytes(path: Path) -> int:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return 0
