"""The lock by which one app at a time owns a home folder."""

import fcntl
import os
from pathlib import Path

from peft_studio.errors import StorageError
from peft_studio.files import is_locked


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
