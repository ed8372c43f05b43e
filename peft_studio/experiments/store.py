"""All experiments of a home folder: made, listed, read and deleted; see `record` for what is in a folder."""

import contextlib
import json
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peft_studio.errors import ExperimentNotFoundError, StorageError, shown
from peft_studio.experiments.plan import Cell, ExperimentPlan, RunPart
from peft_studio.experiments.record import NAME_LENGTH, Experiment, Owner, mark_of, read_experiment
from peft_studio.files import atomic_write

FOLDER = "experiments"


class ExperimentStore:
    """All experiments of a home folder. Thread-safe; what it remembers of them is read again when a file changes.

    Args:
        home: The home folder.
    """

    def __init__(self, home: Path) -> None:
        self.root = home / FOLDER
        self._read: dict[str, tuple[tuple[object, ...], Experiment]] = {}

    def folder(self, experiment_id: str) -> Path:
        """Where an experiment's files lie."""
        return self.root / experiment_id

    def create(
        self, plan: ExperimentPlan, cells: list[Cell], owner: Owner | None = None, told: float | None = None
    ) -> str:
        """Writes a new experiment; the folder appears under its name when it is complete.

        Args:
            plan: What it asks.
            cells: Its cells, with the sizes that it settled on.
            owner: Whose it is; of the owner of the app when not given.
            told: Seconds that its runs are told to take.

        Raises:
            StorageError: It cannot be written.
        """
        made = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        record: dict[str, Any] = {"v": 1, "id": made, "created": time.time(), "owner": asdict(owner or Owner())}
        record |= {"told": told, "plan": plan.model_dump(mode="json")}
        record["cells"] = [
            {"name": cell.name, "values": dict(cell.values), "config": cell.config.model_dump(mode="json")}
            for cell in cells
        ]
        staging = self.root / f".new-{made}"
        try:
            staging.mkdir(parents=True)
            atomic_write(staging / "experiment.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
            (staging / "runs.jsonl").touch()
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

    def all(self) -> list[Experiment]:
        """All that can be read, newest first."""
        found = []
        ids = self.ids()
        for one in ids:
            with contextlib.suppress(ExperimentNotFoundError):
                found.append(self.load(one))
        for gone in set(self._read) - set(ids):
            self._read.pop(gone, None)
        return found

    def load(self, experiment_id: str) -> Experiment:
        """Reads an experiment.

        Raises:
            ExperimentNotFoundError: There is none of this id, or its file is damaged.
        """
        folder = self.folder(experiment_id) if _is_plain(experiment_id) else None
        mark = mark_of(folder) if folder is not None else None
        if folder is None or mark is None:
            raise ExperimentNotFoundError(no_experiment(experiment_id))
        known = self._read.get(experiment_id)
        if known is None or known[0] != mark:
            known = self._read[experiment_id] = mark, read_experiment(folder)
        return known[1]

    def add(self, experiment_id: str, part: RunPart, run_id: str) -> None:
        """Writes down which run has a part.

        Raises:
            StorageError: It cannot be written.
        """
        self._append(experiment_id, [{"run": run_id, **asdict(part)}])

    def note(self, experiment_id: str, found: Mapping[RunPart, float]) -> None:
        """Writes down what came of runs of a search.

        Raises:
            StorageError: It cannot be written.
        """
        lines = [{"loss": loss if loss < float("inf") else None, **asdict(part)} for part, loss in found.items()]
        self._append(experiment_id, lines)

    def drop(self, experiment_id: str, parts: Iterable[RunPart]) -> None:
        """Lets parts be made again by other runs.

        Raises:
            StorageError: It cannot be written.
        """
        self._append(experiment_id, [{"run": None, **asdict(part)} for part in parts])

    def stop(self, experiment_id: str, stopped: bool = True) -> None:
        """Has nothing more made of an experiment, or lets it go on.

        Raises:
            StorageError: It cannot be written.
        """
        path = self.folder(experiment_id) / "stopped"
        try:
            path.touch() if stopped else path.unlink(missing_ok=True)
        except OSError as exc:
            raise StorageError(f"The experiment could not be changed: {exc.strerror or exc}.") from exc

    def say_why(self, experiment_id: str, words: str) -> None:
        """Writes down why a run that is due cannot be made; with no words, that all is well."""
        path = self.folder(experiment_id) / "why"
        with contextlib.suppress(OSError, StorageError):  # words for people; the next look says them again
            if words:
                atomic_write(path, words)
            else:
                path.unlink(missing_ok=True)

    def delete(self, experiment_id: str) -> None:
        """Deletes an experiment's folder; its runs stay.

        Raises:
            ExperimentNotFoundError: There is none of this id.
            StorageError: The folder cannot be removed.
        """
        folder = self.folder(self.load(experiment_id).id)
        doomed = self.root / f".deleted-{experiment_id}"
        try:
            folder.rename(doomed)
            shutil.rmtree(doomed)
        except OSError as exc:
            raise StorageError(f"The experiment could not be deleted: {exc.strerror or exc}.") from exc

    def _append(self, experiment_id: str, lines: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        try:
            with (self.folder(experiment_id) / "runs.jsonl").open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as exc:
            raise StorageError(f"The experiment could not be saved: {exc.strerror or exc}.") from exc


def no_experiment(experiment_id: str) -> str:
    """The words for an experiment that is not there, and for one that is not to be seen."""
    return f"There is no experiment {shown(experiment_id)}."


def _is_plain(experiment_id: str) -> bool:
    name = experiment_id if 0 < len(experiment_id) <= NAME_LENGTH else ""
    return bool(name) and name.isprintable() and name == Path(name).name and not name.startswith(".")
