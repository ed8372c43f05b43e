"""Following a log that another process appends to: complete lines only, and only the new ones; and how a log ends."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

from peft_studio.files import open_plain
from peft_studio.runs.redact import redact

try:  # comes with Gradio; ten times faster on a run of 100,000 steps
    from orjson import loads
except ImportError:
    from json import loads  # type: ignore[assignment]

PIECE_BYTES = 65536  # read and parsed at once: a call for each line costs twice as much, larger pieces leave the cache
MARK_BYTES = 256  # of what was read, by which a log is known again
LARGEST = sys.float_info.max  # a whole number can be larger, and then is no float
MOST = 2**53  # JavaScript counts exactly up to here
# What `EventWriter` puts at the start of a step's line: most lines of a log are told apart without parsing them.
STEP_PREFIX = b'{"v":1,"kind":"step",'

Event = dict[str, Any]
_KIND = itemgetter("kind")
_OTHER_LINE = re.compile(b"\\n(?!" + re.escape(STEP_PREFIX) + b")(.*)")  # ten times faster than with ^


class Piece:
    """Some complete lines of an event log. What its readers have in common is made once, when the first one asks."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @cached_property
    def lines(self) -> list[bytes]:
        """The lines one by one."""
        return self.data[:-1].split(b"\n")

    @cached_property
    def events(self) -> list[Event]:
        """The events among the lines: parsed in one go, unless one of them is torn or no event."""
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            events = loads(b"[" + self.data[:-1].replace(b"\n", b",") + b"]")
            if len(events) == self.data.count(b"\n") and {*map(type, map(_KIND, events))} == {str}:
                return list(events)
        return parse_events(self.lines)

    @cached_property
    def stretches(self) -> list[list[Event]]:
        """The events in lists that hold either nothing but steps or a single other event."""
        found, begin = [], 0
        for place in [place for place, kind in enumerate(map(_KIND, self.events)) if kind != "step"]:
            found += [self.events[begin:place], self.events[place : place + 1]]
            begin = place + 1
        return [stretch for stretch in (*found, self.events[begin:]) if stretch]

    @property
    def outline(self) -> Sequence[Sequence[bytes | Event]]:
        """`stretches` in which steps are left as lines, unless somebody has had all of them parsed already."""
        if "events" in self.__dict__:
            return self.stretches
        first = b"" if self.data.startswith(STEP_PREFIX) else self.data[: self.data.index(b"\n")]
        found: list[Sequence[bytes | Event]] = [parse_events([first])]
        begin = len(first) + 1 if first else 0
        for other in _OTHER_LINE.finditer(self.data, len(first)):  # the last newline is one with nothing behind it
            steps = self.data[begin : other.start()].split(b"\n") if begin < other.start() else []
            found += [steps, parse_events([other[1]])]
            begin = other.end() + 1
        return [stretch for stretch in found if stretch]


class LogFollower:
    """Reads what was appended to a file since the last call, up to the last newline.

    Attributes:
        offset: Bytes consumed so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self._inode = 0  # of the file that these bytes are from
        self._mark = b""  # the last of them

    def restarted(self) -> bool:
        """Whether the file is another one, or shorter than what was read of it, so that it is read from its start."""
        if not self.offset:
            return False
        try:
            found = self.path.stat()
            if found.st_size >= self.offset and found.st_ino == self._inode and self._goes_on(found.st_size):
                return False
        except OSError:
            return False
        self.offset = 0
        return True

    def _goes_on(self, size: int) -> bool:
        """Whether what was appended follows what was read; an inode is soon given out again."""
        if size == self.offset:
            return True
        with open_plain(self.path) as file:
            file.seek(self.offset - len(self._mark))
            return file.read(len(self._mark)) == self._mark

    def pieces(self) -> Iterator[Piece]:
        """The complete lines that are new, many at a time; none when the file is missing or did not grow."""
        with contextlib.suppress(OSError):
            if self.path.stat().st_size == self.offset:
                return
            with open_plain(self.path) as file:
                self._inode = self._inode if self.offset else os.fstat(file.fileno()).st_ino
                file.seek(self.offset)
                held: list[bytes] = []  # the beginning of a line whose end is still to come
                while block := file.read(PIECE_BYTES):
                    lines, newline, rest = block.rpartition(b"\n")
                    if newline:
                        piece, held = Piece(b"".join([*held, lines, newline])), []
                        self.offset += len(piece.data)
                        self._mark = piece.data[-MARK_BYTES:]
                        yield piece
                    held.append(rest)


def parse_event(line: bytes) -> Event | None:
    """One line of an event log; None when it is torn or not an event."""
    try:
        event = loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("kind"), str) else None


def parse_events(lines: list[bytes]) -> list[Event]:
    """The events among some lines."""
    return [event for event in map(parse_event, lines) if event is not None]


def number(value: Any) -> float | None:
    """The value when it is a finite number, else None (booleans are not numbers)."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and -LARGEST <= value <= LARGEST else None


def whole(value: Any) -> int | None:
    """A count, such as of steps or bytes; None when it is none, or larger than any that a page could show."""
    found = number(value)
    return int(found) if found is not None and abs(found) <= MOST else None


TAIL_BYTES = 65536


def _end(path: Path, size: int) -> bytes:
    """The last bytes of a file; none when it is missing or cannot be read."""
    with contextlib.suppress(OSError), open_plain(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read()
    return b""


def last_event(path: Path) -> Event | None:
    """The last complete event of a log, reading only its tail: a short one first, as most events are short."""
    for size in (1024, TAIL_BYTES):
        complete, _, _ = _end(path, size).rpartition(b"\n")
        for line in reversed(complete.split(b"\n")):
            if (event := parse_event(line)) is not None:
                return event
    return None


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file, of progress bars their last state, without secrets; empty when it is missing."""
    text = _end(path, TAIL_BYTES).decode("utf-8", errors="replace")
    shown = [line.rstrip("\r").rpartition("\r")[2] for line in text.rstrip("\n").split("\n")[-lines:]]
    return redact("\n".join(shown))
