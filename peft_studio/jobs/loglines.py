"""Following a log that another process appends to: complete lines only, and only the new ones; and its end as text."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peft_studio.files import open_plain
from peft_studio.jobs.redact import redact

try:  # comes with Gradio; ten times faster on a run of 100,000 steps
    from orjson import loads
except ImportError:
    from json import loads  # type: ignore[assignment]

LARGEST = sys.float_info.max  # a whole number can be larger, and then is no float
MOST = 2**53  # JavaScript counts exactly up to here
CHUNK_LINES = 2048  # parsed at once: a call for each costs half as much again
# What `EventWriter` puts at the start of a step's line: most lines of a log are told apart without parsing them.
STEP_PREFIX = b'{"v":1,"kind":"step",'
STARTED_PREFIX = b'{"v":1,"kind":"started",'


class LogFollower:
    """Reads what was appended to a file since the last call, up to the last newline.

    Attributes:
        offset: Bytes consumed so far.
        restarts: How often the file became shorter and was read again from its start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.restarts = 0

    def read(self) -> list[bytes]:
        """The complete lines that are new; empty when the file is missing or did not grow."""
        try:
            size = self.path.stat().st_size
            if size == self.offset:
                return []
            if size < self.offset:
                self.offset = 0
                self.restarts += 1
            with open_plain(self.path) as file:
                file.seek(self.offset)
                data = file.read()
        except OSError:
            return []
        end = data.rfind(b"\n") + 1
        self.offset += end
        return data[:end].split(b"\n")[:-1] if end else []


def parse_event(line: bytes) -> dict[str, Any] | None:
    """One line of an event log; None when it is torn or not an event."""
    try:
        event = loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("kind"), str) else None


def parse_events(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    """The events among some lines."""
    for begin in range(0, len(lines), CHUNK_LINES):
        yield from parse_chunk(lines[begin : begin + CHUNK_LINES])


def parse_chunk(lines: list[bytes]) -> list[dict[str, Any]]:
    """The events among lines that are few enough to be held at once: parsed in one go, unless one of them is torn."""
    try:
        events = loads(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        events = []
    if len(events) != len(lines):
        return [event for event in map(parse_event, lines) if event is not None]
    return [event for event in events if isinstance(event, dict) and isinstance(event.get("kind"), str)]


def number(value: Any) -> float | None:
    """The value when it is a finite number, else None (booleans are not numbers)."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and -LARGEST <= value <= LARGEST else None


def whole(value: Any) -> int | None:
    """A count, such as of steps or bytes; None when it is none, or larger than any that a page could show."""
    found = number(value)
    return int(found) if found is not None and abs(found) <= MOST else None


TAIL_BYTES = 65536


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file, of progress bars their last state, without secrets; empty when it is missing."""
    try:
        with open_plain(path) as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    shown = [line.rstrip("\r").rpartition("\r")[2] for line in text.rstrip("\n").split("\n")[-lines:]]
    return redact("\n".join(shown))
