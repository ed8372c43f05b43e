"""An experiment is a folder: what it asks, the sizes it settled on, and which runs are its parts."""

import contextlib
import json
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peft_studio.config.run_config import parse_config
from peft_studio.errors import ConfigError, ExperimentNotFoundError, StorageError
from peft_studio.experiments.plan import Cell, ExperimentPlan, RunPart, cells_of, parse_plan
from peft_studio.files import atomic_write, read_json
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.status import Status

FOLDER = "experiments"
Info = Callable[[str], RunInfo | None]
"""What is known of a run by its id; None when it is gone."""


@dataclass(frozen=True)
class Experiment:
    """One experiment, read from its folder.

    Attributes:
        id: Its folder's name.
        plan: What it asks.
        cells: Its cells, with the sizes that it settled on.
        runs: Ids of the runs by their parts.
        created: Seconds since the epoch.
        owner: Id of the visitor whose it is; empty for the owner of the app.
    """

    id: str
    plan: ExperimentPlan
    cells: list[Cell]
    runs: dict[RunPart, str]
    created: float
    owner: str = ""


class ExperimentStore:
    """All experiments of a home folder. Holds no state of its own.

    Args:
        home: The home folder.
    """

    def __init__(self, home: Path) -> None:
        self.root = home / FOLDER

    def create(self, plan: ExperimentPlan, cells: list[Cell], owner: str = "") -> str:
        """Writes a new experiment; the folder appears under its name when it is complete.

        Raises:
            StorageError: It cannot be written.
        """
        made = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        record: dict[str, Any] = {"v": 1, "id": made, "created": time.time(), "owner": owner}
        record |= {"plan": plan.model_dump(mode="json")}
        record |= {"cells": [{"name": cell.name, "config": cell.config.model_dump(mode="json")} for cell in cells]}
        staging = self.root / f".new-{made}"
        try:
            staging.mkdir(parents=True)
            atomic_write(staging / "experiment.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
            staging.rename(self.root / made)
        except OSError as exc:
            shutil.rmtree(staging, ignore_errors=True)
            raise StorageError(f"The experiment could not be saved: {exc.strerror or exc}.") from exc
        return made

    def ids(self) -> list[str]:
        """Ids of all experiments, newest first."""
        with contextlib.suppress(FileNotFoundError):
            return sorted((path.name for path in self.root.iterdir() if not path.name.startswith(".")), reverse=True)
        return []

    def load(self, experiment_id: str) -> Experiment:
        """Reads an experiment.

        Raises:
            ExperimentNotFoundError: There is none of this id, or its file is damaged.
        """
        plain = experiment_id == Path(experiment_id).name and not experiment_id.startswith(".")
        record = read_json(self.root / experiment_id / "experiment.json") if plain else None
        if record is None:
            raise ExperimentNotFoundError(f"There is no experiment {experiment_id!r}.")
        try:
            plan = parse_plan(record.get("plan"))
            told = record.get("cells") or []
            cells = [Cell(str(one["name"]), parse_config(one["config"])) for one in told] or cells_of(plan)
            runs = dict(_parts(self._list_of_runs(experiment_id)))
        except (ConfigError, KeyError, TypeError, ValueError) as exc:
            raise ExperimentNotFoundError(f"The file of the experiment {experiment_id!r} is damaged: {exc}.") from exc
        return Experiment(
            experiment_id, plan, cells, runs, float(record.get("created") or 0), str(record.get("owner"))
        )

    def add(self, experiment_id: str, part: RunPart, run_id: str) -> None:
        """Writes down which run has a part.

        Raises:
            StorageError: It cannot be written.
        """
        line = json.dumps({"run": run_id, **asdict(part)}) + "\n"
        try:
            with self._list_of_runs(experiment_id).open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as exc:
            raise StorageError(f"The experiment could not be saved: {exc.strerror or exc}.") from exc

    def _list_of_runs(self, experiment_id: str) -> Path:
        return self.root / experiment_id / "runs.jsonl"


def _parts(path: Path) -> list[tuple[RunPart, str]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    records = [json.loads(line) for line in lines]
    return [
        (RunPart(int(one["cell"]), one["round"], float(one["rate"]), int(one["seed"])), str(one["run"]))
        for one in records
    ]


def outcomes(experiment: Experiment, info: Info) -> Mapping[RunPart, float | None]:
    """How far the runs of an experiment are, as `plan.parts_due` asks for it: a run that is gone has failed."""
    found: dict[RunPart, float | None] = {}
    for part, run_id in experiment.runs.items():
        told = info(run_id)
        if told is None:
            found[part] = float("inf")
        elif not Status(told.status).is_final:
            found[part] = None
        else:
            loss = told.best_eval_loss if told.best_eval_loss is not None else told.eval_loss
            found[part] = loss if told.status == "finished" and loss is not None else float("inf")
    return found
