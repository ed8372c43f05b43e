"""What a worker on a Ray node has made, ready to be fetched piece by piece: frozen copies of files and folders."""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from peft_studio.runs.paths import RunPaths


class Outbox:
    """Keeps one frozen copy of each file and folder that a worker has written, until it was fetched.

    A copy is made of hard links: it costs nothing, and stays whole when the worker replaces what it was made from.
    The event log and the log are not part of it, as they are sent piece by piece while they grow.

    Args:
        paths: The run's folder on the node.
    """

    def __init__(self, paths: RunPaths) -> None:
        self._root = paths.root
        self._folder = paths.root / ".outbox"
        others = (paths.config, paths.extended, paths.predicted, paths.claim, paths.exit, paths.events, paths.log)
        self._not_sent = {path.name for path in (*others, paths.stop, paths.pause, paths.attempts)}
        self._ready: dict[str, dict[str, Any]] = {}

    def look(self, fetched: dict[str, str]) -> tuple[dict[str, dict[str, Any]], bool]:
        """Freezes what has changed, each after its last copy was fetched.

        Args:
            fetched: The stamp of what the reader has, by name.

        Returns:
            What is ready: a stamp and the files' sizes by name; and whether the reader has everything.
        """
        complete = True
        for name in self._names():
            stamp = _stamp(self._root / name)
            held = self._ready.get(name)
            if not stamp or (held is not None and held["stamp"] == stamp):
                complete &= not stamp or fetched.get(name) == stamp
                continue
            complete = False
            if held is None or fetched.get(name) == held["stamp"]:
                self._freeze(name, stamp)
        return dict(self._ready), complete

    def read(self, name: str, stamp: str, file: str, offset: int, length: int) -> bytes:
        """A piece of a file.

        Raises:
            OSError: It is not there (any more).
        """
        with (self._folder / f"{name}.{stamp}" / file).open("rb") as found:
            found.seek(offset)
            return found.read(length)

    def _names(self) -> list[str]:
        names = [entry.name for entry in os.scandir(self._root)]
        return sorted(name for name in names if not name.startswith(".") and name not in self._not_sent)

    def _freeze(self, name: str, stamp: str) -> None:
        source, copy = self._root / name, self._folder / f"{name}.{stamp}"
        shutil.rmtree(copy, ignore_errors=True)
        try:
            for file in _files(source):
                target = copy / _inside(source, file)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.hardlink_to(file)
            copy.mkdir(parents=True, exist_ok=True)  # an empty folder is one, too
            if _stamp(source) != stamp:
                raise OSError("changed meanwhile")
        except OSError:  # looked at again soon
            shutil.rmtree(copy, ignore_errors=True)
            return
        before = self._ready.get(name)
        files = {_inside(copy, file): file.stat().st_size for file in sorted(copy.rglob("*")) if file.is_file()}
        self._ready[name] = {"stamp": stamp, "files": files, "is_folder": source.is_dir()}
        if before is not None:
            shutil.rmtree(self._folder / f"{name}.{before['stamp']}", ignore_errors=True)


def _files(path: Path) -> list[Path]:
    """A file itself, or those below a folder; half-written ones have names with a dot in front."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))


def _inside(top: Path, file: Path) -> str:
    return file.name if file == top else str(file.relative_to(top))


def _stamp(path: Path) -> str:
    """Tells versions of a file or a folder apart; empty when it is not there, or changes this instant."""
    digest = hashlib.sha256()
    with contextlib.suppress(OSError):
        for file in _files(path):
            found = file.stat()
            digest.update(repr((_inside(path, file), found.st_size, found.st_mtime_ns, found.st_ino)).encode())
        return digest.hexdigest()[:16] if path.exists() else ""
    return ""
