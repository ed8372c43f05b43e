"""A run is a folder: its file names, and the list of runs."""

import contextlib
import json
import math
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_studio.config import RunConfig, parse_config
from peft_studio.errors import ConfigError, RunNotFoundError, StorageError
from peft_studio.files import open_plain


@dataclass(frozen=True)
class RunPaths:
    """Every file of a run, each with one writer.

    ``config.json`` is the submitter's, ``claim.json`` and ``exit.json`` are the supervisor's (the small process that
    starts and outlives the worker), ``stop``, ``pause``, ``extended.json``, ``predicted.json`` and ``attempts/``
    are the manager's, everything else is the worker's.
    """

    root: Path

    @property
    def id(self) -> str:
        """The run's id is its folder's name."""
        return self.root.name

    @property
    def config(self) -> Path:
        """What was asked for; written once."""
        return self.root / "config.json"

    @property
    def claim(self) -> Path:
        """Who runs it: pid and process start time of the supervisor; created exclusively, once."""
        return self.root / "claim.json"

    @property
    def events(self) -> Path:
        """The worker's event log."""
        return self.root / "events.jsonl"

    @property
    def log(self) -> Path:
        """Everything the worker printed."""
        return self.root / "output.log"

    @property
    def stop(self) -> Path:
        """Its presence asks the worker to stop."""
        return self.root / "stop"

    @property
    def pause(self) -> Path:
        """Its presence asks the worker to pause."""
        return self.root / "pause"

    @property
    def checkpoint(self) -> Path:
        """What the run can go on from: complete, or not there."""
        return self.root / "checkpoint"

    @property
    def extended(self) -> Path:
        """How long to train in the end, as ``max_steps``, when that was changed after the run was submitted."""
        return self.root / "extended.json"

    @property
    def exit(self) -> Path:
        """How the worker ended: ``code`` or ``signal``; written once."""
        return self.root / "exit.json"

    @property
    def adapter(self) -> Path:
        """The trained adapter, as PEFT saves it."""
        return self.root / "adapter"

    @property
    def predictions(self) -> Path:
        """Test rows with the adapter's answers, one JSON object per line."""
        return self.root / "predictions.jsonl"

    @property
    def predicted(self) -> Path:
        """The memory that the run will need, once that is estimated: ``memory_bytes`` in all, ``memory`` by line."""
        return self.root / "predicted.json"

    @property
    def attempts(self) -> Path:
        """What earlier workers left, one folder each; see `requeue`."""
        return self.root / "attempts"


def atomic_write(path: Path, text: str) -> None:
    """Writes a whole file so that a reader sees the old one or the new one.

    Raises:
        StorageError: The disk is full or the folder is not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StorageError(f"{path} could not be written: {exc.strerror or exc}.") from exc


def read_json(path: Path) -> dict[str, Any] | None:
    """Reads a small JSON object; None when the file is missing, torn or not an object of plain JSON."""
    try:
        with open_plain(path) as file:
            value = json.loads(file.read(), parse_constant=_refuse, parse_float=_finite)
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_config(path: Path) -> RunConfig:
    """Reads the config of a ``config.json``.

    Raises:
        ConfigError: The file is missing or damaged, or what it holds is not allowed.
    """
    record = read_json(path)
    if record is None:
        raise ConfigError(f"{path.name} is missing or damaged.")
    try:
        return parse_config(record.get("config"))
    except ConfigError as exc:
        raise ConfigError(f"{path.name} is not a valid config: {exc}", exc.path) from exc


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse(digits)


class RunStore:
    """All runs below one folder. Holds no state of its own: everything is read from the folders."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @staticmethod
    def new_id(config: RunConfig) -> str:
        """An id for a new run: its time, its method, and some random digits."""
        return f"{time.strftime('%Y%m%d-%H%M%S')}-{config.method.name}-{secrets.token_hex(3)}"

    def create(self, config: RunConfig, name: str = "", run_id: str = "") -> RunPaths:
        """Writes a new run, which is queued from then on.

        The folder appears under its final name only when it is complete.

        Args:
            config: What to run.
            name: A title for people; the method's name with its main parameter is used when empty.
            run_id: From ``new_id``, when something had to know it before.

        Raises:
            StorageError: The disk is full or the folder is not writable.
        """
        run_id = run_id or self.new_id(config)
        record = {
            "v": 1,
            "id": run_id,
            "name": name,
            "created": time.time(),
            "config": config.model_dump(mode="json"),
        }
        staging = self.root / f".new-{run_id}"
        try:
            staging.mkdir(parents=True)
            atomic_write(staging / "config.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
            staging.rename(self.root / run_id)
        except (OSError, StorageError) as exc:
            shutil.rmtree(staging, ignore_errors=True)
            raise StorageError(f"The run could not be saved in {self.root}: {exc}.") from exc
        return RunPaths(self.root / run_id)

    def ids(self) -> list[str]:
        """Ids of all runs, oldest first."""
        try:
            names = [
                entry.name for entry in os.scandir(self.root) if entry.is_dir() and not entry.name.startswith(".")
            ]
        except FileNotFoundError:
            return []
        return sorted(names)

    def paths(self, run_id: str) -> RunPaths:
        """The paths of an existing run.

        Raises:
            RunNotFoundError: No run has this id (also for anything that is not a plain folder name).
        """
        with contextlib.suppress(OSError, ValueError):  # too long for a name, or not encodable
            plain = run_id and not run_id.startswith(".") and run_id == Path(run_id).name
            if plain and (self.root / run_id).is_dir():
                return RunPaths(self.root / run_id)
        raise RunNotFoundError(f"There is no run {run_id!r} in {self.root}.")

    def record(self, run_id: str) -> dict[str, Any]:
        """The submitted record: ``id``, ``name``, ``created``, ``config``; of a damaged file, an empty config."""
        found = read_json(self.paths(run_id).config) or {}
        return {"id": run_id, "name": "", "created": 0.0, "config": {}, **found}

    def config(self, run_id: str) -> RunConfig:
        """The run's config.

        Raises:
            RunNotFoundError: No run has this id.
            ConfigError: The file is damaged.
        """
        return read_config(self.paths(run_id).config)

    def delete(self, run_id: str) -> None:
        """Deletes a run's folder.

        Raises:
            RunNotFoundError: No run has this id.
            StorageError: The folder cannot be removed.
        """
        paths = self.paths(run_id)
        try:
            doomed = self.root / f".deleted-{run_id}"
            paths.root.rename(doomed)
            shutil.rmtree(doomed)
        except OSError as exc:
            raise StorageError(f"The run {run_id} could not be deleted: {exc}.") from exc
