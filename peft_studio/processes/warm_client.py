"""The app's end of the warm server: starts it, asks it for processes, starts another when it died."""

import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from peft_studio.errors import JobError
from peft_studio.files import search_path, usable_log
from peft_studio.machine.limits import without_tokens

ANSWER_TIMEOUT = 10.0  # seconds for a fork
RESPAWN_PAUSE = 5.0  # seconds between two starts of a server that keeps dying
PATIENCE = 30.0  # seconds after which a server that is still loading is not waited for any more


def child_environment(threads: int, tokens: bool = True) -> dict[str, str]:
    """The environment of every process that this package starts.

    Args:
        threads: CPU threads for numeric libraries.
        tokens: Whether it may know the owner's secrets, such as the token that opens gated models of the Hub.
    """
    # By default a thread that waits for another spins for milliseconds, which on cores that are shared with anything
    # else made training ten times slower. A spin of microseconds keeps two threads in step and costs little.
    waiting = {} if "OMP_WAIT_POLICY" in os.environ else {"GOMP_SPINCOUNT": "20000"}
    # With bf16, oneDNN writes code for every shape of a matrix product, a megabyte or so each, and two caches keep
    # 1,024 of them: a gigabyte after a hundred batches of different lengths. What a few lengths need is enough.
    few_kernels = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128", "LRU_CACHE_CAPACITY": "32"}
    return {
        **waiting,
        **few_kernels,
        **(os.environ if tokens else without_tokens(os.environ)),
        "PYTHONPATH": search_path(os.environ),
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8:replace",  # of a log file, whatever the terminal can show
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        # Libraries that start a thread when imported would make the server unsafe to fork.
        "OPENBLAS_NUM_THREADS": "1",
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        # Looking for a GPU must not start CUDA in the server: its children could not use it.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # GPUs have the numbers that nvidia-smi and the page show
        "PYTORCH_ENABLE_MPS_FALLBACK": "1",  # what an Apple GPU cannot do, the CPU does
    }


def start_process(
    command: Sequence[str], output: BinaryIO, threads: int, fds: Sequence[int] = (), tokens: bool = True
) -> subprocess.Popen[bytes]:
    """Starts a program in a session of its own; it prints to a file and inherits the descriptors given.

    Raises:
        OSError: It could not be started.
    """
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=fds, start_new_session=True,
        env=child_environment(threads, tokens),
    )  # fmt: skip


class WarmClient:
    """Owns one warm server at a time. Thread-safe.

    Args:
        log: File for what the server prints.
        threads: CPU threads for the processes it forks.
        preload: Modules it loads; None for its own list.
        tokens: Whether its processes may know the owner's secrets; no process that visitors cause does.
    """

    def __init__(self, log: Path, threads: int, preload: Sequence[str] | None = None, tokens: bool = True) -> None:
        self._log = log
        self._threads = threads
        self._preload = preload
        self._tokens = tokens
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._started = 0.0
        self._ready: dict[str, Any] | None = None
        self._closed = False
        self._cold: set[int] = set()

    @property
    def pid(self) -> int | None:
        """The server's process id, None when there is none."""
        return self._process.pid if self._process else None

    def open(self) -> None:
        """Starts the server in the background."""
        with self._lock:
            self._closed = False
            if self._process is None:
                self._spawn()

    def ready(self) -> bool:
        """Whether the server can fork now; starts another one when it died."""
        with self._lock:
            return self._is_ready()

    def worth_waiting(self) -> bool:
        """Whether the server is still loading and will probably be ready soon."""
        with self._lock:
            loading = self._process is not None and self._process.poll() is None and self._ready is None
            return loading and time.monotonic() - self._started < PATIENCE

    def wait_ready(self, timeout: float) -> bool:
        """Waits until the server can fork; False when it cannot within ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while not self.ready():
            if self._closed or time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def launch(self, module: str, args: Sequence[str], log: Path) -> int:
        """Runs ``python -m module args`` in a session of its own: forked, or started cold when that cannot be.

        Args:
            module: What to run.
            args: Its command line.
            log: File that its output is appended to.

        Returns:
            The new process's id.

        Raises:
            JobError: No process could be started.
        """
        self.reap()
        try:
            return self.fork(module, args, log)
        except JobError:
            pid = self._start_cold(module, args, log)
            self._cold.add(pid)
            return pid

    def fork(self, module: str, args: Sequence[str], log: Path) -> int:
        """Has the server fork ``python -m module args``, in a session of its own.

        Returns:
            The new process's id.

        Raises:
            JobError: The server is not ready, died, or could not fork.
        """
        request = json.dumps({"module": module, "args": list(args), "log": str(log)}).encode() + b"\n"
        with self._lock:
            if not self._is_ready() or self._control is None:
                raise JobError(f"The warm server is not ready; see {self._log}.")
            try:
                self._control.settimeout(ANSWER_TIMEOUT)
                self._control.sendall(request)
                answer = self._read_line()
            except (OSError, ValueError) as exc:
                self._drop()
                raise JobError(f"The warm server did not answer ({exc}); see {self._log}.") from exc
        if "pid" not in answer:
            raise JobError(f"No worker could be forked: {answer.get('error')}")
        return int(answer["pid"])

    def _start_cold(self, module: str, args: Sequence[str], log: Path) -> int:
        command, environment = [sys.executable, "-m", module, *args], child_environment(self._threads, self._tokens)
        nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        output = (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
        files = [nothing, output, (os.POSIX_SPAWN_DUP2, 1, 2)]
        try:
            return os.posix_spawn(sys.executable, command, environment, setsid=True, file_actions=files)
        except OSError as exc:
            raise JobError(f"No process could be started: {exc.strerror or exc}.") from exc

    def reap(self) -> None:
        """Collects cold-started children that have ended; forked ones are the server's."""
        for pid in list(self._cold):
            try:
                ended, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended = pid
            if ended:
                self._cold.discard(pid)

    def lives(self, process: psutil.Process | None) -> bool:
        """Whether a process that `launch` has started runs; collects it when it has ended."""
        self.reap()
        try:
            return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def close(self) -> None:
        """Ends the server; what it forked goes on."""
        with self._lock:
            self._closed = True
            self._drop()

    def _is_ready(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            self._drop()
        if self._process is None:
            if not self._closed and time.monotonic() - self._started > RESPAWN_PAUSE:
                self._spawn()
            return False
        if self._ready is None and self._control is not None and select.select([self._control], [], [], 0)[0]:
            try:
                self._control.settimeout(ANSWER_TIMEOUT)
                self._ready = self._read_line()
            except (OSError, ValueError):
                self._drop()
        return self._ready is not None

    def _read_line(self) -> dict[str, Any]:
        # One answer is on its way at a time, so nothing after the newline can be lost.
        assert self._control is not None
        data = b""
        while not data.endswith(b"\n"):
            chunk = self._control.recv(65536)
            if not chunk:
                raise ConnectionResetError("it has ended")
            data += chunk
        value: dict[str, Any] = json.loads(data)
        return value

    def _spawn(self) -> None:
        self._started = time.monotonic()
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "peft_studio.warm", "--fd", str(theirs.fileno())]
        if self._preload is not None:
            command += ["--preload", ",".join(self._preload)]
        try:
            with usable_log(self._log).open("wb") as log:
                self._process = start_process(command, log, self._threads, (theirs.fileno(),), self._tokens)
        except OSError:  # no process or a full disk: workers are started cold, and this is tried again
            ours.close()
        else:
            self._control = ours
        finally:
            theirs.close()

    def _drop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()  # it holds nothing that could be lost, and may be in the middle of an import
            self._process.wait()
        self._process, self._control, self._ready = None, None, None
