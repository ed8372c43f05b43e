"""Files that anybody may have broken: a folder, a pipe or a link in a file's place is no crash; and locks."""

import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
import stat
from pathlib import Path
from typing import Any, BinaryIO

from peft_studio.errors import StorageError


def open_plain(path: Path) -> BinaryIO:
    """Opens a plain file for reading.

    Raises:
        OSError: It is missing, unreadable or no plain file; a pipe is not waited for.
    """
    return open(path, "rb", opener=_plain)


def _plain(path: str, flags: int) -> int:
    fd = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "It is no plain file", path)


def usable_log(path: Path) -> Path:
    """A path that a process can write its output to: this one, or nowhere if it cannot be written."""
    try:  # a pipe that nobody reads is not waited for
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o644))
    except OSError:
        return Path(os.devnull)
    return path


def is_there(path: Path) -> bool:
    """Whether a path exists, as far as that can be told; False where the folder must not be looked into."""
    return os.path.exists(path)  # noqa: PTH110, whose like raises PermissionError


def is_locked(path: Path) -> bool | None:
    """Whether a process holds a lock on a file; None where that cannot be told (no file, or no locks there)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe in its place would keep us waiting
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(fd)
    return False


def remove(path: Path) -> None:
    """Removes a folder with all that is in it, or whatever lies in its place; nothing is fine, too.

    Raises:
        OSError: It cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:  # `shutil.rmtree` would wait for somebody to write into a pipe
        path.unlink(missing_ok=True)


def weights_are_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says; a cheap look that reads no weights.

    Source: https://github.com/huggingface/safetensors#format
    """
    try:
        with open_plain(path) as file:
            length = int.from_bytes(file.read(8), "little")
            size = os.fstat(file.fileno()).st_size
            header = json.loads(file.read(length)) if 2 <= length <= size - 8 else {}
        header.pop("__metadata__", None)
        return bool(header) and size == 8 + length + max(int(item["data_offsets"][1]) for item in header.values())
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return False


def atomic_write(path: Path, text: str) -> None:
    """Writes a whole file so that a reader sees the old one or the new one.

    Raises:
        StorageError: The disk is full or the folder is not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StorageError(f"{path} could not be written: {exc.strerror or exc}.") from exc


def read_json(path: Path) -> dict[str, Any] | None:
    """Reads a small JSON object; None when the file is missing, torn or not an object of plain JSON."""
    try:
        with open_plain(path) as file:
            value = json.loads(file.read(), parse_constant=_refuse, parse_float=_finite)
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse(digits)


def lock_home(home: Path) -> int:
    """Takes a home folder, until the descriptor is closed or this process ends.

    Returns:
        The descriptor that holds the lock.

    Raises:
        StorageError: Another app has it, or it cannot be written.
    """
    path = home / "app.lock"
    fd = -1
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
    except BlockingIOError:
        owner = os.read(fd, 32).decode(errors="replace").strip()
        os.close(fd)
        raise StorageError(
            f"The home folder {home} is in use by another PEFT Studio (process {owner or 'unknown'}). "
            "Stop that one, or choose another folder with PEFT_STUDIO_HOME or --home."
        ) from None
    except OSError as exc:
        if fd >= 0:
            os.close(fd)
        raise StorageError(f"{path} cannot be locked: {exc.strerror or exc}.") from exc
    return fd


def has_app(home: Path) -> bool:
    """Whether an app has a home folder."""
    return is_locked(home / "app.lock") is True
