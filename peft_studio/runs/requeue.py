"""Putting a run that is over back into the queue, so that a new worker takes it on where the last one left it.

What the last worker left at the run's top (``claim.json``, ``exit.json``, and the flags ``stop`` and ``pause``) moves
into ``attempts/<n>/``. The first thing written there, ``requeued.json``, holds the text of the claim that is to be
moved: from then on the run is queued. The claim moves last, so until everything is in place nobody can claim the run
anew, and whoever finishes a move that was cut short touches nothing of a later attempt: the claim is another one then.
"""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from peft_studio.errors import InvalidStateError, StorageError
from peft_studio.files import atomic_write, exclusive, is_there, open_plain, read_json
from peft_studio.runs.claims import claim_is_held
from peft_studio.runs.event_log import whole
from peft_studio.runs.paths import RunPaths

BY_USER, BY_ITSELF = "user", "auto"
MAX_FUTILE = 3  # times that an interrupted run is started by itself without getting further
_INTENT = "requeued.json"


def checkpoint_step(paths: RunPaths) -> int | None:
    """The step of a run's checkpoint; None without one."""
    step = (read_json(paths.checkpoint / "state.json") or {}).get("step")
    return whole(step)


def attempts(paths: RunPaths) -> list[dict[str, Any]]:
    """How often a run was put back into the queue, first to last: ``by``, ``step``, ``time``, ``claim``."""
    found = [read_json(folder / _INTENT) for folder in _folders(paths)]
    return [attempt for attempt in found if attempt is not None]  # None: cut short before it began


def futile_attempts(paths: RunPaths) -> int:
    """How many of the last attempts began by themselves, and from the checkpoint that is there now."""
    step, count = checkpoint_step(paths), 0
    for attempt in reversed(attempts(paths)):
        if attempt.get("by") != BY_ITSELF or attempt.get("step") != step:
            break
        count += 1
    return count


def may_start_by_itself(paths: RunPaths) -> bool:
    """Whether an interrupted run should be tried again: not when trying has led nowhere too often."""
    return futile_attempts(paths) < MAX_FUTILE


def is_requeued(paths: RunPaths) -> bool:
    """Whether the claim that lies at the top is one that is to be moved away."""
    return _pending(paths) is not None


def _pending(paths: RunPaths) -> Path | None:
    """The folder that the claim at the top is to be moved into, if any."""
    text = _text(paths.claim)
    folders = reversed(_folders(paths)) if text else ()
    return next((folder for folder in folders if (read_json(folder / _INTENT) or {}).get("claim") == text), None)


def requeue(paths: RunPaths, by: str) -> None:
    """Puts a run back into the queue; doing so twice is the same as once.

    Args:
        paths: A run that is over.
        by: ``BY_USER`` or ``BY_ITSELF``.

    Raises:
        InvalidStateError: A process of the run still lives.
        StorageError: The folder cannot be written.
    """
    try:
        if not is_there(paths.claim):  # it never started: only the flags are in the way
            for flag in (paths.stop, paths.pause):
                flag.unlink(missing_ok=True)
            return
        paths.attempts.mkdir(exist_ok=True)
        with exclusive(paths.attempts):
            if is_requeued(paths):
                return _move(paths)
            text = _text(paths.claim)
            if not text:
                raise InvalidStateError(f"The claim of the run {paths.id} is damaged. Clone the run instead.")
            if not is_there(paths.exit) and claim_is_held(paths):
                raise InvalidStateError(f"A process of the run {paths.id} is still ending. Try again in some seconds.")
            folder = paths.attempts / str(len(_folders(paths)) + 1)
            folder.mkdir()
            intent = {"by": by, "step": checkpoint_step(paths), "time": round(time.time(), 3), "claim": text}
            atomic_write(folder / _INTENT, json.dumps(intent))
            _move(paths)
    except OSError as exc:
        raise StorageError(f"The run {paths.id} could not be put into the queue: {exc.strerror or exc}.") from exc


def complete_requeue(paths: RunPaths) -> None:
    """Finishes a move that was cut short; does nothing otherwise.

    Raises:
        StorageError: The folder cannot be written.
    """
    try:
        if is_requeued(paths):
            with exclusive(paths.attempts):
                _move(paths)
    except OSError as exc:
        raise StorageError(f"The run {paths.id} could not be put into the queue: {exc.strerror or exc}.") from exc


def _move(paths: RunPaths) -> None:
    """Moves what the last worker left, the claim last; only under the lock."""
    folder = _pending(paths)
    if folder is None:
        return
    for path in (paths.stop, paths.pause, paths.exit, paths.claim):
        with contextlib.suppress(FileNotFoundError):
            path.rename(folder / path.name)


def _folders(paths: RunPaths) -> list[Path]:
    try:
        names = [path.name for path in paths.attempts.iterdir() if path.name.isdecimal()]
    except OSError:
        return []
    return [paths.attempts / name for name in sorted(names, key=int)]


def _text(path: Path) -> str:
    try:
        with open_plain(path) as file:
            return file.read().decode()
    except (OSError, UnicodeDecodeError):
        return ""
