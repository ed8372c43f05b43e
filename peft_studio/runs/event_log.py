"""Following a log that another process appends to: complete lines only, and only the new ones; and its end as text."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peft_studio.files import open_plain
from peft_studio.runs.redact import redact

try:  # comes with Gradio; ten times faster on a run of 100,000 steps
    from orjson import loads
except ImportError:
    from json import loads  # type: ignore[assignment]

PIECE_BYTES = 65536  # read and parsed at once: a call for each line costs twice as much, larger pieces leave the cache
LARGEST = sys.float_info.max  # a whole number can be larger, and then is no float
MOST = 2**53  # JavaScript counts exactly up to here
# What `EventWriter` puts at the start of a step's line: most lines of a log are told apart without parsing them.
STEP_PREFIX = b'{"v":1,"kind":"step",'
STARTED_PREFIX = b'{"v":1,"kind":"started",'


class LogFollower:
    """Reads what was appended to a file since the last call, up to the last newline.

    Attributes:
        offset: Bytes consumed so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0

    def restarted(self) -> bool:
        """Whether the file became shorter than what was read of it, so that it is read from its start again."""
        try:
            shorter = self.path.stat().st_size < self.offset
        except OSError:
            return False
        self.offset = 0 if shorter else self.offset
        return shorter

    def pieces(self) -> Iterator[bytes]:
        """The complete lines that are new, many at a time; none when the file is missing or did not grow."""
        with contextlib.suppress(OSError):
            if self.path.stat().st_size == self.offset:
                return
            with open_plain(self.path) as file:
                file.seek(self.offset)
                held: list[bytes] = []  # the beginning of a line whose end is still to come
                while block := file.read(PIECE_BYTES):
                    lines, newline, rest = block.rpartition(b"\n")
                    if newline:
                        piece, held = b"".join([*held, lines, newline]), []
                        self.offset += len(piece)
                        yield piece
                    held.append(rest)

    def read(self) -> list[bytes]:
        """The new lines one by one."""
        return [line for piece in self.pieces() for line in piece[:-1].split(b"\n")]


def parse_event(line: bytes) -> dict[str, Any] | None:
    """One line of an event log; None when it is torn or not an event."""
    try:
        event = loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("kind"), str) else None


def parse_events(lines: list[bytes]) -> list[dict[str, Any]]:
    """The events among some lines."""
    return [event for event in map(parse_event, lines) if event is not None]


def parse_piece(piece: bytes) -> list[dict[str, Any]]:
    """The events among complete lines: parsed in one go, unless one of them is torn or no event."""
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
        events = loads(b"[" + piece[:-1].replace(b"\n", b",") + b"]")
        if len(events) == piece.count(b"\n") and {type(event["kind"]) for event in events} == {str}:
            return list(events)
    return parse_events(piece[:-1].split(b"\n"))


def events_but_steps(path: Path) -> list[dict[str, Any]]:
    """The events of a whole log that are no steps; the steps, which are most of a long one, are not parsed."""
    return parse_events([line for line in LogFollower(path).read() if not line.startswith(STEP_PREFIX)])


def stretches(events: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Cuts events into lists that hold either nothing but steps or a single other event."""
    begin = 0
    for place in [place for place, event in enumerate(events) if event["kind"] != "step"]:
        if begin < place:
            yield events[begin:place]
        yield events[place : place + 1]
        begin = place + 1
    if begin < len(events):
        yield events[begin:]


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
