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
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from peft_studio.errors import EngineError, JobError
from peft_studio.files import usable_log
from peft_studio.machine.memory import memory_limit
from peft_studio.processes.engine_answer import MOST_TRIES, Answer, Line, listens
from peft_studio.processes.warm_client import WarmClient

START_TIMEOUT = 60.0  # seconds for the engine to open its socket, libraries included when it starts cold
ANSWER_TIMEOUT = 120.0  # seconds between two lines of an answer; a first request may load a model
MERGE_TIMEOUT = 900.0  # seconds to fold an adapter into its base, which reads and writes whole models
DYING_SECONDS = 1.0  # from closing its connections to the end of the process
PING_TIMEOUT = 5.0  # seconds for an engine that works to say that it is there
WATCH_SECONDS = 0.25  # between two looks at an engine's memory, while it works
LEAST_MEMORY = 2_000_000_000  # bytes that an engine may take in any case
MEMORY_SHARE = 0.8  # of the machine's memory, likewise
MAX_SOCKET_PATH = 100  # bytes; the system's limit is 104 to 108


class EngineClient:
    """Owns the engine process. Thread-safe: every request has its own connection.

    Args:
        warm: Starts the process.
        home: The home folder, where the engine finds runs.
        threads: CPU threads for it.
        module: Name of the module to run.
        public: Whether it may read only files that visitors brought.
        memory: Bytes that it may take; a share of the machine's when not given.
    """

    def __init__(
        self,
        warm: WarmClient,
        home: Path,
        threads: int,
        module: str = "peft_studio.engine",
        public: bool = False,
        memory: int = 0,
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
        self._memory = memory or max(LEAST_MEMORY, int(MEMORY_SHARE * memory_limit()))
        self._active: weakref.WeakSet[Answer] = weakref.WeakSet()  # those that an engine works on
        self._turn = threading.Lock()  # of requests that were lost with an engine: one is sent again at a time
        self._whose: weakref.ref[Answer] | None = None
        self._why: dict[int, str] = {}  # engines that were ended, by process id

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
        answer = self._ask({"op": "merge", "run": run, "folder": str(folder)}, MERGE_TIMEOUT)
        return float(answer["max_difference"])

    def inspect(self, run: str, op: str = "inspect", **more: object) -> dict[str, Any]:
        """What a run's adapter did; see ``training.inspection.inspector``, which has the operations and the errors."""
        return self._ask({"op": op, "run": run, **more}, MERGE_TIMEOUT)

    def close(self) -> None:
        """Ends the engine."""
        with self._lock:
            self._closed = True
            self._discard()

    def _ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        with contextlib.closing(self._request(request, timeout)) as answer:
            return next(answer)

    def _request(self, request: dict[str, Any], timeout: float) -> Answer:
        data = json.dumps(request, allow_nan=False).encode() + b"\n"
        answer = Answer(lambda: self._connect(data, timeout), self._lost, self._over)
        self._active.add(answer)
        return answer

    def _connect(self, data: bytes, timeout: float) -> Line:
        for _ in range(2):  # the second time with a new engine, when the first had died unnoticed
            path, process = self._ensure()
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(timeout)
                connection.connect(str(path))
                connection.sendall(data)
            except OSError:
                connection.close()
                continue
            return Line(connection, process)
        raise EngineError(f"The engine cannot be reached; see {self._log}.")

    def _lost(self, answer: Answer, silent: bool) -> None:
        """An engine did not go on: ends it if it is silent, and lets the request be sent again unless it is the cause.

        An engine that is silent for one request and there for others is ended all the same, for the work would go on.

        Raises:
            EngineError: The request is the cause.
        """
        seconds, process = time.monotonic() - answer.begun, answer.line.process
        if silent:
            why = EngineError(f"The engine did not answer within {seconds:.0f} seconds.")
            if seconds < ANSWER_TIMEOUT:  # whoever asked was in a hurry
                raise why
            there = self._folder is not None and listens(self._folder / "engine", PING_TIMEOUT)
            self._end(process, str(why))
            cause = there or answer.tries > 1
        else:
            self._note_death(process)
            told = self._why.get(process.pid if process else 0)
            why = EngineError(told or f"The engine ended while it was answering; see {self._log}.")
            cause = answer.tries > 1 and len(self._active) == 1
        if cause or answer.tries >= MOST_TRIES:
            raise why
        self._wait_turn(answer)

    def _wait_turn(self, answer: Answer) -> None:
        self._active.discard(answer)
        while not answer.closed and self._whose_turn() is not answer:
            if self._turn.acquire(timeout=0.1):
                self._whose = weakref.ref(answer)
        self._active.add(answer)

    def _whose_turn(self) -> Answer | None:
        return self._whose() if self._whose else None

    def _over(self, answer: Answer) -> None:
        self._active.discard(answer)
        if self._whose_turn() is answer or (self._whose and self._whose() is None):
            self._whose = None
            with contextlib.suppress(RuntimeError):  # another thread has seen it, too
                self._turn.release()

    def _end(self, process: psutil.Process | None, why: str) -> None:
        """Ends an engine, unless another one has taken its place already."""
        with self._lock:
            if process is not None and process == self._process:
                self._why[process.pid] = why
                with contextlib.suppress(psutil.Error):
                    process.kill()
                self._discard()

    def _watch(self, process: psutil.Process) -> None:
        """Ends an engine that takes too much memory; a thread of its own for each engine."""
        with contextlib.suppress(psutil.Error):
            while process == self._process:
                if self._active and process.memory_info().rss > self._memory:
                    told = f"The engine took more than {self._memory / 1e9:,.1f} GB of memory, the most allowed"
                    self._end(process, f"{told}, and was ended.")
                time.sleep(WATCH_SECONDS)

    def _ensure(self) -> tuple[Path, psutil.Process | None]:
        """Makes sure that an engine listens; returns its socket and its process."""
        with self._lock:
            if self._closed:
                raise EngineError("The app is closing.")
            if self._folder is None or not self._warm.lives(self._process):
                self._discard()
                self._start()
            assert self._folder is not None
            return self._folder / "engine", self._process

    def _note_death(self, process: psutil.Process | None) -> None:
        """Waits until a process that broke off is gone, so that the next request does not go to it."""
        end = time.monotonic() + DYING_SECONDS
        while self._warm.lives(process) and time.monotonic() < end:
            time.sleep(0.02)

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
        while not listens(path, START_TIMEOUT):
            if not self._warm.lives(self._process) or time.monotonic() > end:
                self._discard()
                raise EngineError(f"The engine did not start; see {self._log}.")
            time.sleep(0.02)
        threading.Thread(target=self._watch, args=(self._process,), name="engine-watch", daemon=True).start()

    def _discard(self) -> None:
        if self._process is not None:
            with contextlib.suppress(psutil.Error):
                self._process.terminate()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        self._warm.reap()
