"""Who works on a run: the claim that exactly one process can make, and the note it leaves when it ends."""

import contextlib
import json
import os
import time
from pathlib import Path

import psutil

from peft_studio.errors import StorageError
from peft_studio.jobs.store import RunPaths, atomic_write

# Room kept free for the last words of a run whose disk is full, in bytes: half for the worker, half for exit.json.
RESERVE_BYTES = 65536


def claim_run(paths: RunPaths, by: str) -> bool:
    """Claims a run for this process; of any number of callers exactly one succeeds.

    The claim appears complete: it is written aside and then linked to its name, which fails if the name exists.

    Args:
        paths: The run.
        by: Who claims, for the reader of the folder.

    Returns:
        Whether this process now owns the run. False also when the run has been deleted.

    Raises:
        StorageError: The claim cannot be written (a full disk).
    """
    start = psutil.Process().create_time()
    text = json.dumps({"pid": os.getpid(), "process_start": start, "by": by})
    draft = paths.root / f".claim.{os.getpid()}"
    try:
        draft.write_text(text, encoding="utf-8")
        try:
            _link(draft, paths.claim, text)
        finally:
            draft.unlink()
    except (FileExistsError, FileNotFoundError):
        return False
    except OSError as exc:
        raise StorageError(f"{paths.claim} could not be written: {exc.strerror or exc}.") from exc
    return True


def _link(draft: Path, target: Path, text: str) -> None:
    try:
        target.hardlink_to(draft)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # a file system without hard links
        with target.open("x", encoding="utf-8") as file:
            file.write(text)


def reserve(paths: RunPaths) -> None:
    """Sets disk space aside, so that a run whose disk fills up can still say so."""
    with contextlib.suppress(OSError):
        _reserve_path(paths).write_bytes(os.urandom(RESERVE_BYTES))


def use_reserve(paths: RunPaths, keep: int = 0) -> None:
    """Frees the space that was set aside, down to ``keep`` bytes."""
    with contextlib.suppress(OSError):
        if keep:
            os.truncate(_reserve_path(paths), keep)
        else:
            _reserve_path(paths).unlink()


def _reserve_path(paths: RunPaths) -> Path:
    return paths.root / ".reserve"


def write_exit(paths: RunPaths, code: int | None, signal: int | None) -> None:
    """Records how the worker ended; only the owner of the claim may call this.

    Args:
        paths: The run.
        code: Exit code, None when a signal ended the worker.
        signal: Number of that signal, else None.

    Raises:
        StorageError: It cannot be written even with the reserved space.
    """
    text = json.dumps({"code": code, "signal": signal, "time": round(time.time(), 3)})
    try:
        atomic_write(paths.exit, text)
    except StorageError:
        use_reserve(paths)
        atomic_write(paths.exit, text)
    use_reserve(paths)
