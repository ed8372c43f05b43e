"""An experiment as it stands: its table, who beats whom, curves, costs, and what is still to be done."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peft_studio.experiments.equal_size import size_field
from peft_studio.experiments.outcome import counted_infos, figure
from peft_studio.experiments.plan import Cell, ExperimentPlan, RunPart, told_value
from peft_studio.experiments.record import Experiment
from peft_studio.experiments.sentences import base_words, words_of
from peft_studio.experiments.state import Infos, Progress, outcomes, progress_of
from peft_studio.experiments.verdict import CellFigures, Duel, row_of
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.status import Status

COSTS = (
    ("trainable_params", "Trainable parameters", ""),
    ("adapter_bytes", "Size of the adapter's file", "B"),
    ("peak_memory_bytes", "Memory at the peak", "B"),
    ("train_seconds", "Time of the whole run", "s"),
    ("answer_seconds", "Time per answer", "s"),
)
"""What a better answer may cost: key of a row of the table, name, unit."""
_NOT_SETTINGS = ("training.seed", "training.learning_rate")
Table = list[dict[str, Any]]
Curves = Mapping[str, Mapping[str, Sequence[Any]]]
"""Validation losses of runs by id, in columns ``step`` and ``loss``."""


@dataclass(frozen=True)
class Seen:
    """What an answer is made of.

    Attributes:
        experiment: What is asked.
        infos: What is known of runs.
        outcome: The statistics; None while they are being made.
        curves: Of its counted runs.
    """

    experiment: Experiment
    infos: Infos
    outcome: Mapping[str, Any] | None
    curves: Curves


def answer_of(seen: Seen) -> dict[str, Any]:
    """Everything that is known so far; what it has, the contract of the route says: `ui.lab`."""
    experiment, plan = seen.experiment, seen.experiment.plan
    progress, counted = progress_of(experiment, seen.infos), counted_infos(experiment, seen.infos)
    rows = [
        row_of(name, _values(counted.get(number, []), plan.metric)) for number, name in enumerate(experiment.names)
    ]
    table = [_row(seen, number, rows[number], counted.get(number, [])) for number in range(len(rows))]
    outcome: Mapping[str, Any] = seen.outcome or {}
    found = [Duel(**{key: value for key, value in one.items() if key != "tie"}) for one in outcome.get("duels", [])]
    base = base_of(experiment, counted)
    words = words_of(rows, found, plan.metric, plan.lower_is_better)
    return {
        **summary_of(experiment, seen.infos, progress),
        "plan": plan.model_dump(mode="json"), "done": progress.over >= plan.counted, "holes": progress.holes,
        "seconds": seconds_of(experiment, seen.infos), "table": table, "base": {"mean": base},
        "interval": {key: outcome.get(key) for key in ("of", "how", "confidence")},
        "computing": seen.outcome is None and any(row.mean is not None for row in rows),
        "duels": outcome.get("duels", []), "words": [*words, *(base_words(base, plan.metric) if words else [])],
        "curves": [_curve(seen, row["name"], row["runs"]) for row in table], "pareto": pareto_of(table, base, plan),
        "grid": grid_of(experiment, table), "search": _search(experiment, seen.infos),
        "all_runs": [run for run in experiment.runs.values() if run in seen.infos],
    }  # fmt: skip


def summary_of(experiment: Experiment, infos: Infos, progress: Progress) -> dict[str, Any]:
    """What a list tells of an experiment, but for whose it is and the first sentence of its answer."""
    plan, infos_of = experiment.plan, [infos.get(run) for run in experiment.runs.values()]
    ended = [info.started + (info.seconds or 0) for info in infos_of if info is not None and info.started]
    return {
        "id": experiment.id, "question": plan.question, "created": experiment.created, "state": progress.stage.value,
        "why": progress.why, "metric": plan.metric, "lower_is_better": plan.lower_is_better,
        "runs": {
            "of": plan.counted, "over": progress.over,
            "search_of": plan.searching, "search_over": progress.search_over,
        },
        "actions": progress.actions, "cells": len(experiment.names), "methods": experiment.names[:8],
        "finished_at": max(ended, default=None) if progress.stage == "finished" else None,
    }  # fmt: skip


def base_of(experiment: Experiment, counted: Mapping[int, Sequence[RunInfo]]) -> float | None:
    """What the untouched base model has; None where runs were measured on several sets of rows, or do not tell."""
    part = experiment.plan.metric.partition("/")[0]
    runs = [info for found in counted.values() for info in found]
    if len({info.measured_on.get(part) for info in runs}) > 1:
        return None
    return next(
        (value for info in runs if (value := info.metrics.get(f"base/{experiment.plan.metric}")) is not None), None
    )


def seconds_of(experiment: Experiment, infos: Infos) -> dict[str, float | None]:
    """What the runs were told to take, what they took, and about how much of it is left, in seconds of runs."""
    took = sum(info.seconds or 0.0 for run in experiment.runs.values() if (info := infos.get(run)))
    told = experiment.told
    left = None
    if told is not None:
        plan = experiment.plan
        over = sum(1 for run in experiment.runs.values() if run not in infos or Status(infos[run].status).is_final)
        share = over / max(1, plan.counted + plan.searching)
        # What was told, less what took its place; the more runs are over, the more their own times count.
        left = max(0.0, told - took) if not share else max(0.0, (1 - share) * (told + took / share) / 2)
        left = 0.0 if share >= 1 else left
    return {"told": told, "took": took, "left": left}


def _values(infos: Iterable[RunInfo], metric: str) -> list[float]:
    return [value for info in infos if (value := figure(info, metric)) is not None]


def _row(seen: Seen, number: int, row: CellFigures, counted: Sequence[RunInfo]) -> dict[str, Any]:
    experiment, cell = seen.experiment, seen.experiment.cells[number]
    parts = {part: run for part, run in experiment.counted().items() if part.cell == number}
    known = [seen.infos[run] for run in parts.values() if run in seen.infos]
    over = [info for info in known if Status(info.status).is_final]
    low, high = ((seen.outcome or {}).get("intervals") or {}).get(row.name) or (None, None)
    params = next((info.trainable_params for info in known if info.trainable_params), None)
    wanted = experiment.plan.equal_parameters
    answers = [one for info in counted if (one := _answer_seconds(seen, info.id)) is not None]
    return {
        "index": number, "name": row.name, "label": row.name, "method": cell.config.method.name,
        "values": dict(cell.values), "n": len(row.values), "figures": list(row.values), "mean": row.mean,
        "spread": row.spread, "low": low, "high": high, "failed": len(over) - len(row.values),
        "missing": len(parts) - len(known), "of": experiment.plan.seeds, "over": len(over),
        "state": _state(experiment, number, known, len(parts)),
        "rate": next((part.rate for part in parts), None) or _rate(cell), "trainable_params": params,
        "off_by": params / wanted - 1 if params and wanted else None, "sizable": bool(size_field(cell.config)),
        "share": next((info.trainable_share for info in known if info.trainable_share is not None), None),
        "adapter_bytes": _mean(info.adapter_bytes for info in counted),
        "peak_memory_bytes": _mean(info.peak_memory_bytes for info in counted),
        "train_seconds": _mean(info.seconds for info in counted),
        "answer_seconds": statistics.fmean(answers) if answers else None,
        "settings": settings_that_differ(experiment.cells)[number], "runs": list(parts.values()),
    }  # fmt: skip


def _rate(cell: Cell) -> float:
    return cell.config.training.learning_rate


def _state(experiment: Experiment, number: int, known: Sequence[RunInfo], made: int) -> str:
    if any(Status(info.status).is_active for info in known):
        return "running"
    if made >= experiment.plan.seeds and all(Status(info.status).is_final for info in known):
        return "over"
    searched = any(part.cell == number and part.round is not None for part in experiment.runs)
    return "searching" if searched and not made else "waiting"


def _answer_seconds(seen: Seen, run: str) -> float | None:
    found = ((seen.outcome or {}).get("answer_seconds") or {}).get(run)
    return float(found) if found is not None else None


def _mean(values: Iterable[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return statistics.fmean(told) if told else None


def settings_that_differ(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Of each cell the settings that not all cells have alike, but for seed and rate."""
    flat = [_flat(cell) for cell in cells]
    names = [name for name in dict.fromkeys(key for one in flat for key in one) if name not in _NOT_SETTINGS]
    differ = [name for name in names if len({repr(one.get(name)) for one in flat}) > 1]
    return [{name: one[name] for name in differ if name in one} for one in flat]


def _flat(cell: Cell) -> dict[str, Any]:
    sections = cell.config.model_dump(mode="json").items()
    return {f"{section}.{key}": value for section, keys in sections for key, value in keys.items()}


def _curve(seen: Seen, name: str, runs: Sequence[str]) -> dict[str, Any]:
    """The mean validation loss of a cell's runs where all of them that have begun have one, and their range."""
    columns = [dict(zip(one["step"], one["loss"], strict=True)) for run in runs if (one := seen.curves.get(run))]
    columns = [one for one in columns if one]
    steps = sorted(set.intersection(*map(set, columns))) if columns else []
    points = [[one[step] for one in columns if one[step] is not None] for step in steps]
    steps = [step for step, values in zip(steps, points, strict=True) if values]
    points = [values for values in points if values]
    return {
        "cell": name, "steps": steps, "n": len(columns), "mean": [statistics.fmean(values) for values in points],
        "low": [min(values) for values in points], "high": [max(values) for values in points],
    }  # fmt: skip


def pareto_of(table: Table, base: float | None, plan: ExperimentPlan) -> dict[str, Any]:
    """Quality against every cost: of each cell whether none is as good or better for less."""
    told = [row for row in table if row["mean"] is not None]
    sign = -1 if plan.lower_is_better else 1
    points = [
        {"name": row["name"], "quality": row["mean"], "cost": {key: row[key] for key, _, _ in COSTS}, "base": False}
        for row in told
    ]
    if base is not None:
        free = {"trainable_params": 0, "adapter_bytes": 0, "train_seconds": 0}
        points.append({
            "name": "base model", "quality": base, "cost": {key: free.get(key) for key, _, _ in COSTS}, "base": True,
        })  # fmt: skip
    for point in points:
        point["on_frontier"] = {key: _is_best(point, points, key, sign) for key, _, _ in COSTS}
    costs = [{"key": key, "label": label, "unit": unit} for key, label, unit in COSTS]
    return {"costs": costs, "points": points}


def _is_best(point: dict[str, Any], points: Sequence[dict[str, Any]], key: str, sign: int) -> bool:
    cost, quality = point["cost"][key], sign * point["quality"]
    if cost is None:
        return False
    return not any(
        other["cost"][key] is not None
        and (other["cost"][key] <= cost and sign * other["quality"] >= quality)
        and (other["cost"][key] < cost or sign * other["quality"] > quality)
        for other in points
    )


def grid_of(experiment: Experiment, table: Table) -> dict[str, Any] | None:
    """The means over two things that are varied: a row for each value of the first; None where one is."""
    if len(experiment.plan.vary) != 2:
        return None
    first, second = experiment.plan.vary
    width = len(second.values)
    means = [row["mean"] for row in table]
    return {
        "x": {"field": second.field, "values": [told_value(second.field, value) for value in second.values]},
        "y": {"field": first.field, "values": [told_value(first.field, value) for value in first.values]},
        "cells": [means[start : start + width] for start in range(0, len(means), width)],
    }


def _search(experiment: Experiment, infos: Infos) -> list[dict[str, Any]]:
    """What the search for rates has found so far."""
    known = outcomes(experiment, infos)
    searched: list[RunPart] = [part for part in experiment.runs if part.round is not None]
    return [
        {"cell": experiment.names[part.cell], "round": part.round, "rate": part.rate,
         "loss": loss if (loss := known.get(part)) is not None and loss < float("inf") else None,
         "failed": known.get(part) == float("inf"), "run": experiment.runs[part]}
        for part in sorted(searched, key=lambda part: (part.cell, part.round or 0, part.rate))
    ]  # fmt: skip
