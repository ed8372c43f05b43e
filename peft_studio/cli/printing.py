"""What commands share: a manager, and how they print: one JSON value as the last line, or a table for people."""

import argparse
import codecs
import io
import json
import sys
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from peft_studio.runs.redact import redact, redact_json
from peft_studio.settings import Settings

if TYPE_CHECKING:
    from peft_studio.jobs.manager import JobManager

Command = Callable[[argparse.Namespace, Settings], int]
Add = Callable[[str, Command, str], argparse.ArgumentParser]
"""Makes a command of its name, its function and what it does in words."""


def open_manager(settings: Settings) -> "JobManager":
    """The manager of the home folder, which starts nothing."""
    from peft_studio.jobs.manager import JobManager  # other commands start sooner without it

    return JobManager(settings)


def speak_any_terminal() -> None:
    """Lets a terminal that lacks a character show the nearest one, or a question mark, instead of failing."""

    def nearest(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        lacking = unicodedata.normalize("NFKD", error.object[error.start : error.end])
        return "".join(char if char.isascii() else "?" for char in lacking), error.end

    codecs.register_error("nearest", nearest)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="nearest")


def print_json(value: Any) -> None:
    """Prints one line of JSON, in ASCII where the terminal has no more."""
    value = redact_json(value)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, allow_nan=False)
    print(text, flush=True)


def print_notes(notes: Sequence[str]) -> None:
    """Prints what a run had to say that did not end it."""
    for note in notes:
        print(f"note: {redact(note)}", file=sys.stderr)


def print_table(rows: Sequence[Sequence[Any]]) -> None:
    """Prints rows in columns."""
    texts = [["" if cell is None else redact(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
