"""How long a run will take on this machine, all of it, and how long until it starts, before it is submitted."""

import heapq
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from peft_studio.config.run_config import RunConfig, parse_config
from peft_studio.errors import StudioError
from peft_studio.experiments.cost import START, CellFacts, Costs
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.status import Status


@dataclass(frozen=True)
class ExpectedTime:
    """What is expected of a run.

    Attributes:
        seconds: From its start to its end: loading, steps, evaluations and answers.
        runs: How many runs like it, made here, this is known from; with none it is an estimate.
        wait: Seconds until it starts, if it is submitted now; 0 when it starts at once.
        paused: Whether no run is started at all now.
    """

    seconds: float
    runs: int
    wait: float = 0.0
    paused: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def expected_run(
    config: RunConfig, facts: CellFacts, rows: int, infos: Sequence[RunInfo], costs: Costs
) -> ExpectedTime:
    """How long a run will take.

    Args:
        config: Of the run.
        facts: Of its model and its data.
        rows: For training; decides the steps of a run that is to see its rows so many times.
        infos: Every run, newest first.
        costs: What these took.
    """
    training = config.training
    steps = training.steps_for(rows) if training.epochs else training.max_steps
    whole = config.model_copy(update={"training": training.model_copy(update={"max_steps": steps})})
    # The base model's answers to the same rows are kept once a run has had them.
    is_known = any(_asks_the_same(info, config) for info in infos)
    seconds = costs.seconds(whole, facts) + (0.0 if is_known else costs.base_seconds(whole, facts))
    return ExpectedTime(seconds, len(costs.alike(config)))


def _asks_the_same(info: RunInfo, config: RunConfig) -> bool:
    rows = (info.config.get("training") or {}).get("eval_rows")
    same = (info.model, info.task, rows) == (config.model.id, config.task.id, config.training.eval_rows)
    return same and any(name.startswith("base/test/") for name in info.metrics)


def wait_for_start(infos: Sequence[RunInfo], slots: int, costs: Costs, now: float | None = None) -> float:
    """Seconds until one more run would start that comes behind all that wait.

    Args:
        infos: Every run, newest first.
        slots: Runs that train at a time.
        costs: What runs took.
        now: Seconds since the epoch; the clock's when not given.
    """
    moment, free = time.time() if now is None else now, [0.0] * max(1, slots)
    for info in infos:
        if info.status in (Status.RUNNING, Status.STOPPING, Status.PAUSING):
            gone, left = moment - (info.started or moment), info.eta_seconds
            heapq.heapreplace(free, max(0.0, _seconds_of(info, costs) - gone) if left is None else left)
    waiting = [info for info in infos if info.status is Status.QUEUED and not info.held]
    for info in sorted(waiting, key=lambda one: one.queue_position or math.inf):
        heapq.heapreplace(free, free[0] + _seconds_of(info, costs))
    return free[0]


def _seconds_of(info: RunInfo, costs: Costs) -> float:
    """How long a run takes that is in the list."""
    try:
        return costs.seconds(parse_config(info.config))
    except StudioError:  # of another version, or its files are gone: it will fail at once
        return START
