"""What an experiment costs, told before it is made: by what runs on this machine took, or, before any, by sizes.

A run takes a start, its rows of training, and its rows of evaluation: those of each validation loss, and those that it
answers, each of which counts as several. Seconds per row are those of the latest runs alike.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import RunConfig
from peft_studio.experiments.equal_size import NEAR, Estimates, fit_cells, size_field
from peft_studio.experiments.plan import HALF_DECADES, ROUNDS, Cell, ExperimentPlan, RunPart, config_of
from peft_studio.models.catalog import known_params
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.status import Status

START = 2.5
"""Seconds from a worker's start to its first step, reading and saving included, on a machine of usual speed."""
SLOWEST = 10.0
"""So many times slower than usual a machine is believed to be."""
ANSWER_ROWS = {"generation": 4.3, "classification": 1.0}
"""Rows that are read in the time in which one is answered."""
TRAIN_ROWS = 3.0
"""The same for one that is trained on, before runs have shown it: a forward and a backward pass."""
FLOPS = 4.5e10
"""Floating-point operations a second and thread before any run here has shown its own speed."""
PER_TOKEN = 6
"""Floating-point operations of a parameter for a token: two forward, four backward (Kaplan et al. 2020, 2.1)."""
TOKENS_PER_ROW = 90
LATEST = 8  # runs alike that are looked at
USUAL_PARAMETERS = 3e6


@dataclass(frozen=True)
class Pace:
    """Seconds that a row takes.

    Attributes:
        train: Of training.
        read: Of an evaluation.
        start: Seconds of what every run has besides.
    """

    train: float
    read: float
    start: float = START


@dataclass(frozen=True)
class CellFacts:
    """What is known of a cell before it is made.

    Attributes:
        trainable: Parameters; None where nobody has counted.
        tokens_per_row: Of its data.
        parameters: Of its base model, where that is not in the catalogue.
    """

    trainable: int | None = None
    tokens_per_row: int = TOKENS_PER_ROW
    parameters: int | None = None


class Costs:
    """Tells times by what runs here took.

    Args:
        infos: Every run, newest first.
        threads: Of a worker.
        busy: How many programs want each of the machine's cores now; counts before any run has shown its speed.
    """

    def __init__(self, infos: Iterable[RunInfo], threads: int, busy: float = 1.0) -> None:
        self._threads = threads
        self._busy = min(SLOWEST, max(1.0, busy))
        over = (info for info in infos if info.status == Status.FINISHED)
        self._done = [info for info in over if info.seconds and info.steps_per_second and info.step]

    def seconds(self, config: RunConfig, facts: CellFacts | None = None) -> float:
        """What a run takes, in seconds; without the base model's answers, which are made once for all of them."""
        kind, pace = resolve(config).task.kind, self.pace(config, facts or CellFacts())
        training = config.training
        rows = training.max_steps * training.batch_size * training.gradient_accumulation
        return pace.start + rows * pace.train + _read_rows(training.model_dump(), training.max_steps, kind) * pace.read

    def base_seconds(self, config: RunConfig, facts: CellFacts | None = None) -> float:
        """What the base model's answers to the same rows take, in seconds."""
        kind, pace = resolve(config).task.kind, self.pace(config, facts or CellFacts())
        return config.training.eval_rows * (1 + ANSWER_ROWS[kind]) * pace.read if kind == "generation" else 0.0

    def pace(self, config: RunConfig, facts: CellFacts) -> Pace:
        """Seconds per row of runs alike: of the same model and task, and of the same method where there are some."""
        usual, same = self._usual(config, facts), self.alike(config)
        train = [found for info in same if (found := _train_seconds(info))]
        if not train:
            return usual
        each = statistics.median(train)
        # What is slow in training is slow in starting, too: other programs at work, or a small machine.
        start = START * min(SLOWEST, max(1.0, each / self._by_sizes(config, facts)))
        read = [found for info in same if (found := _read_seconds(info, start))]
        return Pace(each, statistics.median(read) if read else each / TRAIN_ROWS, start)

    def alike(self, config: RunConfig) -> list[RunInfo]:
        """The latest runs of the same model and task, and of the same method where there are some."""
        alike = [info for info in self._done if (info.model, info.task) == (config.model.id, config.task.id)]
        name = config.method.name
        return ([info for info in alike if name == info.method] or alike)[:LATEST]

    def _usual(self, config: RunConfig, facts: CellFacts) -> Pace:
        """By sizes alone, and by the speed of runs of other models or tasks where there are some."""
        speeds = [
            PER_TOKEN * info.tokens_per_second * info.total_params
            for info in self._done[:LATEST]
            if info.tokens_per_second and info.total_params
        ]
        usual = FLOPS * self._threads
        slower = usual / statistics.median(speeds) if speeds else self._busy
        each = self._by_sizes(config, facts) * slower
        return Pace(each, each / TRAIN_ROWS, START * min(SLOWEST, max(1.0, slower)))

    def _by_sizes(self, config: RunConfig, facts: CellFacts) -> float:
        """Seconds per row of training on a machine of usual speed with nothing else to do."""
        parameters = facts.parameters or known_params(config.model.id) or USUAL_PARAMETERS
        return PER_TOKEN * parameters * facts.tokens_per_row / (FLOPS * self._threads)


def _training(info: RunInfo) -> Mapping[str, Any]:
    found = info.config.get("training")
    return found if isinstance(found, Mapping) else {}


def _train_seconds(info: RunInfo) -> float | None:
    training = _training(info)
    rows = (training.get("batch_size") or 0) * (training.get("gradient_accumulation") or 1)
    return 1 / (info.steps_per_second * rows) if info.steps_per_second and rows else None


def _read_seconds(info: RunInfo, start: float) -> float | None:
    kind = "generation" if any(name.endswith("/bleu") for name in info.metrics) else "classification"
    rows = _read_rows(_training(info), info.step, kind)
    beside = (info.seconds or 0.0) - info.step / (info.steps_per_second or 1.0) - start
    return beside / rows if rows and beside > 0 else None


def _read_rows(training: Mapping[str, Any], steps: int, kind: str) -> float:
    rows, every = training.get("eval_rows") or 0, training.get("eval_every") or steps
    answers = ANSWER_ROWS[kind] if training.get("answers", True) else 0.0
    return float(rows * (math.ceil(steps / every) + answers))


@dataclass(frozen=True)
class CellCost:
    """What a cell costs.

    Attributes:
        cell: With the size that it settled on.
        facts: What is known of it.
        seconds: Of all its runs.
        off_by: Relative distance from the wanted number of parameters; None where none is wanted.
    """

    cell: Cell
    facts: CellFacts
    seconds: float
    off_by: float | None

    def to_dict(self) -> dict[str, Any]:
        """As the page reads it."""
        return {
            "name": self.cell.name, "trainable_params": self.facts.trainable, "off_by": self.off_by,
            "sizable": bool(size_field(self.cell.config)), "seconds": round(self.seconds, 1),
        }  # fmt: skip


def seconds_of_cell(plan: ExperimentPlan, cell: Cell, costs: Costs, facts: CellFacts) -> float:
    """What all runs of a cell take, those of its search included."""
    training = cell.config.training
    total = plan.seeds * costs.seconds(cell.config, facts)
    for number, (rates, _) in enumerate(ROUNDS if plan.own_rates else ()):
        short = config_of(cell, RunPart(0, number, training.learning_rate, training.seed))
        total += min(rates, len(HALF_DECADES)) * costs.seconds(short, facts)
    return total


def plan_costs(
    plan: ExperimentPlan, cells: Sequence[Cell], costs: Costs, estimates: Estimates | None
) -> list[CellCost]:
    """What the cells of an experiment cost, with the sizes that they settle on.

    Args:
        plan: What is asked.
        cells: Its cells, with the sizes that were asked for.
        costs: Tells times.
        estimates: Counts parameters; None leaves that out, and all sizes as they are.

    Raises:
        StudioError: A cell does not fit its model.
    """
    wanted = plan.equal_parameters
    fitted = fit_cells(cells, wanted, estimates) if estimates and wanted else list(cells)
    found, bases = [], set()
    for cell in fitted:
        told = estimates.of(cell.config) if estimates else {}
        trainable = told.get("trainable_params")
        facts = CellFacts(trainable, int(told.get("tokens_per_row") or TOKENS_PER_ROW))
        seconds = seconds_of_cell(plan, cell, costs, facts)
        place = (cell.config.model.id, cell.config.task.model_dump_json())
        if place not in bases:
            seconds += costs.base_seconds(cell.config, facts)
            bases.add(place)
        off = trainable / wanted - 1 if wanted and trainable else None
        found.append(CellCost(cell, facts, seconds, off))
    return found


def told_costs(plan: ExperimentPlan, found: Sequence[CellCost]) -> dict[str, Any]:
    """What is told of an experiment before it starts."""
    seconds = sum(one.seconds for one in found)
    problems = []
    for one in found:
        if one.off_by is not None and abs(one.off_by) > NEAR:
            problems.append(_off(one, one.off_by))
    runs, short, time = plan.counted, plan.searching, in_words(seconds)
    words = f"{runs} runs, about {time} on this machine."
    if short:
        words = f"{runs} runs and {short} short ones, about {time} on this machine."
    return {
        "runs": runs, "search_runs": short, "seconds": round(seconds, 1), "cells": [one.to_dict() for one in found],
        "problems": problems, "words": words,
    }  # fmt: skip


def _off(one: CellCost, off_by: float) -> str:
    told = f"{off_by:+.0%}"
    if size_field(one.cell.config):
        return f"{one.cell.name}: {told} parameters beside what is asked for; no size of it is nearer."
    return f"{one.cell.name}: {told} parameters beside what is asked for; it has no size that could be set."


def in_words(seconds: float) -> str:
    """A length of time for people."""
    if seconds < 90:
        return f"{max(1, round(seconds))} seconds"
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 120 else f"{seconds / 3600:.1f} hours"
