"""Rows that take seconds to make, kept on disk until Python or the code that makes them changes.

A process that names no folder keeps nothing. Pure Python.
"""

import contextlib
import hashlib
import json
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from peft_studio.errors import StorageError
from peft_studio.files import atomic_write, read_json
from peft_studio.tasks.base import Row

Pair = tuple[str, str]
"""Prompt and target."""

_folder: list[Path] = []


def use_folder(folder: Path) -> None:
    """Keeps rows in a folder from now on; what is in it may be deleted at any time.

    Args:
        folder: It is made when there is something to keep, but not the folder that it is in.
    """
    _folder[:] = [folder]


@contextlib.contextmanager
def keeping(folder: Path) -> Iterator[None]:
    """Keeps things in a folder for as long as this lasts; see `use_folder`."""
    before = list(_folder)
    use_folder(folder)
    try:
        yield
    finally:
        _folder[:] = before


def cache_folder() -> Path | None:
    """The folder that this process may keep things in; None when it named none."""
    return _folder[0] if _folder else None


def kept(name: str, make: Callable[[], Sequence[Pair]]) -> tuple[Row, ...]:
    """Rows with one accepted answer each.

    Args:
        name: Task and split, such as ``docstrings-train``.
        make: Makes prompts and targets from nothing but Python's version and the code of ``peft_studio.tasks``.

    Raises:
        DataError: From ``make``.
    """
    folder = cache_folder()
    file = folder / f"rows-{name}.json" if folder else None
    pairs: Sequence[Pair] = _read(file) if file else ()
    if not pairs:
        pairs = make()
        if file:
            _write(file, pairs)
    return tuple(Row(prompt, target, (target,)) for prompt, target in pairs)


def _read(file: Path) -> list[Pair]:
    """What a file holds; nothing when it is not there, damaged or out of date."""
    found = read_json(file) or {}
    try:
        pairs = [(prompt, target) for prompt, target in found["rows"]] if found["key"] == code_key() else []
    except (TypeError, ValueError, KeyError):
        return []
    return pairs if all(isinstance(text, str) for pair in pairs for text in pair) else []


def _write(file: Path, pairs: Sequence[Pair]) -> None:
    with contextlib.suppress(OSError, StorageError):  # a full disk, or no home any more: the rows are at hand
        file.parent.mkdir(exist_ok=True)
        atomic_write(file, json.dumps({"key": code_key(), "rows": pairs}))


@cache
def code_key() -> str:
    """Changes with the running Python and with the code that makes or reads rows."""
    found = hashlib.sha256(f"{sys.version} {sysconfig.get_path('stdlib')}".encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()
