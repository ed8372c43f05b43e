"""Files that people upload: kept by their contents, and removed once no run names them."""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from peft_studio.access.visitors import Role, asker
from peft_studio.errors import DataError, StorageError
from peft_studio.files import atomic_write, open_plain
from peft_studio.machine.path_policy import asked_by, owner_mark, paths_are_named
from peft_studio.tasks.reading.table_cache import forget
from peft_studio.tasks.tables import MAX_BYTES

FOLDER = "uploads"
MayKeep = Callable[[float], None]
KEEP_DAYS = 7
"""So long an upload stays that no run names; it may still stand in somebody's form."""


def keep_anything(_size: float) -> None:
    """Lets a file of any size be kept."""


def keep_upload(path: Path, home: Path, may_keep: MayKeep = keep_anything) -> Path:
    """Copies a file to where runs can find it later; the same contents under the same name are kept once.

    Args:
        path: The uploaded file, in a temporary folder.
        home: The app's home folder.
        may_keep: Refuses what would be more than whoever asks may keep; see `FairShare.check_kept`.

    Raises:
        DataError: It is too large.
        LimitError: From ``may_keep``.
        StorageError: It cannot be copied.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path.name} is larger than {MAX_BYTES / 1e6:,.0f} MB, the most allowed.")
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            kept = home / FOLDER / f"{_owner()}{digest[:16]}" / safe_name(path.name)
            if kept.exists():
                os.utime(kept)  # in use again: ``clean_uploads`` counts from now
            else:
                may_keep(path.stat().st_size)
                kept.parent.mkdir(parents=True, exist_ok=True)
                stream.seek(0)
                atomic_write(kept, stream)
    except OSError as exc:
        raise StorageError(f"{path.name} cannot be kept in {home / FOLDER}: {exc.strerror or exc}.") from exc
    return kept


def _owner() -> str:
    """How the folder of an upload begins: where nobody names paths, with whose it is, so that only they can use it."""
    return "" if paths_are_named() else f"{owner_mark(asker().id)}-"


def use_askers() -> None:
    """Has uploads be used by those only who brought them, and by those who may see everything."""
    asked_by(lambda: None if asker().role in (Role.OWNER, Role.TEACHER) else asker().id)


def safe_name(name: str) -> str:
    """A file's name with nothing in it that a file system or a shell could take for something else."""
    stem, suffix = Path(name).stem, Path(name).suffix
    plain = re.sub(r"[^\w.-]+", "_", stem).strip("._")[:80]
    return (plain or "data") + re.sub(r"[^\w.]+", "", suffix)[:16].lower()


def clean_uploads(home: Path, runs_dir: Path, now: float | None = None) -> list[Path]:
    """Removes uploads that no run's config names and that nobody brought for a week, and what was read of them.

    Args:
        home: The app's home folder.
        runs_dir: The folder of the runs.
        now: The time in seconds; the clock's when not given.

    Returns:
        The folders that were removed; none when a run's config cannot be read.
    """
    oldest = (time.time() if now is None else now) - KEEP_DAYS * 24 * 3600
    removed: list[Path] = []
    try:
        folders = [place for place in (home / FOLDER).iterdir() if _is_ours(place)]
        stale = [place for place in folders if _last_used(place) < oldest]
        named = _named_uploads(runs_dir) if stale else set()
    except OSError:
        return []
    for place in stale:
        if place.name not in named:
            shutil.rmtree(place, ignore_errors=True)
            removed.append(place)
    forget(home / "cache", removed)
    return removed


def _is_ours(place: Path) -> bool:
    return bool(re.fullmatch("([0-9a-f]{16}-)?[0-9a-f]{16}", place.name)) and place.is_dir() and not place.is_symlink()


def _last_used(place: Path) -> float:
    return max(path.stat().st_mtime for path in (place, *place.iterdir()))


def _named_uploads(runs_dir: Path) -> set[str]:
    """Folders of uploads that occur in a run's config, read as plain text so that no broken one goes unheard."""
    found: set[str] = set()
    for run in runs_dir.iterdir() if runs_dir.is_dir() else ():
        if not os.path.lexists(run / "config.json"):
            continue
        with open_plain(run / "config.json") as stream:
            text = stream.read().decode(errors="replace")
        found.update(re.findall(r"uploads?[/:]((?:[0-9a-f]{16}-)?[0-9a-f]{16})/", text))
    return found
