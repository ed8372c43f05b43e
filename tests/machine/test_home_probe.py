"""File systems that lack something, as a mounted bucket does."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_studio.errors import StorageError
from peft_studio.machine.home_probe import what_is_lacking
from peft_studio.settings import Settings, prepare_home

Patch = Callable[[pytest.MonkeyPatch], None]


def refuses(module: Any, name: str, number: int) -> Patch:
    """A system call that the file system does not have."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    return lambda monkeypatch: monkeypatch.setattr(module, name, refuse)


def gives_every_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_args: None)


def open_without(monkeypatch: pytest.MonkeyPatch, flag: int) -> None:
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *more, **names: real(path, flags & ~flag, *more, **names))


def opens_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    open_without(monkeypatch, os.O_EXCL)


def copies_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renaming that leaves the old name behind, as an object store does."""
    monkeypatch.setattr(os, "replace", lambda old, new: Path(new).write_bytes(Path(old).read_bytes()))


def writes_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda path, flags, *more, **names: real(path, flags & ~os.O_APPEND, *more, **names)
    )


LACKING: list[tuple[Patch, str]] = [
    (refuses(fcntl, "flock", errno.ENOLCK), "file locks"),
    (gives_every_lock, "file locks"),
    (refuses(os, "replace", errno.ENOTSUP), "renaming"),
    (refuses(os, "rename", errno.EXDEV), "renaming"),
    (copies_instead, "renaming"),
    (opens_what_is_there, "making a file only once"),
    (writes_at_the_start, "appending"),
    (refuses(os, "fsync", errno.EINVAL), "writing through"),
]


def test_a_disk_lacks_nothing(tmp_path: Path) -> None:
    assert what_is_lacking(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("patch", "words"), LACKING)
def test_what_a_bucket_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patch: Patch, words: str) -> None:
    with monkeypatch.context() as bucket:
        patch(bucket)
        (found,) = what_is_lacking(tmp_path)
        assert found.startswith(words)
        with pytest.raises(StorageError, match=f"lacks {words}"):
            prepare_home(Settings(home=tmp_path))


def test_a_full_disk_lacks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuses(os, "write", errno.ENOSPC)(monkeypatch)
    assert what_is_lacking(tmp_path) == []
