"""What a file system can do of what runs need: a mounted bucket looks like a folder and is often less."""

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
"""A full disk is told elsewhere, and lacks nothing."""


def what_is_lacking(folder: Path) -> list[str]:
    """Tries each in a folder of its own, which is removed again.

    Hard links are not tried: nothing here makes any.

    Args:
        folder: Where runs are, or are to be.

    Returns:
        What does not work, each with what it would break; empty when all is well.

    Raises:
        OSError: Nothing can be written there at all.
    """
    with tempfile.TemporaryDirectory(prefix=".probe-", dir=folder, ignore_cleanup_errors=True) as name:
        place = Path(name)
        (place / "there").write_bytes(b"")
        return [words for words, works in _TRIALS if not _does(works, place)]


def _does(works: Callable[[Path], bool], place: Path) -> bool:
    try:
        return works(place)
    except OSError as exc:
        return exc.errno in _FULL


def _locks(place: Path) -> bool:
    """A lock must be given, and not be given twice."""
    first, second = os.open(place / "there", os.O_RDWR), os.open(place / "there", os.O_RDWR)
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        return True
    finally:
        os.close(first)
        os.close(second)


def _replaces(place: Path) -> bool:
    """A file must take the place of another, and a folder a new name, in one step."""
    draft, old = place / "draft", place / "old"
    draft.write_bytes(b"new")
    old.write_bytes(b"old")
    draft.replace(old)
    (place / "folder").mkdir()
    (place / "folder").rename(place / "renamed")
    return old.read_bytes() == b"new" and not draft.exists() and (place / "renamed").is_dir()


def _excludes(place: Path) -> bool:
    """Of two that make a file, one must fail."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(place / "there", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        return False
    return True


def _appends(place: Path) -> bool:
    """A line must be there at once for who reads while the file is open, behind those before it."""
    log = place / "log"
    log.write_bytes(b"1\n")
    handle = os.open(log, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(handle, b"2\n")
        return log.read_bytes() == b"1\n2\n"
    finally:
        os.close(handle)


def _keeps(place: Path) -> bool:
    handle = os.open(place / "there", os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return True


_TRIALS: tuple[tuple[str, Callable[[Path], bool]], ...] = (
    ("file locks, without which two apps could train one run and a running one would be taken for dead", _locks),
    ("renaming in one step, without which half a file could be read as a whole one", _replaces),
    ("making a file only once, without which two workers could claim one run", _excludes),
    ("appending to a file that is read, without which curves would not grow while a run trains", _appends),
    ("writing through to the disk, without which a checkpoint could not be relied on", _keeps),
)
