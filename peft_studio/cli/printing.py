"""What commands share: a manager, and how they print: one JSON value as the last line, or a table for people."""

import argparse
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

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


def print_json(value: Any) -> None:
    """Prints one line of JSON."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)


def print_table(rows: Sequence[Sequence[Any]]) -> None:
    """Prints rows in columns."""
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
