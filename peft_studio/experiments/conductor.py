"""The conductor: a thread of the app that makes the runs of experiments as they become due, through the job manager.

It decides from the folders alone, so that one that is started anew goes on where the last one was.
"""

import contextlib
import threading
import time
import traceback

from peft_studio.access.rights import Right, require
from peft_studio.access.visitors import asking
from peft_studio.errors import ExperimentNotFoundError, StudioError
from peft_studio.experiments.lab import Lab, owner_of
from peft_studio.experiments.outcome import measure_apart
from peft_studio.experiments.plan import RunPart, config_of
from peft_studio.experiments.record import Experiment
from peft_studio.experiments.state import Infos, Progress, Stage, loss_of, progress_of
from peft_studio.files import is_locked

TICK = 1.0  # seconds
REFUSED_PAUSE = 5.0  # seconds after a run was refused, until the next try
MEASURE_PAUSE = 20.0  # seconds between two statistics of an experiment whose runs go on
ON_CLUSTER = 32
"""Runs of an experiment that are in the queue or at work at a time, where nodes of a cluster train."""
LOCK = "conductor.lock"
"""In an experiment's folder: locked by a command line that makes its runs itself."""


def name_of(experiment: Experiment, part: RunPart) -> str:
    """A run's title."""
    what = f"rate {part.rate:g}" if part.round is not None else f"seed {part.seed}"
    return f"{experiment.names[part.cell]}, {what}"


def note_search(lab: Lab, experiment: Experiment, infos: Infos) -> None:
    """Keeps what came of the runs of a search, so that it stays decided when they are deleted."""
    searched = {part: run for part, run in experiment.runs.items() if part.round is not None}
    new = {part: loss_of(infos.get(run)) for part, run in searched.items() if part not in experiment.found}
    found = {part: loss for part, loss in new.items() if loss is not None}
    if found:
        lab.store.note(experiment.id, found)


class Conductor:
    """Makes the runs of all experiments of an app.

    Args:
        lab: The experiments.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        manager = lab.manager
        self._at_once = manager.settings.max_running + 1 if manager.executor.is_here else ON_CLUSTER
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._measurer: threading.Thread | None = None
        self._refused: dict[str, float] = {}
        self._measured: dict[str, float] = {}
        self._quiet: dict[str, object] = {}

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._loop, name="conductor", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; the runs go on."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _loop(self) -> None:
        while not self._closing.wait(TICK):
            try:
                self.tick()
            except Exception:  # experiments that stand still because of one odd folder would be worse
                traceback.print_exc()

    def tick(self) -> None:
        """One look at all experiments."""
        found = self._lab.store.all()
        if not found:
            return
        infos = self._lab.infos()
        for one in found:
            mark = (one, *(infos.get(run) for run in one.runs.values()))
            if self._quiet.get(one.id) == mark:
                continue
            with contextlib.suppress(ExperimentNotFoundError):  # deleted, or damaged: it says so when it is shown
                if self._conduct(one, infos):
                    self._quiet[one.id] = mark

    def _conduct(self, experiment: Experiment, infos: Infos) -> bool:
        """Does what is to be done for an experiment; whether nothing is, until something changes."""
        if is_locked(self._lab.store.folder(experiment.id) / LOCK):
            return False
        note_search(self._lab, experiment, infos)
        progress = progress_of(experiment, infos)
        settled = self._measure(experiment, infos, progress)
        if experiment.stopped or not progress.due:
            if experiment.why:
                self._lab.store.say_why(experiment.id, "")
            return settled and not progress.open and progress.stage is not Stage.WAITING
        room = self._at_once - len(progress.open)
        if room > 0 and time.monotonic() >= self._refused.get(experiment.id, 0.0):
            self._make(experiment, progress.due[:room])
        return False

    def _make(self, experiment: Experiment, parts: list[RunPart]) -> None:
        """Puts runs into the queue, as the experiment's owner."""
        manager, why = self._lab.manager, ""
        try:
            with asking(owner_of(experiment)):
                require(manager.settings.access, Right.TRAIN)
                for part in parts:
                    config = config_of(experiment.cells[part.cell], part)
                    run = manager.submit(config, name_of(experiment, part))
                    self._lab.store.add(experiment.id, part, run)
        except StudioError as exc:
            why = str(exc)
            self._refused[experiment.id] = time.monotonic() + REFUSED_PAUSE
        if why != experiment.why:
            self._lab.store.say_why(experiment.id, why)

    def _measure(self, experiment: Experiment, infos: Infos, progress: Progress) -> bool:
        """Has the statistics made in the background when they are out of date; whether they are up to date."""
        if self._lab.is_settled(experiment, infos):
            return True
        busy = self._measurer is not None and self._measurer.is_alive()
        pause = 0.0 if not progress.open else MEASURE_PAUSE
        if not busy and time.monotonic() - self._measured.get(experiment.id, float("-inf")) >= pause:
            self._measured[experiment.id] = time.monotonic()
            self._measurer = threading.Thread(target=self._settle, args=(experiment.id,), name="measurer", daemon=True)
            self._measurer.start()
        return False

    def _settle(self, experiment_id: str) -> None:
        try:
            self._lab.settle(experiment_id, measure_apart)
        except StudioError:
            traceback.print_exc()
            self._measured[experiment_id] = time.monotonic() + MEASURE_PAUSE
