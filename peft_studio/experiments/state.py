"""Where an experiment is: a pure function of its folder and of its runs."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from peft_studio.experiments.plan import RunPart, parts_due
from peft_studio.experiments.record import Experiment
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.status import Status

Infos = Mapping[str, RunInfo]
"""What is known of runs, by id; those that were deleted are not in it."""


class Stage(StrEnum):
    """Where an experiment is in its life."""

    RUNNING = "running"
    WAITING = "waiting"
    FINISHED = "finished"
    STOPPED = "stopped"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True)
class Progress:
    """How far an experiment is.

    Attributes:
        stage: In one word.
        due: The parts that can be made now.
        over: Counted runs that are over.
        search_over: Runs of the search for rates that are over.
        open: Ids of the runs that are not over yet.
        holes: What its answer lacks, as sentences.
        why: Why it does not go on, in words; empty when it does.
    """

    stage: Stage
    due: list[RunPart]
    over: int
    search_over: int
    open: list[str]
    holes: list[str]
    why: str = ""

    @property
    def actions(self) -> list[str]:
        """What may be asked of it now."""
        first = {Stage.RUNNING: ["stop"], Stage.WAITING: ["stop"], Stage.FINISHED: []}.get(self.stage, ["resume"])
        return [*first, "delete"]


def loss_of(info: RunInfo | None) -> float | None:
    """What a run counts in a search: its lowest validation loss; infinite if failed or gone, None if not over."""
    if info is None:
        return float("inf")
    if not Status(info.status).is_final:
        return None
    loss = info.best_eval_loss if info.best_eval_loss is not None else info.eval_loss
    return loss if info.status == Status.FINISHED and loss is not None else float("inf")


def outcomes(experiment: Experiment, infos: Infos) -> dict[RunPart, float | None]:
    """How far the runs of an experiment are, as `plan.parts_due` asks for it."""
    known: dict[RunPart, float | None] = {part: loss_of(infos.get(run)) for part, run in experiment.runs.items()}
    return known | experiment.found


def due_of(experiment: Experiment, infos: Infos) -> list[RunPart]:
    """The runs that can be made now."""
    return parts_due(experiment.plan, experiment.cells, outcomes(experiment, infos))


def is_done(experiment: Experiment, infos: Infos) -> bool:
    """Whether every counted run is finished, which takes no look at the cells."""
    counted = experiment.counted()
    if len(counted) < experiment.plan.counted:
        return False
    return all(run in infos and infos[run].status == Status.FINISHED for run in counted.values())


def progress_of(experiment: Experiment, infos: Infos) -> Progress:
    """How far an experiment is."""
    counted = [infos.get(run) for run in experiment.counted().values()]
    searched = [infos.get(run) for part, run in experiment.runs.items() if part.round is not None]
    over = sum(info is not None and Status(info.status).is_final for info in counted)
    search_over = sum(info is None or Status(info.status).is_final for info in searched)
    unfinished = [info for info in (*counted, *searched) if info is not None and not Status(info.status).is_final]
    opened = [info.id for info in unfinished]
    if is_done(experiment, infos):
        return Progress(Stage.FINISHED, [], over, search_over, opened, [])
    due = due_of(experiment, infos)
    holes = holes_of(experiment, infos)
    if any(Status(info.status).is_active for info in unfinished):
        stage, why = Stage.RUNNING, ""
    elif experiment.stopped:
        stage, why = Stage.STOPPED, ""
    elif unfinished or due:
        stage, why = Stage.WAITING, experiment.why or _why(unfinished)
    else:
        stage, why = Stage.INCOMPLETE, ""
    return Progress(stage, due, over, search_over, opened, holes, why)


def _why(waiting: list[RunInfo]) -> str:
    first = min(waiting, key=lambda info: info.queue_position or 1 << 30, default=None)
    if first is None:
        return ""
    if first.status == Status.PAUSED:
        return f"The run {first.id} is paused."
    return first.reason or (f"Number {first.queue_position} in the queue." if first.queue_position else "")


def holes_of(experiment: Experiment, infos: Infos) -> list[str]:
    """What the answer lacks, as sentences: runs that were deleted, failed or stopped, by cell."""
    lost: Counter[tuple[int, str]] = Counter()
    for part, run in experiment.counted().items():
        info = infos.get(run)
        how = "deleted" if info is None else info.status.value if Status(info.status).is_final else ""
        if how not in ("", Status.FINISHED.value):
            lost[part.cell, how] += 1
    return [_hole(how, experiment.names[cell], count) for (cell, how), count in sorted(lost.items())]


def _hole(how: str, name: str, count: int) -> str:
    if how == "deleted":
        return f"Deleted runs of {name}: {count}."
    return f"Stopped runs of {name}: {count}." if how == Status.STOPPED.value else f"Failed runs of {name}: {count}."


def holes(experiment: Experiment, infos: Infos) -> dict[RunPart, RunInfo | None]:
    """The parts whose runs are over without having finished, with what is known of the run; None when it is gone."""
    found: dict[RunPart, RunInfo | None] = {}
    for part, run in experiment.counted().items():
        info = infos.get(run)
        if info is None or (Status(info.status).is_over and info.status != Status.FINISHED):
            found[part] = info
    return found
