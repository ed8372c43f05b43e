"""How long a run will take on this machine, all of it, and how long until it starts, before it is submitted.

Loading, steps, evaluations and answers are counted in tokens of training. What one of those takes is known from runs
like it that were made here; without such runs, from how fast any run was, or the machine is expected to be.
"""

import contextlib
import heapq
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from peft_studio.access.budgets import seconds_for
from peft_studio.config.run_config import RunConfig, parse_config
from peft_studio.errors import ConfigError
from peft_studio.machine.devices import AUTO
from peft_studio.models.catalog import MODELS
from peft_studio.runs.progress import BACKWARD
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.status import Status
from peft_studio.tasks import CUSTOM, get_task

LOADING = 3.0  # seconds in which a worker reads its model and its data
WRITING = 4.0  # what a token costs that is written, over one that is read
ANSWER_SHARE = 0.5  # of a row's tokens, about
USUAL_ROW = 96  # tokens, where nobody has counted them
MOST_RUNS = 5  # how many of the latest runs are asked


@dataclass(frozen=True)
class ExpectedTime:
    """What is expected of a run.

    Attributes:
        seconds: From its start to its end.
        basis: Whether runs like it were measured here.
        runs: How many of these were asked.
        wait: Seconds until it starts, if it is submitted now; 0 when it starts at once.
        paused: Whether no run is started at all now.
    """

    seconds: float
    basis: Literal["measured", "estimate"]
    runs: int
    wait: float = 0.0
    paused: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def work_of(config: RunConfig, tokens_per_row: int, rows: int) -> float:
    """About what a run has to do, in tokens of training.

    Args:
        config: Of the run.
        tokens_per_row: Of a typical row of its task, as its model reads it.
        rows: For training; decides the steps of a run that is to see its rows so many times.
    """
    training = config.training
    length = min(tokens_per_row, training.max_length)
    steps = training.steps_for(rows) if training.epochs else training.max_steps
    trained = steps * training.batch_size * training.gradient_accumulation * length
    evaluations = 1 + math.ceil(steps / training.eval_every)  # one is the base model's
    answers = 2 * (1 + (WRITING * ANSWER_SHARE if _writes(config) else 0))  # the base model's, too
    return trained + training.eval_rows * length * (evaluations + answers) / BACKWARD


def _writes(config: RunConfig) -> bool:
    task = config.task
    return task.kind != "classification" if task.id == CUSTOM else not get_task(task.id).labels


def _kind(config: Mapping[str, Any]) -> tuple[object, ...]:
    """What runs have in common whose times compare: model, attention, task with its rows, device."""
    model, task, resources = (config.get(name) or {} for name in ("model", "task", "resources"))
    rows = task.get("train_rows") or 0, task.get("train_file") or ""
    return model.get("id"), model.get("attention", "full"), task.get("id"), *rows, resources.get("device", AUTO)


def _method(config: Mapping[str, Any]) -> object:
    return (config.get("method") or {}).get("name")


def expected_run(
    config: RunConfig, tokens_per_row: int, parameters: int, rows: int, infos: Sequence[RunInfo], threads: int
) -> ExpectedTime:
    """How long a run will take.

    Args:
        config: Of the run.
        tokens_per_row: As for `work_of`.
        parameters: Of its base model.
        rows: As for `work_of`.
        infos: Every run, newest first.
        threads: Of a worker.
    """
    work, mine = work_of(config, tokens_per_row, rows), config.model_dump(mode="json")
    alike = [info for info in infos if _tells(info) and _kind(info.config) == _kind(mine)]
    closest = [info for info in alike if _method(info.config) == _method(mine)] or alike
    paces = []
    for info in closest[:MOST_RUNS]:
        with contextlib.suppress(ConfigError):  # a run of another version
            done = work_of(parse_config(info.config), tokens_per_row, rows)
            paces.append(max(0.0, (info.seconds or 0.0) - LOADING) / done)
    if paces:
        return ExpectedTime(LOADING + statistics.median(paces) * work, "measured", len(paces))
    return ExpectedTime(LOADING + seconds_for(work, parameters, infos, threads), "estimate", 0)


def _tells(info: RunInfo) -> bool:
    """Whether a run was made here, from its first step to its last, without another start."""
    whole = info.status is Status.FINISHED and info.step == info.max_steps and not info.attempts
    return bool(whole and info.seconds and info.started)


def wait_for_start(infos: Sequence[RunInfo], slots: int, threads: int, now: float | None = None) -> float:
    """Seconds until one more run would start that comes behind all that wait.

    Args:
        infos: Every run, newest first.
        slots: Runs that train at a time.
        threads: Of a worker.
        now: Seconds since the epoch; the clock's when not given.
    """
    moment, free = time.time() if now is None else now, [0.0] * max(1, slots)
    for info in infos:
        if info.status in (Status.RUNNING, Status.STOPPING, Status.PAUSING):
            gone = max(0.0, moment - (info.started or moment))
            left = info.eta_seconds
            heapq.heapreplace(free, max(0.0, _seconds_of(info, infos, threads) - gone) if left is None else left)
    waiting = [info for info in infos if info.status is Status.QUEUED and not info.held]
    for info in sorted(waiting, key=lambda one: one.queue_position or math.inf):
        heapq.heapreplace(free, free[0] + _seconds_of(info, infos, threads))
    return free[0]


def _seconds_of(info: RunInfo, infos: Sequence[RunInfo], threads: int) -> float:
    """How long a run takes that is in the list; nobody has counted its tokens."""
    try:
        config = parse_config(info.config)
    except ConfigError:  # of another version: it will fail at once
        return LOADING
    card = MODELS.get(config.model.id)
    parameters = info.total_params or (card.params if card else 0) or 10_000_000
    rows = config.task.train_rows or 1000
    return expected_run(config, USUAL_ROW, parameters, rows, infos, threads).seconds
