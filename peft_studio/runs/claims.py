"""Who works on a run: the claim that exactly one process can make, and the note it leaves when it ends."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from peft_studio.errors import StorageError
from peft_studio.files import atomic_write, is_locked, read_json
from peft_studio.runs.paths import RunPaths

# Room kept free for the last words of a run whose disk is full, in bytes: half for the worker, half for exit.json.
RESERVE_BYTES = 65536


def claim_run(paths: RunPaths, by: str, hold: bool = True, gpus: Sequence[str] | None = None) -> bool:
    """Claims a run for this process; of any number of callers exactly one succeeds.

    The claim appears complete: it is written aside and then linked to its name, which fails if the name exists.

    Args:
        paths: The run.
        by: Who claims, for the reader of the folder.
        hold: Whether to hold a lock on the claim until this process and those that it forks have all ended; see
            `claim_is_held`.
        gpus: UUIDs of the GPUs that it was given; None when nobody gave it any.

    Returns:
        Whether this process now owns the run. False also when the run has been deleted.

    Raises:
        StorageError: The claim cannot be written (a full disk).
    """
    pid = os.getpid()
    claim: dict[str, Any] = {"pid": pid, "process_start": psutil.Process().create_time(), "mark": process_mark(pid)}
    claim |= {"by": by, **({} if gpus is None else {"gpus": list(gpus)})}
    return write_claim(paths, {**claim, "host": socket.gethostname(), "time": time.time()}, hold)


def write_claim(paths: RunPaths, claim: dict[str, Any], hold: bool = False) -> bool:
    """Writes a claim, perhaps on behalf of a process elsewhere; see `claim_run`."""
    text = json.dumps(claim)
    draft = paths.root / f".claim.{os.getpid()}"
    try:
        draft.write_text(text, encoding="utf-8")
        try:
            _link(draft, paths.claim, text)
            if hold:
                _hold(paths.claim)
        finally:
            draft.unlink()
    except (FileExistsError, FileNotFoundError):
        return False
    except OSError as exc:
        raise StorageError(f"{paths.claim} could not be written: {exc.strerror or exc}.") from exc
    return True


def _hold(path: Path) -> None:
    """Locks a file; the descriptor stays open on purpose, and forked children share it."""
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _link(draft: Path, target: Path, text: str) -> None:
    try:
        target.hardlink_to(draft)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # a file system without hard links
        with target.open("x", encoding="utf-8") as file:
            file.write(text)


def claim_is_held(paths: RunPaths) -> bool:
    """Whether the claimant or a process that it forked lives, as the lock on the claim shows.

    Unlike a process id this also sees a worker whose supervisor was killed.
    """
    return is_locked(paths.claim) is True


def nobody_is_left(paths: RunPaths) -> bool:
    """Whether neither the claimant nor a process that it forked lives, for certain: a claim of this host, unlocked."""
    here = (read_json(paths.claim) or {}).get("host") == socket.gethostname()
    return here and is_locked(paths.claim) is False


def process_mark(pid: int) -> str | None:
    """What no other process has: the machine's start, and the process's in ticks since then; None where unknown.

    Unlike a time of day it stays the same when somebody sets the clock.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return f"{boot}:{int(stat[stat.rindex(b')') + 2 :].split()[19])}"  # field 22; the name before may hold spaces
    except (OSError, ValueError, IndexError):
        return None


def process_alive(pid: Any, start_time: Any, mark: Any = None) -> bool:
    """Whether a process lives, told apart from a later one with the same pid.

    Args:
        pid: Its id.
        start_time: When it started, in seconds since the epoch.
        mark: Its `process_mark`, which says it better, if it has one.
    """
    if type(pid) is not int or not 0 < pid < 2**31 or not isinstance(start_time, int | float):
        return False
    try:
        process = psutil.Process(pid)
        told = isinstance(mark, str)
        same = process_mark(pid) == mark if told else abs(process.create_time() - start_time) < 2
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def claimant_is_here(claim: dict[str, Any]) -> bool:
    """Whether the process that made a claim is one of this machine's, and lives."""
    here = claim.get("host", socket.gethostname()) == socket.gethostname()
    return here and process_alive(claim.get("pid"), claim.get("process_start"), claim.get("mark"))


def claimant_lives(paths: RunPaths, claim: dict[str, Any]) -> bool:
    """Whether the process that made a claim lives.

    A process id means something on the host of the claim only. Elsewhere the lock on the claim tells, as far as the
    file system shares locks; a container that was started again under another name has none.
    """
    here = claim.get("host", socket.gethostname()) == socket.gethostname()
    return claimant_is_here(claim) if here else claim_is_held(paths)


def end_worker(paths: RunPaths, force: bool) -> None:
    """Ends the worker below a run's supervisor on this machine; the supervisor stays to record how it ended.

    Args:
        paths: The run; one that nobody works on here is left alone.
        force: Kill it instead of asking by SIGTERM.
    """
    claim = read_json(paths.claim) or {}
    if not claimant_is_here(claim):
        return
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(claim["pid"]).children(recursive=force):
            with contextlib.suppress(psutil.Error):
                child.send_signal(signal.SIGKILL if force else signal.SIGTERM)


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


def write_exit(
    paths: RunPaths, code: int | None, signal: int | None, lost: str = "", out_of_memory: bool = False
) -> None:
    """Records how the worker ended; only the owner of the claim may call this.

    Args:
        paths: The run.
        code: Exit code, None when a signal ended the worker.
        signal: Number of that signal, else None.
        lost: What became of it when nobody can know either, in words.
        out_of_memory: Whether the kernel was ending processes for want of memory when it was killed.

    Raises:
        StorageError: It cannot be written even with the reserved space.
    """
    ending = {"code": code, "signal": signal, "time": round(time.time(), 3)}
    more = ({"lost": lost} if lost else {}) | ({"out_of_memory": True} if out_of_memory else {})
    text = json.dumps(ending | more)
    try:
        atomic_write(paths.exit, text)
    except StorageError:
        use_reserve(paths)
        atomic_write(paths.exit, text)
    use_reserve(paths)
