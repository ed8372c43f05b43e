"""Data sets and adapters of the Hub, fetched in processes of their own: the web process loads nothing for them."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from peft_studio.errors import DataError, HubOfflineError, InvalidStateError
from peft_studio.files import search_path
from peft_studio.machine.path_policy import mark_as_fetched

MOST_AT_ONCE = 2
MOST_SECONDS = 1800
KEPT = 50
"""Fetches remembered after their end."""
PROGRESS, ERROR = "progress: ", "error: "
"""How lines of the command's stderr begin."""
_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]{0,95}(/[A-Za-z0-9_][\w.-]{0,95})?", re.ASCII)
_QUIET = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

Kind = Literal["data", "adapter"]
State = Literal["running", "done", "failed", "cancelled"]


@dataclass
class Fetch:
    """One data set or adapter on its way.

    Attributes:
        ticket: What a page asks for it by.
        data: Hub id or folder, as it was asked for.
        config: Name of the configuration; empty for the only one.
        kind: What it is.
        state: How far it is.
        said: What the command does now, or why it failed.
        task: The ``task`` section of a config that uses the files; empty until it is done.
        run_id: Id of the run that an adapter became; empty until it is done.
        owners: Ids of those who asked for it.
        ended: When it ended, as ``time.monotonic`` counts.
    """

    ticket: str
    data: str
    config: str
    kind: Kind = "data"
    state: State = "running"
    said: str = "Starting"
    task: dict[str, Any] = field(default_factory=dict)
    run_id: str = ""
    owners: set[str] = field(default_factory=set)
    begun: float = field(default_factory=time.monotonic)
    ended: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """What a page shows."""
        seconds = (self.ended or time.monotonic()) - self.begun
        shown = {name: getattr(self, name) for name in ("ticket", "data", "state", "said")}
        return {**shown, "seconds": round(seconds), "offline": self.said == str(HubOfflineError())}


class Fetcher:
    """Starts, watches and cancels fetches. Thread-safe; a page that closes changes nothing.

    Args:
        home: The home folder, below which the files go.
        seconds: After this time a fetch is given up.
        public: Whether visitors use the app, who may name no folder of the machine.
    """

    def __init__(self, home: Path, seconds: float = MOST_SECONDS, public: bool = False) -> None:
        self._home = home
        self._public = public
        self._seconds = seconds
        self._lock = threading.Lock()
        self._fetches: dict[str, Fetch] = {}
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def start(self, data: str, config: str = "", kind: Kind = "data", owner: str = "") -> Fetch:
        """Starts a fetch, or finds the one that is already on its way.

        Args:
            data: Hub id, name of the list, or a folder with data files.
            config: Which configuration of the data set.
            kind: What it is; an adapter's name is a Hub id.
            owner: Id of whoever asks for it.

        Raises:
            DataError: The name cannot be that of a data set, or too many are on their way.
        """
        data, config = data.strip(), config.strip()
        check_name(data, self._public)
        with self._lock:
            running = [fetch for fetch in self._fetches.values() if fetch.state == "running"]
            for fetch in running:
                if (fetch.data, fetch.config, fetch.kind) == (data, config, kind):
                    fetch.owners.add(owner)
                    return fetch
            if len(running) >= MOST_AT_ONCE:
                names = " and ".join(fetch.data for fetch in running)
                raise DataError(f"{names} are still on their way; at most {MOST_AT_ONCE} at a time. Try again later.")
            fetch = Fetch(uuid.uuid4().hex, data, config, kind, owners={owner})
            self._remember(fetch)
        threading.Thread(target=self._follow, args=(fetch,), daemon=True, name="fetch").start()
        return fetch

    def get(self, ticket: str) -> Fetch:
        """A fetch by its ticket.

        Raises:
            InvalidStateError: There is none; perhaps the app was restarted.
        """
        if ticket not in self._fetches:
            raise InvalidStateError(
                "This fetch is not known here any more. Start it again; it is quick the second time."
            )
        return self._fetches[ticket]

    def cancel(self, ticket: str) -> None:
        """Ends a fetch that is on its way; earlier files stay.

        Raises:
            InvalidStateError: There is none.
        """
        fetch = self.get(ticket)
        with self._lock:
            if fetch.state == "running":
                self._end(fetch, "cancelled", "Cancelled")
                if ticket in self._processes:
                    _kill(self._processes[ticket])

    def close(self) -> None:
        """Ends all that are on their way."""
        for ticket in list(self._fetches):
            self.cancel(ticket)

    def _remember(self, fetch: Fetch) -> None:
        over = [ticket for ticket, item in self._fetches.items() if item.state != "running"]
        for ticket in over[: max(0, len(self._fetches) - KEPT)]:
            del self._fetches[ticket]
        self._fetches[fetch.ticket] = fetch

    def _follow(self, fetch: Fetch) -> None:
        """Runs the command to its end; a thread of its own."""
        with tempfile.TemporaryFile("w+", encoding="utf-8") as result:
            with self._lock:
                if fetch.state != "running":
                    return
                process = self._processes[fetch.ticket] = self._command(fetch, result)
            limit = threading.Timer(self._seconds, self._give_up, [fetch, process])
            limit.daemon = True
            limit.start()
            with process:
                error = _listen(fetch, process)
            limit.cancel()
            told = _result(result) if process.returncode == 0 else {}
        with self._lock:
            del self._processes[fetch.ticket]
            if told and fetch.state == "running":
                fetch.task, fetch.run_id = told.get("task", {}), str(told.get("run_id", ""))
                if self._public and fetch.task:
                    _mark(fetch)
                self._end(fetch, "done", "Ready")
            elif fetch.state == "running":
                code = process.returncode
                self._end(fetch, "failed", error or f"It could not be fetched (exit code {code}).")

    def _command(self, fetch: Fetch, result: IO[str]) -> "subprocess.Popen[str]":
        data = ["data", "fetch", fetch.data, f"--config={fetch.config}"]
        adapter = ["pull", fetch.data, *(["--anonymous"] if self._public else [])]
        command = data if fetch.kind == "data" else adapter
        return subprocess.Popen(
            [sys.executable, "-m", "peft_studio", "--home", str(self._home), *command, "--json"],
            stdin=subprocess.DEVNULL, stdout=result, stderr=subprocess.PIPE, encoding="utf-8", errors="replace",
            env={**os.environ, **_QUIET, "PYTHONPATH": search_path(os.environ)}, start_new_session=True,
        )  # fmt: skip

    def _give_up(self, fetch: Fetch, process: "subprocess.Popen[str]") -> None:
        with self._lock:
            if fetch.state == "running":
                words = f"It was not here after {self._seconds / 60:,.0f} minutes, so this was given up."
                self._end(fetch, "failed", words)
                _kill(process)

    @staticmethod
    def _end(fetch: Fetch, state: State, said: str) -> None:
        fetch.said, fetch.ended = said, time.monotonic()
        fetch.state = state  # last: a page that sees it may go on at once


def _mark(fetch: Fetch) -> None:
    """Writes down whose fetched files are, so that they are counted; a full disk is no reason to keep them back."""
    with contextlib.suppress(OSError, KeyError):
        for owner in fetch.owners:
            mark_as_fetched(Path(fetch.task["train_file"]).parent, owner)


def check_name(data: str, public: bool) -> None:
    """Makes sure that a name can be given to the command.

    Raises:
        DataError: It is empty, is an option, or is a folder and the app is public.
    """
    if not data:
        raise DataError("Which data set? Write its Hub id, such as owner/name.")
    if len(data) > 500 or data.startswith("-") or not data.isprintable():
        raise DataError(f"{data[:80]!r} cannot be the name of a data set. A Hub id looks like owner/name.")
    if public and not (_HUB_ID.fullmatch(data) and ".." not in data):
        raise DataError(
            f"On a Space only data sets of the Hub can be fetched, and {data!r} is no id such as owner/name."
        )


def _listen(fetch: Fetch, process: "subprocess.Popen[str]") -> str:
    """Keeps what a command says it does until it ends; returns what it says went wrong."""
    error = ""
    for line in process.stderr or ():
        if line.startswith(PROGRESS) and fetch.state == "running":
            fetch.said = line.removeprefix(PROGRESS).strip()
        elif line.startswith(ERROR):
            error = line.removeprefix(ERROR).strip()
    return error


def _result(result: IO[str]) -> dict[str, Any]:
    """What the command printed last; empty when that is not what was asked for."""
    result.seek(0)
    lines = result.read().strip().splitlines()
    try:
        told = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    right = isinstance(told, dict) and (isinstance(told.get("task"), dict) or "run_id" in told)
    return told if right else {}


def _kill(process: "subprocess.Popen[str]") -> None:
    """Ends a command and what it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
