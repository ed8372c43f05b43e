"""A run's folder in the app while its worker runs on a Ray node: the mirror copies what the worker writes there."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft_studio.files import atomic_write, read_json
from peft_studio.models.catalog import find_card
from peft_studio.runs.paths import RunPaths

Read = Callable[[str, str, str, int], bytes]
"""Reads a piece of a file on the node: the item's name and stamp, the file, the offset."""

_DATA_FILES = ("train_file", "validation_file", "test_file")


class Mirror:
    """Copies what a worker writes into the run's folder. Nothing is lost or doubled when it is made anew at any time.

    Args:
        paths: The run's folder in the app.
        base: Bytes of ``events`` and ``log`` that were there when the worker was started.

    Attributes:
        fetched: The stamp of every file and folder that is here, by name.
    """

    def __init__(self, paths: RunPaths, base: dict[str, int]) -> None:
        self._paths = paths
        self._base = base
        self.fetched: dict[str, str] = {}
        self._drafts = paths.root / ".incoming"
        shutil.rmtree(self._drafts, ignore_errors=True)
        for old in paths.root.glob(".*.old"):  # the exchange below was cut short
            target = old.with_name(old.name[1 : -len(".old")])
            shutil.rmtree(old) if target.exists() else old.rename(target)

    def offsets(self) -> dict[str, int]:
        """How much of the growing files is here: the files themselves say it."""
        return {name: size - self._base[name] for name, size in sizes(self._paths).items()}

    def append(self, news: dict[str, Any]) -> None:
        """Appends what is new in the growing files.

        Raises:
            OSError: The disk is full.
        """
        for path, data in ((self._paths.events, news["events"]), (self._paths.log, news["log"])):
            if data:
                with path.open("ab", buffering=0) as file:
                    while data:
                        data = data[file.write(data) :]

    def fetch(self, items: dict[str, dict[str, Any]], read: Read, seconds: float) -> None:
        """Fetches files and folders that have changed, for about so long; each takes its place when it is complete.

        Call this only when the growing files are complete up to the time at which the items were frozen: a run must
        not be able to go on from a checkpoint that is newer than its events.

        Raises:
            OSError: The disk is full.
        """
        end = time.monotonic() + seconds
        for name, item in items.items():
            if self.fetched.get(name) == item["stamp"] or not _is_plain(name):
                continue
            if not self._fetch_item(name, item, read, end):
                return
            self._put_in_place(name, item)
            self.fetched[name] = item["stamp"]

    def _fetch_item(self, name: str, item: dict[str, Any], read: Read, end: float) -> bool:
        draft = self._drafts / f"{name}.{item['stamp']}"
        draft.mkdir(parents=True, exist_ok=True)
        for file, size in item["files"].items():
            if not all(map(_is_plain, Path(file).parts)):
                continue
            target = draft / file
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("ab") as out:
                while out.tell() < size:
                    if time.monotonic() > end:
                        return False
                    data = read(name, item["stamp"], file, out.tell())
                    if not data:
                        raise OSError(f"{name}/{file} became shorter on the node")
                    out.write(data)
        return True

    def _put_in_place(self, name: str, item: dict[str, Any]) -> None:
        draft, target = self._drafts / f"{name}.{item['stamp']}", self._paths.root / name
        if not item["is_folder"]:
            (draft / name).replace(target)
        else:
            old = target.with_name(f".{name}.old")
            if target.exists():
                target.rename(old)
            draft.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(self._drafts, ignore_errors=True)

    def finish(self, exit_text: str) -> None:
        """Writes how the worker ended, last of all; a supervisor that was killed has left nothing.

        Raises:
            StorageError: The disk is full.
        """
        if exit_text:
            atomic_write(self._paths.exit, exit_text)


def sizes(paths: RunPaths) -> dict[str, int]:
    """Lengths of the growing files in bytes, by the names under which the node knows them."""
    return {name: _size(path) for name, path in (("events", paths.events), ("log", paths.log))}


def pack(paths: RunPaths, folder: str) -> tuple[str, dict[str, Path], str]:
    """What a node needs for a run.

    Args:
        paths: The run.
        folder: The run's folder on the node.

    Returns:
        The config as the worker is to see it, in which the user's data files are those in its folder; the files to
        send by their names there; and the folder of the base model, if it is neither embedded nor from the Hub.
    """
    record = read_json(paths.config) or {}
    config = record.get("config") or {}
    resources = config.pop("resources", None) or {}  # of where a run is placed, its worker needs the device only
    config["resources"] = {name: value for name, value in resources.items() if name == "device"}
    task, files = config.get("task") or {}, {}
    for name in _DATA_FILES:
        if task.get(name):
            sent = f".data/{name}/{Path(task[name]).name}"
            files[sent] = Path(task[name])
            task[name] = str(Path(folder) / sent)
    model = config.get("model") or {}
    model_folder = _model_folder(str(model.get("id", "")))
    if model_folder:
        model["id"] = model_folder
    if paths.extended.exists():
        files[paths.extended.name] = paths.extended
    for path in sorted(paths.checkpoint.rglob("*")):
        if path.is_file():
            files[str(path.relative_to(paths.root))] = path
    return json.dumps(record, ensure_ascii=False), files, model_folder


def _model_folder(model_id: str) -> str:
    folder = Path(model_id).expanduser().absolute()
    return str(folder) if find_card(model_id) is None and folder.is_dir() else ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _is_plain(name: str) -> bool:
    return name not in ("", "/") and not name.startswith(".")
