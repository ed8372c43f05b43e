"""The app's end of the engine, the process that estimates and generates: starts it, asks it, restarts it.

One connection per request over a Unix-domain socket in a private folder: a JSON line there, JSON lines back.
"""

import contextlib
import json
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from peft_studio.errors import EngineError, JobError, error_from
from peft_studio.files import usable_log
from peft_studio.processes.warm_client import WarmClient
from peft_studio.runs.redact import redact

START_TIMEOUT = 60.0  # seconds for the engine to open its socket, libraries included when it starts cold
ANSWER_TIMEOUT = 120.0  # seconds between two lines of an answer; a first request may load a model
MERGE_TIMEOUT = 900.0  # seconds to fold an adapter into its base, which reads and writes whole models
DYING_SECONDS = 1.0  # from closing its connections to the end of the process
MAX_SOCKET_PATH = 100  # bytes; the system's limit is 104 to 108


class _EngineDiedError(EngineError):
    """The engine ended in the middle of an answer."""


class Answer:
    """The lines of one answer as they come. Closing it, from any thread, makes the engine stop working on it."""

    def __init__(self, connection: socket.socket, died: Callable[[], _EngineDiedError]) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")
        self._died = died
        self._complete = False
        self._closed = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        """The next line.

        Raises:
            StudioError: What the engine reported, as the class it named.
            EngineError: The engine died or does not answer.
        """
        if self._closed:
            raise StopIteration
        try:
            line = self._lines.readline()
        except TimeoutError as exc:
            self.close()
            raise EngineError(f"The engine did not answer within {ANSWER_TIMEOUT:.0f} seconds.") from exc
        except (OSError, ValueError) as exc:
            if self._closed:
                raise StopIteration from None
            self.close()
            raise self._died() from exc
        if not line.endswith(b"\n"):
            expected = self._complete or self._closed
            self.close()
            if expected:
                raise StopIteration
            raise self._died()
        value: dict[str, Any] = json.loads(line)
        if isinstance(value.get("error"), dict):
            self.close()
            told = value["error"].items()
            raise error_from({name: redact(text) if isinstance(text, str) else text for name, text in told})
        self._complete = all(column.get("done") for column in value.get("columns", ()))
        return value

    def close(self) -> None:
        """Ends the connection; safe to call twice and from another thread."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for a line
        self._connection.close()

    def __del__(self) -> None:
        self.close()
        self._lines.close()


class EngineClient:
    """Owns the engine process. Thread-safe: every request has its own connection.

    Args:
        warm: Starts the process.
        home: The home folder, where the engine finds runs.
        threads: CPU threads for it.
        module: Name of the module to run.
        public: Whether it may read only files that visitors brought.
    """

    def __init__(
        self, warm: WarmClient, home: Path, threads: int, module: str = "peft_studio.engine", public: bool = False
    ) -> None:
        self._warm = warm
        self._home = home
        self._threads = threads
        self._module = module
        self._public = public
        self._log = home / "cache" / "engine.log"
        self._lock = threading.Lock()
        self._process: psutil.Process | None = None
        self._folder: Path | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The engine's process id, None when it was not started."""
        return self._process.pid if self._process else None

    def preload(self) -> None:
        """Starts the engine in the background, as soon as the warm server can fork it."""
        threading.Thread(target=self._preload, name="engine-preload", daemon=True).start()

    def _preload(self) -> None:
        with contextlib.suppress(EngineError):  # whoever asks first tries again, and is told
            self._ensure()

    def estimate(self, config: Mapping[str, Any], timeout: float = ANSWER_TIMEOUT) -> dict[str, Any]:
        """Parameters, memory and file size of a run before it is trained.

        Args:
            config: A RunConfig as plain values.
            timeout: Seconds to wait for the answer.

        Raises:
            ConfigError: The config is not allowed.
            ModelError: There is no such model.
            EngineError: The engine cannot be reached.
        """
        return self._ask({"op": "estimate", "config": dict(config)}, timeout)

    def check(self, config: Mapping[str, Any]) -> None:
        """Makes sure that a run's base model can be loaded whole; without an engine, the run's worker will tell.

        Raises:
            StudioError: As from `estimate`, but for EngineError.
        """
        with contextlib.suppress(EngineError):
            self._ask({"op": "check", "config": dict(config)}, ANSWER_TIMEOUT)

    def preview(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What a model would read of a task, token by token, and what does not fit.

        Raises:
            DataError: A file cannot be used, or no row fits.
            StudioError: As from `estimate`.
        """
        return self._ask({"op": "preview", "config": dict(config)}, ANSWER_TIMEOUT)

    def generate(
        self, model: str, runs: Sequence[str], prompt: str, sampling: Mapping[str, Any] | None = None
    ) -> Answer:
        """Streams what the base model and the adapters of some runs make of a prompt.

        Args:
            model: The base model.
            runs: Ids of the runs whose adapters answer too.
            prompt: The text to continue.
            sampling: ``max_new_tokens``, ``temperature``, ``top_p``, ``top_k``, ``repetition_penalty``, ``seed``.

        Returns:
            An iterator of ``{"columns": [{"name", "text", "done"}, ...]}``, base first, each with the text so far.
            Its ``close()`` stops the engine's work, too.

        Raises:
            EngineError: The engine cannot be reached.
        """
        request = {"op": "generate", "model": model, "runs": list(runs), "prompt": prompt}
        return self._request({**request, "sampling": dict(sampling or {})}, ANSWER_TIMEOUT)

    def merge(self, run: str, folder: Path) -> float:
        """Writes a run's base and adapter as one model into a folder.

        Returns:
            The largest difference of a logit from base and adapter side by side.

        Raises:
            InvalidStateError: It cannot be merged.
            ModelError: The base or the adapter cannot be loaded.
            EngineError: The engine cannot be reached.
        """
        answer = self._first_line({"op": "merge", "run": run, "folder": str(folder)}, MERGE_TIMEOUT)
        return float(answer["max_difference"])

    def close(self) -> None:
        """Ends the engine."""
        with self._lock:
            self._closed = True
            self._discard()

    def _ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        try:
            return self._first_line(request, timeout)
        except _EngineDiedError:  # perhaps it was dying already when it took the request
            return self._first_line(request, timeout)

    def _first_line(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        with contextlib.closing(self._request(request, timeout)) as answer:
            return next(answer)

    def _request(self, request: dict[str, Any], timeout: float) -> Answer:
        data = json.dumps(request, allow_nan=False).encode() + b"\n"
        for _ in range(2):  # the second time with a new engine, when the first had died unnoticed
            path = self._ensure()
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(timeout)
                connection.connect(str(path))
                connection.sendall(data)
            except OSError:
                connection.close()
                continue
            return Answer(connection, self._note_death)
        raise EngineError(f"The engine cannot be reached; see {self._log}.")

    def _ensure(self) -> Path:
        """Makes sure that an engine listens; returns its socket."""
        with self._lock:
            if self._closed:
                raise EngineError("The app is closing.")
            if self._folder is None or not self._warm.lives(self._process):
                self._discard()
                self._start()
            assert self._folder is not None
            return self._folder / "engine"

    def _note_death(self) -> _EngineDiedError:
        """Waits until a process that broke off is gone, so that the next request does not go to it."""
        end = time.monotonic() + DYING_SECONDS
        while self._warm.lives(self._process) and time.monotonic() < end:
            time.sleep(0.02)
        return _EngineDiedError(f"The engine ended while it was answering; see {self._log}.")

    def _start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="peft-"))
        if len(os.fsencode(self._folder)) > MAX_SOCKET_PATH - 8:
            self._folder.rmdir()
            self._folder = Path(tempfile.mkdtemp(prefix="peft-", dir="/tmp"))
        path = self._folder / "engine"
        args = ["--socket", str(path), "--home", str(self._home), "--threads", str(self._threads)]
        args += ["--app", str(os.getpid()), *(["--public"] if self._public else [])]
        if self._warm.worth_waiting():
            self._warm.wait_ready(START_TIMEOUT)
        try:
            self._process = psutil.Process(self._warm.launch(self._module, args, usable_log(self._log)))
        except (JobError, psutil.NoSuchProcess) as exc:
            raise EngineError(f"The engine could not be started ({exc}); see {self._log}.") from exc
        end = time.monotonic() + START_TIMEOUT
        while not _listens(path):
            if not self._warm.lives(self._process) or time.monotonic() > end:
                self._discard()
                raise EngineError(f"The engine did not start; see {self._log}.")
            time.sleep(0.02)

    def _discard(self) -> None:
        if self._process is not None:
            with contextlib.suppress(psutil.Error):
                self._process.terminate()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        self._warm.reap()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(START_TIMEOUT)
        try:
            probe.connect(str(path))
            probe.sendall(b'{"op": "ping"}\n')
            return bool(probe.recv(1))
        except OSError:
            return False
