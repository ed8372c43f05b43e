"""One experiment, as its folder has it.

``experiment.json`` is written once; ``runs.jsonl`` grows by a line for each run that takes a part, for each outcome of
a search, and for each part that is to be made again; ``stopped`` is there while nothing more is to be made; ``why``
says in words why a run that is due cannot be made now; ``outcome.json`` keeps the statistics and can be made again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from peft_studio.config.run_config import parse_config
from peft_studio.errors import ConfigError, ExperimentNotFoundError
from peft_studio.experiments.plan import Cell, ExperimentPlan, RunPart, read_plan
from peft_studio.files import open_plain, read_json

NAME_LENGTH = 80  # characters of an id or a name


@dataclass(frozen=True)
class Owner:
    """Whose an experiment is.

    Attributes:
        id: Of the visitor; empty for the owner of the app.
        role: What they were to the app, as `access.visitors.Role` calls it.
        name: As others may read it.
    """

    id: str = ""
    role: str = "owner"
    name: str = ""


@dataclass(frozen=True)
class Experiment:
    """One experiment, read from its folder.

    Attributes:
        id: Its folder's name.
        plan: What it asks.
        runs: Ids of the runs by their parts.
        created: Seconds since the epoch.
        owner: Whose it is.
        told: Seconds that its runs were told to take before it began; None for one of an earlier version.
        found: Lowest validation losses of the runs of a search that are over (infinite for failed ones): what was
            decided by them stays, also when they are deleted.
        stopped: Whether nothing more is to be made.
        why: Why a run that is due cannot be made now, in words.
    """

    id: str
    plan: ExperimentPlan
    runs: dict[RunPart, str]
    created: float
    owner: Owner = Owner()
    told: float | None = None
    found: dict[RunPart, float] = field(default_factory=dict)
    stopped: bool = False
    why: str = ""
    _cells: tuple[Mapping[str, Any], ...] = ()

    @cached_property
    def cells(self) -> list[Cell]:
        """Its cells, with the sizes that it settled on; read when they are first needed.

        Raises:
            ExperimentNotFoundError: They are damaged.
        """
        try:
            return [
                Cell(str(one["name"]), parse_config(one["config"]), one.get("values") or {}) for one in self._cells
            ]
        except (ConfigError, KeyError, TypeError, AttributeError) as exc:
            raise _damaged(self.id, exc) from exc

    @property
    def names(self) -> list[str]:
        """Names of its cells."""
        return [str(one.get("name")) for one in self._cells]

    def counted(self) -> dict[RunPart, str]:
        """The runs that the answer is made of."""
        return {part: run for part, run in self.runs.items() if part.round is None}


def _damaged(experiment_id: str, exc: Exception) -> ExperimentNotFoundError:
    return ExperimentNotFoundError(f"The file of the experiment {experiment_id!r} is damaged: {exc}.")


def mark_of(folder: Path) -> tuple[object, ...] | None:
    """What changes when an experiment's files do; None when there is none."""
    marks: list[object] = []
    for name in ("experiment.json", "runs.jsonl", "stopped", "why"):
        try:
            found = (folder / name).stat()
            marks += (found.st_mtime_ns, found.st_size)
        except OSError:
            if name == "experiment.json":
                return None
            marks.append(None)
    return tuple(marks)


def read_experiment(folder: Path) -> Experiment:
    record = read_json(folder / "experiment.json") or {}
    try:
        plan = read_plan(record.get("plan"))
        cells = tuple(one for one in record["cells"] if isinstance(one, dict))
        runs, found = _parts(folder / "runs.jsonl")
        owner = record.get("owner")
        told = record.get("told")
        return Experiment(
            folder.name, plan, runs, float(record.get("created") or 0),
            Owner(**{key: str(value)[:NAME_LENGTH] for key, value in owner.items()})
            if isinstance(owner, dict) else replace(Owner(), id=str(owner or "")),
            told if isinstance(told, float | int) else None, found,
            (folder / "stopped").exists(), _text(folder / "why"), cells,
        )  # fmt: skip
    except (ConfigError, KeyError, TypeError, ValueError) as exc:
        raise _damaged(folder.name, exc) from exc


def _text(path: Path) -> str:
    try:
        with open_plain(path) as file:
            return file.read(1000).decode("utf-8", "replace")
    except OSError:
        return ""


def _parts(path: Path) -> tuple[dict[RunPart, str], dict[RunPart, float]]:
    """Which runs have which parts, and what came of those of a search; of a part that is told twice the last one."""
    runs: dict[RunPart, str] = {}
    found: dict[RunPart, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            one = json.loads(line)
            part = RunPart(int(one["cell"]), one["round"], float(one["rate"]), int(one["seed"]))
        except (ValueError, KeyError, TypeError):
            continue  # torn by a full disk, or by a process that was killed
        if "loss" in one:
            found[part] = float("inf") if one["loss"] is None else float(one["loss"])
        elif one.get("run"):
            runs[part] = str(one["run"])
        else:
            runs.pop(part, None)
            found.pop(part, None)
    return runs, found
