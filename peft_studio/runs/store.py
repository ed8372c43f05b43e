"""All runs below one folder: made, listed, found and deleted."""

import contextlib
import json
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from peft_studio.config.run_config import RunConfig, parse_config
from peft_studio.errors import ConfigError, RunNotFoundError, StorageError, no_run
from peft_studio.files import atomic_write, read_json
from peft_studio.runs.paths import RunPaths


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


class RunStore:
    """All runs below one folder. Holds no state of its own: everything is read from the folders."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @staticmethod
    def new_id(config: RunConfig) -> str:
        """An id for a new run: its time, its method, and some random digits."""
        return f"{time.strftime('%Y%m%d-%H%M%S')}-{config.method.name}-{secrets.token_hex(3)}"

    def create(self, config: RunConfig, name: str = "", run_id: str = "", owner: str = "") -> RunPaths:
        """Writes a new run, which is queued from then on.

        The folder appears under its final name only when it is complete.

        Args:
            config: What to run.
            name: A title for people; the method's name with its main parameter is used when empty.
            run_id: From ``new_id``, when something had to know it before.
            owner: Id of the visitor whose it is; empty for the owner of the app.

        Raises:
            StorageError: The disk is full or the folder is not writable.
        """
        run_id = run_id or self.new_id(config)
        record = {"v": 1, "id": run_id, "name": name, "created": time.time(), "config": config.model_dump(mode="json")}
        record |= {"owner": owner} if owner else {}
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
            folders = [entry.name for entry in os.scandir(self.root) if entry.is_dir()]
        except FileNotFoundError:
            return []
        return sorted(name for name in folders if not name.startswith("."))

    def paths(self, run_id: str) -> RunPaths:
        """The paths of an existing run.

        Raises:
            RunNotFoundError: No run has this id (also for anything that is not a plain folder name).
        """
        with contextlib.suppress(OSError, ValueError):  # too long for a name, or not encodable
            plain = run_id and not run_id.startswith(".") and run_id == Path(run_id).name
            if plain and (self.root / run_id).is_dir():
                return RunPaths(self.root / run_id)
        raise RunNotFoundError(no_run(run_id))

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
