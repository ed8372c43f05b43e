"""The job manager: all that app, page and API can do with runs. Thread-safe. It keeps nothing that is not in the run
folders: kill it, start another, and it picks up every run."""

import contextlib
import os
from pathlib import Path
from typing import BinaryIO

from peft_studio.access.visitors import asker
from peft_studio.archives.import_apart import import_run
from peft_studio.archives.run_archive import pack_run
from peft_studio.config.preflight import check_run
from peft_studio.config.run_config import RunConfig
from peft_studio.errors import InvalidStateError, RunNotFoundError, StorageError
from peft_studio.files import has_app, lock_home
from peft_studio.jobs.admission import Admission, Estimate, Predictor
from peft_studio.jobs.belongings import Belongings
from peft_studio.jobs.controls import ask_to_pause, ask_to_stop, check_can_go_on, lengthen
from peft_studio.jobs.executors.base import Executor
from peft_studio.jobs.executors.choose import make_executor
from peft_studio.jobs.executors.gpu_placement import GpuPlaces
from peft_studio.jobs.fair_share import FairShare
from peft_studio.jobs.library import RunLibrary
from peft_studio.jobs.scheduler import Scheduler
from peft_studio.jobs.termination import Press
from peft_studio.machine.devices import find_devices
from peft_studio.models.catalog import is_own_folder
from peft_studio.processes.engine_client import EngineClient
from peft_studio.processes.hub_fetch import Fetcher
from peft_studio.processes.warm_client import WarmClient
from peft_studio.runs.housekeeping import Housekeeper, set_star
from peft_studio.runs.index import RunIndex
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.queue import NORMAL, RunQueue
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.requeue import BY_USER, requeue
from peft_studio.runs.status import Status
from peft_studio.runs.store import RunStore
from peft_studio.settings import Settings, prepare_home

STOP_GRACE = 30.0  # seconds to save the adapter or a checkpoint and end


class JobManager:
    """Submits, orders, starts, watches, pauses, stops and deletes runs.

    Reading and submitting work at once; nothing is started before `start`. An unknown id is a RunNotFoundError, what a
    run does not allow in its present state an InvalidStateError, and what cannot be written a StorageError.

    Args:
        settings: Home folder, limits.
        warm: The warm server; made from the settings when not given.
        executor: Where workers run; made from the settings when not given.
        grace: Seconds that a worker has to stop or pause by itself.
        estimate: Estimates what a run costs; the engine does when not given.

    Raises:
        ConfigError: The executor of the settings needs Ray, which is not installed.

    Attributes:
        library: What can be asked about runs.
        devices: What runs can be placed on, if they train on this machine.
        places: Which of its GPUs each has.
        executor: Where workers run.
        engine: The inference process.
        fetcher: Brings data sets from the Hub.
        queue: The order of queued runs. What it needs to know of them, `move` and `hold` know.
        store: The run folders.
        keeper: What runs take on the disk.
        belongings: What belongs to whom.
        share: What visitors may have.
        trouble: Why nothing can be started in this home, in words; empty when all is well.
    """

    def __init__(
        self,
        settings: Settings,
        warm: WarmClient | None = None,
        executor: Executor | None = None,
        grace: float = STOP_GRACE,
        estimate: Estimate | None = None,
    ) -> None:
        self.settings = settings
        self.store = RunStore(settings.runs_dir)
        self.queue = RunQueue(settings.home)
        self._warm = warm or WarmClient(settings.cache_dir / "warm.log", settings.threads, tokens=not settings.public)
        self.devices = find_devices(settings.visible_gpus, settings.threads)
        self.places = GpuPlaces(self.devices, settings.max_running)
        self.executor = executor or make_executor(settings, self._warm, self.places)
        self._index = RunIndex(self.store, self.queue, self.executor.lives, settings.cache_dir / "runs.json")
        self.library = RunLibrary(self.store, self._index, settings.access)
        self.keeper = Housekeeper(settings)
        self.engine = EngineClient(self._warm, settings.home, settings.threads, public=settings.public)
        self.belongings = Belongings(settings, self.store, self._index, self.keeper)
        self.fetcher = Fetcher(settings.home, public=settings.public)
        self.share = FairShare(settings, self._index, self.keeper, self.belongings, estimate or self.engine.estimate)
        admission = Admission(Predictor(estimate or self.engine.estimate), places=self.places)
        press = Press(self.executor, grace)
        self._scheduler = Scheduler(self._index, self.executor, self.queue, admission, press, settings, self.share)
        self._lock_fd: int | None = None
        self.trouble = ""

    def start(self, preload_engine: bool = True) -> None:
        """Takes the home folder, starts the warm server and the scheduler, and picks up what is there.

        A home that can be read and not written is shown as it is: no run is started, and `trouble` says why.
        With ``preload_engine`` the engine starts in the background, so that the first estimate is quick.

        Raises:
            StorageError: Another app uses the home folder, or there is none and none can be made.
        """
        try:
            prepare_home(self.settings)
        except StorageError as exc:
            if not os.access(self.settings.runs_dir, os.R_OK | os.X_OK):
                raise
            self.trouble = f"{exc} Until then runs can be looked at, but not started or changed."
            self._warm.open()  # for the engine: estimates and answers need no disk
        else:
            self._begin()
        if preload_engine:
            self.engine.preload()

    def _begin(self) -> None:
        self.trouble = ""
        self._lock_fd = lock_home(self.settings.home)
        self.keep_house()
        self.executor.open()
        self._scheduler.start()

    def close(self) -> None:
        """Lets go of the home folder; running workers go on."""
        self._scheduler.close()
        self.fetcher.close()
        self.engine.close()
        self.executor.close()
        self._warm.close()
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def app_is_running(self) -> bool:
        """Whether this manager or one of another process has the home folder and starts its queued runs."""
        return self._lock_fd is not None or has_app(self.settings.home)

    def submit(self, config: RunConfig, name: str = "", priority: str = NORMAL) -> str:
        """Adds a run at the end of the queue, behind all others of its priority; returns its id.

        Raises:
            StudioError: It could not start (see `check`), there is no such priority, or the disk or a quota is full.
        """
        self.check(config)
        self.keep_house()
        self.share.check_new(config)
        run_id = self.store.new_id(config)
        if priority != NORMAL:  # before the run is there: it may start this instant
            self.queue.prioritize(run_id, priority)
        self.store.create(config, name, run_id, owner=asker().id)
        self._changed()
        return run_id

    def check(self, config: RunConfig) -> None:
        """Makes sure that a run can start, or a StudioError says why not: see `preflight.check_run`, `Devices.check`
        where runs train here, and in an app, whose engine is at hand, `EngineClient.check`.
        """
        check_run(config)
        if self._lock_fd is not None and is_own_folder(config.model.id):
            self.engine.check(config.model_dump(mode="json"))
        if self.executor.is_here:
            self.devices.check(config.resources.device)

    def stop(self, run_id: str) -> None:
        """Asks a run to stop; a queued one never starts, a running one saves its adapter first. Twice is fine.

        Asked again some seconds later, it is ended without waiting.
        """
        paths, info = self._look(run_id)
        ask_to_stop(paths, Status(info.status))
        self._changed()

    def pause(self, run_id: str) -> None:
        """Asks a running run to write a checkpoint and end, so that it can go on later. Asking twice is fine.

        Asked again some seconds later, it is ended without waiting; its last checkpoint is what it can go on from.
        """
        paths, info = self._look(run_id)
        ask_to_pause(paths, Status(info.status))
        self._changed()

    def resume(self, run_id: str) -> None:
        """Puts a run at the end of the queue again; it goes on from its checkpoint.

        Allowed for paused runs, for stopped and failed ones with a checkpoint, and for runs that were cut short, which
        start again when they have none. Asking twice is fine.
        """
        paths, info = self._look(run_id)
        if info.status != Status.QUEUED:
            check_can_go_on(paths, info, "resume")
            self.share.check_longer(paths, info)
            self._requeue(paths)

    def extend(self, run_id: str, more_steps: int) -> int:
        """Trains a run that is over longer: puts it into the queue with a higher number of steps.

        Args:
            run_id: A finished, stopped or paused run with a checkpoint.
            more_steps: Steps after its last one; for a run that was cut short, after those it was to make.

        Returns:
            Its steps in all.
        """
        paths, info = self._look(run_id)
        self.share.check_longer(paths, info, more_steps)
        total = lengthen(paths, info, more_steps)
        self._requeue(paths)
        return total

    def move(self, run_id: str, to: str | int) -> None:
        """Gives a queued run another place; see `RunQueue.move`. One that is held back stays so."""
        place = int(to[:9]) if isinstance(to, str) and to.isdecimal() else to
        self.queue.move(self.store.paths(run_id).id, place, self._index.queued(), self._index.turns())
        self._changed()

    def hold(self, run_id: str, held: bool = True) -> None:
        """Holds a queued run back, or releases it."""
        self._check_queued(run_id, "can be held or released")
        self.queue.hold(run_id, held)
        self._changed()

    def prioritize(self, run_id: str, priority: str) -> None:
        """Gives a queued run one of `queue.PRIORITIES`, kept until it is deleted: higher ones start first, whatever
        their places, but behind a run that is moved to the front.
        """
        self._check_queued(run_id, "has a priority")
        self.queue.prioritize(run_id, priority)
        self._changed()

    def pause_queue(self, paused: bool = True) -> None:
        """Lets no queued run start any more, or lets them start again; running ones go on."""
        self.queue.pause(paused)
        self._changed()

    def delete(self, run_id: str) -> None:
        """Deletes a run that is over or still queued, with everything it saved."""
        status = Status(self._index.get(run_id).status)
        starting = status is Status.QUEUED and self._scheduler.is_starting(run_id)
        if starting or status.is_active:
            now = "starting" if starting else status.value
            raise InvalidStateError(f"The run {run_id} is {now}. Stop it first, then delete it.")
        self.store.delete(run_id)
        self.queue.forget(run_id)
        self.library.forget(run_id)
        self._changed(run_id)

    def keep_house(self) -> list[str]:
        """Deletes the runs that retention no longer keeps, if it is on; returns their ids."""
        gone: list[str] = []
        if self.settings.keep_runs or self.settings.keep_days:
            for run_id in self.keeper.outdated(self._index.all()):
                # it may be back to life, gone, or stuck
                with contextlib.suppress(InvalidStateError, RunNotFoundError, StorageError):
                    self.delete(run_id)
                    gone.append(run_id)
        return gone

    def star(self, run_id: str, on: bool) -> None:
        """Marks a run as worth keeping, or takes the mark away; see `housekeeping.set_star`."""
        set_star(self.store.paths(run_id), on)

    def free_checkpoint(self, run_id: str) -> int:
        """Removes the checkpoint of a run that is over; see `Housekeeper.free_checkpoint`."""
        return self.keeper.free_checkpoint(self.store.paths(run_id), self._index.get(run_id).status)

    def export_run(self, run_id: str, out: Path | BinaryIO) -> None:
        """Packs a whole run that is over; see `run_archive.pack_run`."""
        pack_run(self.store.paths(run_id), self._index.get(run_id).status, out)

    def import_run(self, source: Path) -> str:
        """Takes in a packed run, and returns its id; see `import_apart.import_run`."""
        self.keeper.check_quota(self._index.all())
        run_id = import_run(source, self.store)
        self._changed(run_id)
        return run_id

    def _look(self, run_id: str) -> tuple[RunPaths, RunInfo]:
        return self.store.paths(run_id), self._index.get(run_id)

    def _check_queued(self, run_id: str, what: str) -> None:
        status = self._index.get(run_id).status
        if status != Status.QUEUED:
            raise InvalidStateError(f"The run {run_id} is {status}; only a queued run {what}.")

    def _requeue(self, paths: RunPaths) -> None:
        self.queue.enter(paths.id)
        requeue(paths, BY_USER)
        self._changed(paths.id)

    def _changed(self, run_id: str = "") -> None:
        self._index.changed(run_id)
        self._scheduler.wake()
