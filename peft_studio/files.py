"""Files that anybody may have broken: a folder, a pipe or a link in a file's place is no crash; and locks."""

import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from peft_studio.errors import StorageError

DRAFT = ".tmp"
"""How the names of files end that are being written."""
MAX_HEADER_BYTES = 1 << 24  # of a safetensors file; the library allows six times as many
MAX_TENSORS = 100_000  # in one: a model with a thousand layers has a tenth of that
_PACKAGE_PARENT = str(Path(__file__).resolve().parents[1])


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


def write_privately() -> None:
    """Has this process, and those that it starts, make files that nobody else of the machine can read."""
    os.umask(0o077)


def make_private(home: Path, names: Iterable[str]) -> None:
    """Takes a folder of ours away from everybody else of the machine, once: an earlier version let them read it.

    Args:
        home: The folder; one that all may write to (``/tmp``) is left alone.
        names: What in it is ours.
    """
    with contextlib.suppress(OSError):  # somebody else's, or a mounted place without modes
        mode = home.stat().st_mode
        if not mode & 0o077 or mode & stat.S_ISVTX:
            return
        for top in (home / name for name in names):
            _make_private(top)
            for folder, folders, files in os.walk(top):
                for name in (*folders, *files):
                    _make_private(Path(folder, name))
        home.chmod(stat.S_IMODE(mode) & 0o700)  # last, since it says that all is done


def _make_private(path: Path) -> None:
    with contextlib.suppress(OSError):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and mode & 0o077:
            path.chmod(stat.S_IMODE(mode) & 0o700)


def search_path(env: Mapping[str, str]) -> str:
    """``PYTHONPATH`` for a process of ours, which is to find this package from any folder."""
    return os.pathsep.join(filter(None, (_PACKAGE_PARENT, env.get("PYTHONPATH"))))


def usable_log(path: Path) -> Path:
    """A path that a process can write its output to: this one, or nowhere if it cannot be written."""
    try:  # a pipe that nobody reads is not waited for
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600))
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


def tensor_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file: dtype, shape and place of each tensor by name, and the bytes behind it.

    Source: https://github.com/huggingface/safetensors#format. The library would import numpy, map the whole file, wait
    at a pipe, and say less of what is wrong.

    Raises:
        OSError: The file is missing, unreadable or no plain file.
        ValueError: It is no safetensors file, and why.
    """
    with open_plain(path) as file:
        length, size = int.from_bytes(file.read(8), "little"), os.fstat(file.fileno()).st_size
        if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise ValueError(f"its header would have {length:,} bytes")
        try:
            header = json.loads(_few(file.read(length)), parse_constant=refuse_constant)
        except RecursionError as exc:
            raise ValueError("its header is nested too deeply") from exc
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    header.pop("__metadata__", None)
    return header, size - 8 - length


def _few(header: bytes) -> bytes:
    """A header that does not become a hundred times as large when it is parsed.

    Raises:
        ValueError: It holds more than its tensors need.
    """
    if header.count(b"{") + header.count(b"[") > 3 * MAX_TENSORS or header.count(b":") > 5 * MAX_TENSORS:
        raise ValueError(f"its header tells of more than {MAX_TENSORS:,} tensors")
    return header


def weights_are_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says; a cheap look that reads no weights."""
    try:
        header, size = tensor_header(path)
        return bool(header) and size == max(int(item["data_offsets"][1]) for item in header.values())
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return False


def atomic_write(path: Path, content: str | bytes | BinaryIO, durable: bool = False) -> None:
    """Writes a whole file so that a reader sees the old one or the new one.

    Args:
        path: The file; its folder is there.
        content: What it is to hold, or a stream that is copied.
        durable: Whether to return only when it would outlast a power failure.

    Raises:
        StorageError: The disk is full or the folder is not writable.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}{DRAFT}")
    try:
        with draft.open("wb") as file:
            if isinstance(content, str | bytes):
                file.write(content.encode() if isinstance(content, str) else content)
            else:
                shutil.copyfileobj(content, file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise StorageError(f"{path} could not be written: {exc.strerror or exc}.") from exc


def cache_write(path: Path, content: str | bytes) -> None:
    """Like `atomic_write`, for what can be made again: makes the folder, and a full disk is no reason to fail."""
    with contextlib.suppress(OSError, StorageError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, content)


def replace_folder(draft: Path, folder: Path) -> None:
    """Puts a folder that is complete in the place of whatever is there.

    Raises:
        OSError: It cannot be done.
    """
    remove(folder)
    draft.rename(folder)


def read_json(path: Path) -> dict[str, Any] | None:
    """Reads a small JSON object; None when the file is missing, torn or not an object of plain JSON."""
    try:
        with open_plain(path) as file:
            value = json.loads(file.read(), parse_constant=refuse_constant, parse_float=_finite)
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def refuse_constant(constant: str) -> Any:
    """For ``json.loads``: NaN and infinity are no JSON."""
    raise ValueError(f"{constant} is not a JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else refuse_constant(digits)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Lets in one process at a time; the system lets go of the lock of one that dies.

    Args:
        path: A folder, or a file that is made for this.

    Raises:
        OSError: It cannot be opened.
    """
    fd = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


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
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
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
