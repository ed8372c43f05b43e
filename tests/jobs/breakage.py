"""Ways in which a file or folder of a run can be broken, for tests: all of them fail for root, too."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

HUGE = 10**400  # a whole number that is no float


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _bytes(make: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Replaces a file's contents; its inode too, since unbroken copies share it."""

    def act(path: Path) -> None:
        before = path.read_bytes() if path.is_file() else b""
        _remove(path)
        path.write_bytes(make(before))

    return act


def _odd_values(text: bytes) -> bytes:
    """The same JSON objects with other values: right keys, wrong types, absurd numbers."""
    strange = [None, "x", -1, HUGE, 1e308, [], {}, True, float("nan")]

    def other(value: Any, depth: int = 0) -> Any:
        if isinstance(value, dict) and depth < 2:
            return {key: value[key] if key in ("kind", "v") else other(value[key], depth + 1) for key in value}
        return strange[len(json.dumps(value)) % len(strange)]

    return b"\n".join(json.dumps(other(_object(line))).encode() for line in _documents(text)) + b"\n"


def _documents(text: bytes) -> list[bytes]:
    """The JSON documents of a file: all of it, or its lines."""
    return [text] if _object(text) else text.splitlines()


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _folder(path: Path) -> None:
    _remove(path)
    (path / "inside").mkdir(parents=True)


def _loop(path: Path) -> None:
    _remove(path)
    path.symlink_to(path.name)


def _dangling(path: Path) -> None:
    _remove(path)
    path.symlink_to("nowhere/to/be/found")


def _pipe(path: Path) -> None:
    _remove(path)
    os.mkfifo(path)


BREAKAGES: dict[str, Callable[[Path], None]] = {
    "removed": _remove,
    "empty": _bytes(lambda _: b""),
    "half": _bytes(lambda text: text[: len(text) // 2]),
    "noise": _bytes(lambda text: random.Random(len(text)).randbytes(max(200, len(text)))),
    "list": _bytes(lambda _: b'[1, "two", null]\n'),
    "wrong values": _bytes(_odd_values),
    "not UTF-8": _bytes(lambda text: text.replace(b'"', b'"\xff\xfe', 40)),
    "nested": _bytes(lambda _: b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n"),
    "long line": _bytes(lambda text: b'{"v":1,"kind":"step","step":' + b"1" * 3_000_000 + b"}\n" + text),
    "folder": _folder,
    "loop": _loop,
    "dangling": _dangling,
    "pipe": _pipe,
}
