"""Asks the reader program: at most so many at a time, each within limits, and what to say when one is reached."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from peft_studio.errors import DataError
from peft_studio.files import search_path
from peft_studio.machine.environment import without_secrets

MAX_MEMORY = 4_000_000_000
"""Bytes of memory of one reading. The largest CSV file takes 1.5 GB, and one of many short cells twice as much."""
MAX_CPU_SECONDS = 90
"""Of one reading. The largest file takes about 15."""
MAX_WRITTEN = 1_500_000_000
"""Bytes of one file that a reading leaves in the cache."""
MAX_SECONDS = 240.0
"""Wall-clock time of one reading, on a machine whose cores are shared."""
MAX_READERS = 2
"""Readers that one process has at a time; each may take much memory."""
MAX_WAITING = 8
MOST_REMEMBERED = 100
"""People whose last turns are remembered."""


class _Turns:
    """Lets a few readers run at a time, one of each person's at most; those who had none for longest come first.

    When many wait, the one that waits longest of whoever waits with most gives up: who types asks anew with every
    character, and threads that wait would in the end keep a page from being served.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[tuple[str, object]] = []
        self._running: list[str] = []
        self._served: dict[str, int] = {}  # the number of the last turn of those who wait or had one lately
        self._count = 0

    @contextlib.contextmanager
    def take(self, name: str, person: str | None = None) -> Iterator[None]:
        """Waits for a turn to read a file.

        Args:
            name: The file's, for messages.
            person: Who wants to; None for the owner of the app, who may have all readers.

        Raises:
            DataError: Too many others wait.
        """
        who = "" if person is None else f"visitor {person}"
        ours = (who, object())
        with self._changed:
            self._waiting.append(ours)
            if len(self._waiting) > MAX_WAITING:
                self._waiting.remove(self._who_gives_up())
            self._changed.notify_all()
            self._changed.wait_for(lambda: ours not in self._waiting or self._next() is ours)
            if ours not in self._waiting:
                raise DataError(f"{name} is not read now: {MAX_WAITING} others came after it. Try again in a moment.")
            self._waiting.remove(ours)
            self._running.append(who)
            self._remember(who)
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._running.remove(who)
                self._changed.notify_all()

    def _next(self) -> tuple[str, object] | None:
        """Whose turn it is; None while there is no reader for any of those who wait."""
        if len(self._running) >= MAX_READERS:
            return None
        may = [one for one in self._waiting if not one[0] or one[0] not in self._running]
        return min(may, key=lambda one: self._served.get(one[0], 0), default=None)

    def _who_gives_up(self) -> tuple[str, object]:
        """The first of whoever waits with most files."""
        most = Counter(who for who, _ in self._waiting).most_common(1)[0][0]
        return next(one for one in self._waiting if one[0] == most)

    def _remember(self, who: str) -> None:
        self._count += 1
        self._served[who] = self._count
        for old in sorted(self._served, key=lambda one: self._served[one])[:-MOST_REMEMBERED]:
            del self._served[old]


turns = _Turns()
"""Those of this process."""


def ask_reader(name: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Has the reader program answer a question.

    Args:
        name: The file's name, for messages.
        request: The question; see ``table_cache.find``.

    Returns:
        ``facts``, or ``error`` with what is wrong with a file.

    Raises:
        DataError: It takes too long, or was ended.
    """
    # The other allocators of Arrow reserve far more than they use, which the limit would count.
    settings = {"PYTHONPATH": search_path(os.environ), "ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"}
    env = {**without_secrets(os.environ), **settings}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "peft_studio.tasks.reading"],
            input=json.dumps(request).encode(), stdout=subprocess.PIPE, env=env,
            timeout=MAX_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DataError(too_much(name, f"{MAX_SECONDS:,.0f} seconds")) from None
    except OSError as error:
        raise DataError(f"{name} cannot be read: no process could be started ({error.strerror}).") from error
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise DataError(_why_ended(name, done.returncode)) from None
    return answer


def too_much(name: str, what: str) -> str:
    """That a file takes more of something than is allowed."""
    return f"{name} takes more than {what} to be read, the most allowed. Give a smaller file, or a sample."


def _why_ended(name: str, code: int) -> str:
    """What a reader that gave no answer ran into, by its exit code."""
    if code < 0:
        return f"{name} cannot be read: its reader was ended by signal {-code}, for lack of memory or time."
    return f"{name} cannot be read: its reader failed with exit code {code}; the app's output says why."
