"""The statistics of an experiment: made by a process of their own, and kept in its folder until its runs change.

The web process has neither scipy nor the time; ``python -m peft_studio.experiments`` takes a request by its standard
input, as `request_of` makes it, and answers as `measure` does. The command line calls `measure` itself.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peft_studio.errors import DataError, EngineError
from peft_studio.experiments.record import Experiment
from peft_studio.experiments.run_log import answer_seconds
from peft_studio.experiments.state import Infos
from peft_studio.experiments.verdict import CONFIDENCE, RowStatistics, draw, duels, ends_of, interval_of, row_of
from peft_studio.files import cache_write, read_json, search_path
from peft_studio.machine.limits import without_tokens
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.status import Status
from peft_studio.runs.store import RunStore

VERSION = 1
MAX_SECONDS = 300.0
"""Wall-clock time of the process, on a machine whose cores are shared."""
_OF_ROWS = "The middle 95 % of 1,000 draws of test rows, the same for all cells, and of seeds (paired bootstrap)."
_OF_SEEDS = "The middle 95 % of means of drawn seeds (scipy.stats.bootstrap); of a difference Welch's interval."


def figure(info: RunInfo, metric: str) -> float | None:
    """What a run has of the metric that decides."""
    if metric == "eval/loss" and info.best_eval_loss is not None:
        return info.best_eval_loss
    return info.metrics.get(metric)


def counted_infos(experiment: Experiment, infos: Infos) -> dict[int, list[RunInfo]]:
    """The finished runs that have the metric, by number of the cell."""
    found: dict[int, list[RunInfo]] = defaultdict(list)
    for part, run in sorted(experiment.counted().items(), key=lambda item: (item[0].cell, item[0].seed)):
        info = infos.get(run)
        if info is not None and info.status == Status.FINISHED and figure(info, experiment.plan.metric) is not None:
            found[part.cell].append(info)
    return found


def key_of(experiment: Experiment, infos: Infos) -> str:
    """Changes when the statistics must be made anew."""
    counted = counted_infos(experiment, infos)
    told = [
        (cell, [(info.id, figure(info, experiment.plan.metric)) for info in runs]) for cell, runs in counted.items()
    ]
    return hashlib.sha256(json.dumps([VERSION, sorted(told)]).encode()).hexdigest()[:24]


def request_of(experiment: Experiment, infos: Infos, store: RunStore) -> dict[str, Any]:
    """What the process needs to know."""
    metric, cells = experiment.plan.metric, []
    part = metric.partition("/")[0]
    for cell, runs in counted_infos(experiment, infos).items():
        folders = [store.root / info.id for info in runs]
        cells.append({
            "name": experiment.names[cell], "values": [figure(info, metric) for info in runs],
            "rows": next((info.measured_on[part] for info in runs if part in info.measured_on), ""),
            "tokenizers": [info.tokenizers.get("bleu", "13a") for info in runs], "folders": list(map(str, folders)),
        })  # fmt: skip
    return {"metric": metric, "lower": experiment.plan.lower_is_better, "cells": cells}


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Makes the statistics.

    Args:
        request: As `request_of` makes it.

    Returns:
        ``intervals`` (low and high by cell), ``duels``, ``of`` and ``how`` (what the intervals are), and
        ``answer_seconds`` (time per answer by run).
    """
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in request["cells"]:
        groups[cell["rows"]].append(cell)
    found: dict[str, Any] = {"intervals": {}, "duels": [], "of": "seeds", "how": _OF_SEEDS}
    for cells in groups.values():
        drawn = _drawn(cells, request["metric"])
        if drawn:
            found |= {"of": "rows and seeds", "how": _OF_ROWS}
        for cell in cells:
            ends = ends_of(drawn[cell["name"]]) if drawn else interval_of(cell["values"])
            found["intervals"][cell["name"]] = list(ends)
        rows = [row_of(cell["name"], cell["values"]) for cell in cells]
        found["duels"] += [{**asdict(one), "tie": one.tie} for one in duels(rows, request["lower"], drawn)]
    found["duels"].sort(key=lambda duel: (duel["tie"], -duel["difference"]))
    folders = [Path(folder) for cell in request["cells"] for folder in cell["folders"]]
    found["answer_seconds"] = {folder.name: answer_seconds(folder) for folder in folders}
    return {**found, "confidence": CONFIDENCE}


def _drawn(cells: Sequence[dict[str, Any]], metric: str) -> Any:
    """Draws over rows and seeds, where every run has answers to equally many rows; else None."""
    answers: dict[str, list[RowStatistics]] = {}
    for cell in cells:
        try:
            pairs = zip(cell["folders"], cell["tokenizers"], strict=True)
            read = [read_run(Path(folder), metric, tokenizer) for folder, tokenizer in pairs]
        except DataError:
            return None
        answers[cell["name"]] = [one for one in read if one is not None]
        if len(answers[cell["name"]]) < len(read) or not read:
            return None
    sizes = {len(one.statistics) for runs in answers.values() for one in runs}
    return draw(answers) if len(sizes) == 1 else None


def read_run(folder: Path, metric: str, tokenizer: str) -> RowStatistics | None:
    """The answers of a run; see `verdict.read_answers`."""
    from peft_studio.experiments.verdict import read_answers

    return read_answers(folder / "predictions.jsonl", metric, tokenizer)


def measure_apart(request: dict[str, Any]) -> dict[str, Any]:
    """`measure` in a process of its own.

    Raises:
        EngineError: The process could not be started, or did not answer.
    """
    environment = {**without_tokens(os.environ), "PYTHONPATH": search_path(os.environ), "PYTHONSAFEPATH": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "peft_studio.experiments"], input=json.dumps(request).encode(),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, timeout=MAX_SECONDS, check=True,
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as exc:
        raise EngineError(f"The statistics of the experiment could not be made ({type(exc).__name__}).") from exc
    return answer


def kept(folder: Path, key: str) -> dict[str, Any] | None:
    """The statistics as they were made of these very runs; None when they must be made."""
    found = read_json(folder / "outcome.json") or {}
    return found if found.get("key") == key and isinstance(found.get("duels"), list) else None


def keep(folder: Path, key: str, outcome: dict[str, Any]) -> None:
    """Keeps the statistics; a disk that is full is no reason to fail."""
    if folder.is_dir():
        with contextlib.suppress(ValueError):
            cache_write(folder / "outcome.json", json.dumps({**outcome, "key": key}, ensure_ascii=False))
