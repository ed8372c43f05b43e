"""A mix of adapters as a run that is over: it answers, is looked into, taken away and deleted like any other."""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peft_studio.archives.run_archive import staging_folder
from peft_studio.config.run_config import RunConfig
from peft_studio.errors import StorageError
from peft_studio.files import atomic_write
from peft_studio.runs.events import EventWriter
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.store import RunStore


def keep_mix(
    store: RunStore,
    config: RunConfig,
    name: str,
    owner: str,
    mixed: Sequence[dict[str, Any]],
    write: Callable[[Path], dict[str, Any]],
) -> str:
    """Makes a run of a mix.

    Args:
        store: Where it goes.
        config: Settings of the first adapter's run: model, task and method.
        name: What people call it.
        owner: Id of the visitor whose it is; empty for the owner of the app.
        mixed: What it was mixed from: ``run``, ``name`` and ``weight`` of each, which the log keeps.
        write: Writes the adapter into a folder; returns facts of it, ``parameters`` among them.

    Returns:
        The id of the run.

    Raises:
        StudioError: As ``write`` raises.
        StorageError: The disk is full or the folder is not writable.
    """
    staging, run_id = staging_folder(store), store.new_id(config)
    paths = RunPaths(staging)
    record: dict[str, Any] = {"v": 1, "id": run_id, "name": name, "created": time.time()}
    record |= {"config": config.model_dump(mode="json")} | ({"owner": owner} if owner else {})
    try:
        staging.mkdir(parents=True)
        made = write(paths.adapter)
        atomic_write(paths.config, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        _write_events(paths, config, mixed, made)
        atomic_write(staging / "exit.json", '{"code": null, "signal": null}\n')
        staging.rename(store.root / run_id)
    except OSError as exc:
        raise StorageError(f"The mix could not be kept: {exc.strerror or exc}.") from exc
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return run_id


def _write_events(paths: RunPaths, config: RunConfig, mixed: Sequence[dict[str, Any]], made: dict[str, Any]) -> None:
    parts = " + ".join(f"{part['weight']:g} × {part['name']} ({part['run']})" for part in mixed)
    size = sum(file.stat().st_size for file in paths.adapter.glob("*.safetensors"))
    with contextlib.closing(EventWriter(paths.events)) as write:
        write.emit("started", model={"id": config.model.id}, trainable_params=made["parameters"], mixed=list(mixed))
        write.emit("note", message=f"Mixed, not trained ({made['way']}): {parts}.")
        write.emit("saved", path="adapter", step=0, bytes=size)
        write.emit("finished", step=0, summary={})
