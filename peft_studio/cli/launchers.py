"""Who trains a run of the command line: a worker of its own, a node of the cluster, or the app that is running."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Protocol

import psutil

from peft_studio.config.run_config import RunConfig
from peft_studio.errors import JobError, StorageError, error_from
from peft_studio.files import lock_home
from peft_studio.jobs.executors.base import Executor
from peft_studio.jobs.manager import JobManager
from peft_studio.models.catalog import is_own_folder
from peft_studio.processes.warm_client import child_environment, start_process
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.queue import NORMAL
from peft_studio.runs.status import Status
from peft_studio.settings import prepare_home

WORKER = "peft_studio.worker"  # module
Process = subprocess.Popen[bytes]


class Hand(Protocol):
    """In whose hands a run is."""

    @property
    def words(self) -> str:
        """What the run waits for; empty when it waits for nothing special."""

    def lost(self) -> str:
        """Asked while nobody has claimed the run: why nobody will, in words; empty as long as somebody may."""

    def end(self) -> None:
        """Ends the run's worker without waiting until it stops by itself."""

    def close(self) -> None:
        """Lets go; the run is over."""


def take_up(manager: JobManager, config: RunConfig, name: str, priority: str) -> tuple[RunPaths, Hand]:
    """Makes a run and has it trained.

    With an app on the home folder, a run that has a priority goes into its queue, and so does every run of a cluster,
    to which one process at a time talks. Else it starts at once.

    Args:
        manager: Of the home folder; not started.
        config: What to run.
        name: A title for people.
        priority: Its priority in the queue; empty when none was given.

    Raises:
        StudioError: The run cannot start; nothing was created then, unless it was the worker that could not start.
    """
    manager.check(config)
    with _checked(config, manager.settings.threads) as ready:
        paths, hand = _take_up(manager, config, name, priority, ready)
    if ready is not None and not isinstance(hand, ByWorker):
        ready.wait()  # it was given nothing to run
    return paths, hand


def _take_up(
    manager: JobManager, config: RunConfig, name: str, priority: str, ready: Process | None
) -> tuple[RunPaths, Hand]:
    settings, on_cluster = manager.settings, not manager.executor.is_here
    if manager.app_is_running() and (priority or on_cluster):
        run_id = manager.submit(config, name, priority or NORMAL)
        return manager.store.paths(run_id), ByApp(manager, run_id)
    prepare_home(settings)
    manager.keeper.check_quota(manager.library.list() if settings.quota_mb else [])
    lock = lock_home(settings.home) if on_cluster else None
    paths = manager.store.create(config, name)
    if priority and priority != NORMAL:
        manager.queue.prioritize(paths.id, priority)  # for when it is interrupted and goes on in an app
    return paths, _start(manager, paths, lock, ready)


def go_on(manager: JobManager, paths: RunPaths) -> Hand:
    """Has a run trained that was put into the queue again, while no app is there to start it.

    Raises:
        StorageError: Its worker cannot be started, or an app was started meanwhile.
    """
    lock = None if manager.executor.is_here else lock_home(manager.settings.home)
    return _start(manager, paths, lock)


def _start(manager: JobManager, paths: RunPaths, lock: int | None, ready: Process | None = None) -> Hand:
    if lock is not None:
        return ByCluster(manager.executor, paths, lock)
    settings = manager.settings
    return ByWorker(paths, settings.threads, _free_gpus(manager, paths), settings.public, ready)


@contextlib.contextmanager
def _checked(config: RunConfig, threads: int) -> Iterator[Process | None]:
    """A worker that has made sure that an own base model can be loaded whole, and waits for what it is to run.

    None for other models, and when it died of something, which the run's own worker then meets and records. Left
    without anything to run, it ends.

    Raises:
        StudioError: The model cannot be loaded.
    """
    if not is_own_folder(config.model.id):
        yield None
        return
    command, pipe = [sys.executable, "-m", WORKER, "--after-check"], subprocess.PIPE
    process = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, start_new_session=True,
        env=child_environment(threads),
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        with process.stdin, process.stdout:
            _tell(process, config.model_dump_json())
            found = next((json.loads(line) for line in process.stdout if line.startswith(b"{")), None)
            if found is not None and "ok" not in found:
                raise error_from(found)
            yield None if found is None else process
    except BaseException:
        process.wait()
        raise


def _tell(process: Process, line: str) -> None:
    if process.stdin is not None:
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()


def _free_gpus(manager: JobManager, paths: RunPaths) -> tuple[str, ...] | None:
    """The GPUs for a run that starts beside the queue; None leaves it those that it asks for."""
    busy = [manager.store.paths(info.id) for info in manager.library.list() if Status(info.status).is_active]
    if manager.places.wants(paths):
        manager.places.must_wait(paths, busy, lambda _run: None)
    return manager.places.given(paths)


class ByWorker:
    """A worker of this machine, in a session of its own, so that Ctrl-C reaches only the command line.

    Args:
        paths: The run.
        threads: CPU threads for it.
        gpus: UUIDs of the GPUs that it may use.
        public: Whether it may read only files that visitors brought.
        ready: The worker, when it has been started already and waits for its arguments.

    Raises:
        StorageError: Its log cannot be written.
    """

    words = ""

    def __init__(
        self,
        paths: RunPaths,
        threads: int,
        gpus: tuple[str, ...] | None,
        public: bool = False,
        ready: Process | None = None,
    ) -> None:
        args = [str(paths.root), "--threads", str(threads), "--by", "cli", *(["--public"] if public else [])]
        args += [] if gpus is None else ["--gpus", ",".join(gpus)]
        self._log = paths.log
        try:
            with paths.log.open("ab") as log:
                if ready is None:
                    self._process = start_process([sys.executable, "-m", WORKER, *args], log, threads)
                else:
                    self._process = ready
                    _tell(ready, json.dumps({"log": str(paths.log), "args": args}))
        except OSError as exc:
            raise StorageError(f"The worker of {paths.id} could not be started: {exc.strerror or exc}.") from exc

    def lost(self) -> str:
        """Its process has ended; another may have been faster to claim the run, which shows soon."""
        code = self._process.poll()
        return "" if code is None else f"The worker ended with exit code {code}; see {self._log}."

    def end(self) -> None:
        """Ends the worker below the supervisor, which ignores signals."""
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self._process.pid).children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGTERM)

    def close(self) -> None:
        """Collects the process."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)


class ByCluster:
    """A node of the cluster, as soon as one has room.

    Args:
        executor: Talks to it.
        paths: The run.
        lock: Descriptor of the lock on the home folder, which keeps an app from talking to it as well.
    """

    def __init__(self, executor: Executor, paths: RunPaths, lock: int) -> None:
        self.words = ""
        self._executor = executor
        self._paths = paths
        self._lock = lock
        self._started = False
        executor.open()

    def lost(self) -> str:
        """Starts the run when there is room; afterwards, whether what was started has ended."""
        if self._started:
            ended = not self._executor.pending(self._paths)
            return f"Its process on the cluster ended before it took the run; see {self._paths.log}." if ended else ""
        wait = self._executor.must_wait(self._paths)
        self.words = wait.reason if wait else ""
        if wait is None:
            with contextlib.suppress(JobError):  # the connection was lost; tried again
                self._executor.start(self._paths)
                self._started = True
        return ""

    def end(self) -> None:
        """Ends the worker on its node."""
        self._executor.terminate(self._paths, force=False)

    def close(self) -> None:
        """Ends the connection."""
        self._executor.close()
        os.close(self._lock)


class ByApp:
    """The app that is running on the home folder, when the run's turn has come.

    Args:
        manager: Of the same home folder.
        run_id: The run, in the queue.
    """

    def __init__(self, manager: JobManager, run_id: str) -> None:
        self._manager = manager
        self._id = run_id

    @property
    def words(self) -> str:
        """Its place in the queue, or why it waits."""
        info = self._manager.library.info(self._id)
        return info.reason or (f"number {info.queue_position} in the queue" if info.queue_position else "")

    def lost(self) -> str:
        """The app was closed."""
        gone = not self._manager.app_is_running()
        return f"The app was closed before it started the run {self._id}; it stays in the queue." if gone else ""

    def end(self) -> None:
        """Asks the app to end the run at once."""
        self._manager.stop(self._id)

    def close(self) -> None:
        """Nothing is held."""
