"""One answer of the engine as it comes; where the engine fails, it is asked again unless this request is the cause."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from peft_studio.errors import EngineError, error_from
from peft_studio.runs.redact import redact

MOST_TRIES = 3  # of one request: engines may fail for the sake of others


@dataclass(frozen=True)
class Line:
    """A connection to an engine.

    Attributes:
        socket: The connection, on which the request was sent.
        process: The engine.
    """

    socket: socket.socket
    process: psutil.Process | None


class Answer:
    """The lines of one answer as they come. Closing it, from any thread, makes the engine stop working on it.

    When the engine ends meanwhile, the request is sent to the next one, alone with others that were lost with it, and
    the answer begins anew. So the request that ends engines is found out, and only that one fails.

    Args:
        connect: Sends the request to an engine, and makes one if there is none.
        lost: Told that the engine did not go on: the answer, and whether it was silent for too long. Raises an
            EngineError when this request is the cause, else returns once it may be sent again.
        done: Told that the answer is over.
    """

    def __init__(
        self, connect: Callable[[], Line], lost: "Callable[[Answer, bool], None]", done: "Callable[[Answer], None]"
    ) -> None:
        self._connect = connect
        self._lost = lost
        self._done = done
        self._complete = False
        self.closed = False
        self.tries = 0
        self.begun = 0.0
        self._open()

    def _open(self) -> None:
        self.line = self._connect()
        self._lines = self.line.socket.makefile("rb")
        self.tries += 1
        self.begun = time.monotonic()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        """The next line.

        Raises:
            StudioError: What the engine reported, as the class it named.
            EngineError: The engine died of this request, or does not answer it.
        """
        while not self.closed:
            line, silent = b"", False
            try:
                line = self._lines.readline()
            except TimeoutError:
                silent = True
            except (OSError, ValueError):
                pass  # broken off
            if line.endswith(b"\n"):
                return self._read(line)
            if self._complete or self.closed:
                break
            self._begin_again(silent)
        self.close()
        raise StopIteration

    def _read(self, line: bytes) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(line)
        if isinstance(value.get("error"), dict):
            self.close()
            told = value["error"].items()
            raise error_from({name: redact(text) if isinstance(text, str) else text for name, text in told})
        self._complete = all(column.get("done") for column in value.get("columns", ()))
        return value

    def _begin_again(self, silent: bool) -> None:
        self._hang_up()
        self._lines.close()  # or the connection would stay
        try:
            self._lost(self, silent)
            if not self.closed:
                self._open()
        except EngineError:
            self.close()
            raise

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self.line.socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for a line
        self.line.socket.close()

    def close(self) -> None:
        """Ends the connection; safe to call twice and from another thread."""
        self.closed = True
        if hasattr(self, "line"):  # else no engine could be reached in the first place
            self._hang_up()
        self._done(self)

    def __del__(self) -> None:
        self.close()
        if hasattr(self, "_lines"):
            self._lines.close()


def listens(path: Path, timeout: float) -> bool:
    """Whether an engine answers at a socket within so many seconds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout)
        try:
            probe.connect(str(path))
            probe.sendall(b'{"op": "ping"}\n')
            return bool(probe.recv(1))
        except OSError:
            return False
