"""What has been read of data files, kept in the cache: an Arrow file beside a small JSON summary.

A process that may keep things has files read by the reader program (see ``__main__``) and looks at the results; so the
web process never parses a file. An entry's name changes with its files, the question and the code that answers it, so
nothing is ever out of date; entries that were not used for longest go when there is too much.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_studio.errors import DataError, OutOfTimeError
from peft_studio.files import exclusive, read_json, remove, replace_folder
from peft_studio.machine.path_policy import home_of_tickets, who_asks
from peft_studio.tasks.kept_rows import cache_folder, code_key
from peft_studio.tasks.reading.arrow import map_file, write_file
from peft_studio.tasks.reading.reader_client import (
    MAX_CPU_SECONDS,
    MAX_MEMORY,
    MAX_SECONDS,
    ask_reader,
    too_much,
    turns,
)

if TYPE_CHECKING:
    import pyarrow

Facts = dict[str, Any]
"""Plain values, as JSON holds them."""
FOLDER = "tables"
MAX_BYTES = 2_000_000_000
"""What all entries may take: some ten files of the largest size that is allowed, each with its table and its rows."""
MAX_ENTRIES = 500
MAX_SUMMARY = 8_000_000
"""Characters of a summary, which the web process holds as a whole."""
MAX_WORDS = 4_000
"""Characters of what is said to be wrong with a file."""
_ROWS, _SUMMARY = "rows.arrow", "summary.json"

_reads_here: list[bool] = []
_never_reads: list[bool] = []


@dataclass(frozen=True)
class Found:
    """An answer.

    Attributes:
        facts: The summary.
        columns: Gives the Arrow columns. Where they could not be kept this reads all again in this process, which the
            web process refuses to do (``DataError``).
        at_hand: Whether the columns are there already.
    """

    facts: Facts
    columns: "Callable[[], pyarrow.Table]"
    at_hand: bool


Make = Callable[[], "tuple[Facts, pyarrow.Table]"]


def read_here() -> None:
    """Makes this process the one that reads; called by the reader program."""
    _reads_here[:] = [True]


def read_elsewhere() -> None:
    """Makes this process one that never reads a file itself; called by the web process."""
    _never_reads[:] = [True]


def find(kind: str, settings: Mapping[str, str], files: Sequence[Path], make: Make) -> Found:
    """Answers a question from the cache, or by way of the reader.

    A process that names no cache folder reads by itself and keeps nothing.

    Args:
        kind: What is asked; the reader program answers it.
        settings: Of the question, as JSON holds them.
        files: The files that the answer depends on; messages name the first.
        make: Reads; called in this process where there is no cache, or where the columns could not be kept in it.

    Raises:
        DataError: From ``make``, or because reading takes more than is allowed.
    """
    folder = cache_folder()
    if folder is None:
        facts, columns = make()
        return Found(facts, lambda: columns, at_hand=True)
    # The name changes with the question, the files and the code.
    whole = json.dumps([code_key(), kind, settings, [_stamp(path) for path in files]], sort_keys=True)
    entry = folder / FOLDER / hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()[:32]
    summary = _look(entry)
    made = None
    if summary is None and _reads_here:
        with _locked(entry):
            summary = _look(entry)
            if summary is None:
                summary, made = _read(entry, files, make)
    elif summary is None:
        home = str(home_of_tickets() or "")
        request = {"kind": kind, "settings": settings, "cache": str(folder), "home": home}
        with turns.take(files[0].name, who_asks()):
            summary = _look(entry) or ask_reader(files[0].name, request)
    if "error" in summary:
        raise DataError(summary["error"])
    columns = cache(lambda: _columns(entry, make) if made is None else made)
    return Found(summary["facts"], columns, (entry / _ROWS).is_file())


def forget(folder: Path, gone: Iterable[Path]) -> None:
    """Removes what was read of files that have gone.

    Args:
        folder: The cache folder.
        gone: The folders that the files were in.
    """
    places = [str(place) + os.sep for place in gone]
    for summary in (folder / FOLDER).glob(f"*/{_SUMMARY}") if places else ():
        files = (read_json(summary) or {}).get("files")
        if any(str(file).startswith(place) for file in files or () for place in places):
            shutil.rmtree(summary.parent, ignore_errors=True)


def _stamp(path: Path) -> tuple[str, int, int]:
    """Changes with a file's contents, as far as that can be told without reading it."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return str(path.absolute()), 0, 0  # reading it will say what is wrong
    return str(path.absolute()), stat.st_mtime_ns, stat.st_size


def _look(entry: Path) -> Facts | None:
    """An entry's summary, which counts as used now; None when it is not there or damaged."""
    summary = read_json(entry / _SUMMARY) or {}
    if "error" not in summary and not ("facts" in summary and (entry / _ROWS).is_file()):
        return None
    with contextlib.suppress(OSError):
        os.utime(entry / _SUMMARY)
    return summary


def _columns(entry: Path, make: Make) -> "pyarrow.Table":
    """An entry's columns; made in memory if they could not be kept, or were removed since."""
    import pyarrow

    try:
        return map_file(entry / _ROWS)
    except (OSError, pyarrow.ArrowException):
        if _never_reads:
            raise DataError("What was read of the data files could not be kept on disk. Try again.") from None
        return make()[1]


def _read(entry: Path, files: Sequence[Path], make: Make) -> "tuple[Facts, pyarrow.Table | None]":
    """Reads, and keeps what came of it; also what is wrong with a file, unless it may be put right unnoticed."""
    summary: Facts = {"files": [str(path.absolute()) for path in files]}
    columns = None
    try:
        summary["facts"], columns = make()
    except DataError as error:
        summary["error"] = str(error)[:MAX_WORDS]
        if isinstance(error.__cause__, OSError):
            return summary, None
    except OutOfTimeError:
        summary["error"] = too_much(files[0].name, f"{MAX_CPU_SECONDS} seconds of a core")
    except RecursionError:
        summary["error"] = f"{files[0].name} cannot be read: its values are nested too deeply."
    except MemoryError:
        summary["error"] = too_much(files[0].name, f"{MAX_MEMORY / 1e9:,.0f} GB of memory")
    text = json.dumps(summary)
    if len(text) > MAX_SUMMARY:
        words = f"{files[0].name} has columns, labels or first cells that are too long to be shown."
        summary, columns = {"files": summary["files"], "error": words}, None
        text = json.dumps(summary)
    draft = entry.with_name(f".{entry.name}.{os.getpid()}")
    try:
        draft.mkdir(parents=False)
        if columns is not None:
            write_file(columns, draft / _ROWS)
        (draft / _SUMMARY).write_text(text, encoding="ascii")
        replace_folder(draft, entry)
        _make_room(entry)
    except OSError:  # a full disk, or one that cannot be written: who asked gets the summary all the same
        shutil.rmtree(draft, ignore_errors=True)
    return summary, columns


def _make_room(newest: Path) -> None:
    """Removes drafts of readers that were killed, and the entries that were not used for longest."""
    used: list[tuple[float, int, Path]] = []
    for place in newest.parent.iterdir():
        with contextlib.suppress(OSError):
            if place.name.startswith("."):
                if newest.stat().st_mtime - place.stat().st_mtime > 2 * MAX_SECONDS:
                    remove(place)
            elif place != newest:
                size = sum(file.stat().st_size for file in place.iterdir())
                used.append(((place / _SUMMARY).stat().st_mtime, size, place))
    room = MAX_BYTES - sum(file.stat().st_size for file in newest.iterdir())
    for number, (_, size, place) in enumerate(sorted(used, reverse=True), 2):
        room -= size
        if room < 0 or number > MAX_ENTRIES:
            shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _locked(entry: Path) -> Iterator[None]:
    """Lets one process at a time make an entry, so that the others find it; nobody is kept from it if that fails."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            for folder in (entry.parent.parent, entry.parent):  # but a home that is gone is not made again
                folder.mkdir(exist_ok=True)
            stack.enter_context(exclusive(entry.with_name(f".{entry.name}.lock")))
        yield
