"""The job manager: everything the app, the UI and the API can do with runs.

Thread-safe. It keeps nothing that is not in the run folders: kill it, start another, and it picks up every run.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from peft_studio.config import RunConfig
from peft_studio.errors import InvalidStateError, RunNotFoundError, StorageError
from peft_studio.jobs.doctor import Finding, diagnose
from peft_studio.jobs.engine_client import EngineClient
from peft_studio.jobs.evidence import EvidenceCache
from peft_studio.jobs.executors.base import Executor
from peft_studio.jobs.executors.local import LocalExecutor
from peft_studio.jobs.housekeeping import Housekeeper
from peft_studio.jobs.index import RunIndex
from peft_studio.jobs.reader import RunInfo
from peft_studio.jobs.redact import redact
from peft_studio.jobs.scheduler import Scheduler
from peft_studio.jobs.series import SeriesCache
from peft_studio.jobs.store import RunStore, Status
from peft_studio.jobs.transfer import pack_run, unpack_run
from peft_studio.jobs.warm_client import WarmClient
from peft_studio.models.fit import check_model
from peft_studio.settings import Settings, prepare_home
from peft_studio.tasks import task_of

STOP_GRACE = 30.0  # seconds to save the adapter and end
SECOND_STOP = 2.0  # seconds within which a second click is taken for a double click
LOG_TAIL_BYTES = 65536


class JobManager:
    """Submits, starts, watches, stops and deletes runs.

    Reading and submitting work at once; nothing is started before `start`.

    Args:
        settings: Home folder, limits.
        warm: The warm server; made from the settings when not given.
        executor: Where workers run; this machine when not given.
        grace: Seconds that a worker has to stop by itself.

    Attributes:
        engine: The inference process.
        store: The run folders.
        keeper: What runs take on the disk.
    """

    def __init__(
        self,
        settings: Settings,
        warm: WarmClient | None = None,
        executor: Executor | None = None,
        grace: float = STOP_GRACE,
    ) -> None:
        self.settings = settings
        self.store = RunStore(settings.runs_dir)
        self._warm = warm or WarmClient(settings.cache_dir / "warm.log", settings.threads)
        self._executor = executor or LocalExecutor(self._warm, settings.threads)
        self._index = RunIndex(self.store, settings.cache_dir / "runs.json")
        self._series = SeriesCache(self.store)
        self._evidence = EvidenceCache()
        self.keeper = Housekeeper(settings)
        self._scheduler = Scheduler(self._index.unfinished, self._executor, settings.max_running, grace)
        self.engine = EngineClient(self._warm, settings.home, settings.threads)
        self._lock_fd: int | None = None

    def start(self, preload_engine: bool = True) -> None:
        """Takes the home folder, starts the warm server and the scheduler, and picks up what is there.

        Args:
            preload_engine: Whether to start the engine in the background, so that the first estimate is quick.

        Raises:
            StorageError: Another app uses the home folder, or it cannot be written.
        """
        prepare_home(self.settings)
        self._lock_fd = _lock_home(self.settings.home)
        self.keep_house()
        self._executor.open()
        self._scheduler.start()
        if preload_engine:
            self.engine.preload()

    def close(self) -> None:
        """Lets go of the home folder; running workers go on."""
        self._scheduler.close()
        self.engine.close()
        self._warm.close()
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def submit(self, config: RunConfig, name: str = "") -> str:
        """Adds a run at the end of the queue.

        Returns:
            The run's id.

        Raises:
            ModelError: There is no such model, or it is too large for this machine.
            DataError: A data file cannot be used; the message names file, row and column.
            StorageError: The disk is full, the quota used up, or the folder is not writable.
        """
        check_model(config.model.id)
        task_of(config.task)
        self.keep_house()
        self.keeper.check_quota(self.list())
        run_id = self.store.create(config, name).id
        self._changed()
        return run_id

    def stop(self, run_id: str) -> None:
        """Asks a run to stop; a queued one never starts. Asking twice is fine.

        A running one saves its adapter first. Asked again some seconds later, it is ended without waiting.

        Raises:
            RunNotFoundError: No run has this id.
            StorageError: The request cannot be written (a full disk).
        """
        paths = self.store.paths(run_id)
        if self._index.get(run_id).status not in (Status.QUEUED, Status.RUNNING, Status.STOPPING):
            return
        try:
            with contextlib.suppress(FileExistsError):
                paths.stop.touch(exist_ok=False)
                return self._changed()
            if time.time() - paths.stop.stat().st_mtime > SECOND_STOP:
                paths.stop.write_text("now\n", encoding="utf-8")
        except OSError as exc:
            raise StorageError(f"The run {run_id} could not be asked to stop: {exc.strerror or exc}.") from exc
        self._changed()

    def delete(self, run_id: str) -> None:
        """Deletes a run that is over or still queued, with everything it saved.

        Raises:
            RunNotFoundError: No run has this id.
            InvalidStateError: It is running.
            StorageError: The folder cannot be removed.
        """
        status = Status(self._index.get(run_id).status)
        starting = status is Status.QUEUED and self._scheduler.is_starting(run_id)
        if starting or status in (Status.RUNNING, Status.STOPPING):
            raise InvalidStateError(
                f"The run {run_id} is {'starting' if starting else status.value}. Stop it first, then delete it."
            )
        self.store.delete(run_id)
        self._series.forget(run_id)
        self._evidence.forget(run_id)
        self._changed(run_id)

    def keep_house(self) -> list[str]:
        """Deletes the runs that retention no longer keeps, if it is on; returns their ids."""
        gone: list[str] = []
        if not (self.settings.keep_runs or self.settings.keep_days):
            return gone
        for run_id in self.keeper.outdated(self.list()):
            with contextlib.suppress(
                InvalidStateError, RunNotFoundError, StorageError
            ):  # back to life, gone, or stuck
                self.delete(run_id)
                gone.append(run_id)
        return gone

    def free_checkpoint(self, run_id: str) -> int:
        """Removes the checkpoint of a run that is over; see `Housekeeper.free_checkpoint`."""
        return self.keeper.free_checkpoint(self.store.paths(run_id), self._index.get(run_id).status)

    def export_run(self, run_id: str, out: Path | BinaryIO) -> None:
        """Packs a whole run that is over; see `transfer.pack_run`."""
        pack_run(self.store.paths(run_id), self._index.get(run_id).status, out)

    def import_run(self, source: Path | BinaryIO) -> str:
        """Takes in a packed run, and returns its id; see `transfer.unpack_run`."""
        self.keeper.check_quota(self.list())
        run_id = unpack_run(source, self.store)
        self._changed(run_id)
        return run_id

    def list(self) -> list[RunInfo]:
        """Every run, newest first."""
        return self._index.all()

    def info(self, run_id: str) -> RunInfo:
        """One run.

        Raises:
            RunNotFoundError: No run has this id.
        """
        return self._index.get(run_id)

    def series(self, run_id: str, since: int = 0) -> dict[str, Any]:
        """New points of a run's curves; see `SeriesCache.delta`.

        Raises:
            RunNotFoundError: No run has this id.
        """
        return self._series.delta(run_id, since)

    def metrics(self, run_id: str) -> Sequence[dict[str, Any]]:
        """Every recorded value of a run, raw; see `series.raw_metrics`.

        Raises:
            RunNotFoundError: No run has this id.
        """
        return self._series.raw(run_id)

    def findings(self, run_id: str) -> tuple[Finding, ...]:
        """What the doctor says about a run, as far as it has come; see `doctor.diagnose`.

        Raises:
            RunNotFoundError: No run has this id.
        """
        status = self._index.get(run_id).status
        return self._evidence.ask(diagnose, self.store.paths(run_id), status)

    def clone(self, run_id: str) -> dict[str, Any]:
        """A run's config as plain values, for "the same again with a change".

        Raises:
            RunNotFoundError: No run has this id.
            ConfigError: The config is damaged.
        """
        return self.store.config(run_id).model_dump(mode="json")

    def log_tail(self, run_id: str, lines: int = 200) -> str:
        """The last lines that the worker printed; of progress bars the last state.

        Raises:
            RunNotFoundError: No run has this id.
        """
        return _tail(self.store.paths(run_id).log, lines)

    def _changed(self, run_id: str = "") -> None:
        self._index.changed(run_id)
        self._scheduler.wake()


def _lock_home(home: Path) -> int:
    path = home / "app.lock"
    fd = -1
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
    except BlockingIOError:
        owner = os.read(fd, 32).decode(errors="replace").strip()
        os.close(fd)
        raise StorageError(
            f"The home folder {home} is in use by another PEFT Studio (process {owner or 'unknown'}). "
            "Stop that one, or choose another folder with PEFT_STUDIO_HOME or --home."
        ) from None
    except OSError as exc:
        if fd >= 0:
            os.close(fd)
        raise StorageError(f"{path} cannot be locked: {exc.strerror or exc}.") from exc
    return fd


def _tail(path: Path, lines: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    shown = [line.rstrip("\r").rpartition("\r")[2] for line in text.rstrip("\n").split("\n")[-lines:]]
    return redact("\n".join(shown))
