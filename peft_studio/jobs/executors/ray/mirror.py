"""A run's folder in the app while its worker runs on a Ray node: what is sent there, and what is copied back."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import ray

from peft_studio.files import read_json
from peft_studio.jobs.executors.ray.node import Items, Marks
from peft_studio.machine.path_policy import resolve
from peft_studio.models.catalog import find_card
from peft_studio.runs.paths import RunPaths

_DATA_FILES = ("train_file", "validation_file", "test_file")


class Mirror:
    """Copies what a worker writes into the run's folder. Nothing is lost or doubled when it is made anew at any time.

    Args:
        paths: The run's folder in the app.

    Attributes:
        fetched: The files and folders that are here.
    """

    def __init__(self, paths: RunPaths) -> None:
        self._paths = paths
        self.fetched: dict[str, Marks] = {}
        for old in paths.root.glob(".*.old"):  # the exchange below was cut short
            target = old.with_name(old.name[1 : -len(".old")])
            shutil.rmtree(old) if target.exists() else old.rename(target)

    def sizes(self) -> dict[str, int]:
        """How much of the growing files is here, in bytes: the files themselves say it."""
        growing = (self._paths.events, self._paths.log)
        return {path.name: path.stat().st_size if path.exists() else 0 for path in growing}

    def append(self, grown: dict[str, bytes]) -> None:
        """Appends what is new in the growing files.

        Raises:
            OSError: The disk is full.
        """
        for path in (self._paths.events, self._paths.log):
            if data := grown[path.name]:
                with path.open("ab", buffering=0) as file:
                    while data:
                        data = data[file.write(data) :]

    def fetch(self, items: Items, get: "Callable[[ray.ObjectRef[bytes]], bytes]") -> None:
        """Fetches files and folders that have changed; each takes its place when it is complete.

        Call this only when the growing files are complete up to the time at which the items were read: a run must
        not be able to go on from a checkpoint that is newer than its events.

        Raises:
            OSError: The disk is full.
        """
        for name, (marks, files) in items.items():
            if self.fetched.get(name) == marks or not _is_plain(name):
                continue
            draft = self._paths.root / ".incoming"
            shutil.rmtree(draft, ignore_errors=True)
            if "." not in files:
                (draft / name).mkdir(parents=True)  # an empty folder is one, too
            for file, data in files.items():
                if all(map(_is_plain, Path(file).parts)):
                    (draft / name / file).parent.mkdir(parents=True, exist_ok=True)
                    (draft / name / file).write_bytes(get(data))
            target, old = self._paths.root / name, self._paths.root / f".{name}.old"
            if target.is_dir():
                target.rename(old)
            (draft / name).rename(target)
            self.fetched[name] = marks
            for folder in (old, draft):
                shutil.rmtree(folder, ignore_errors=True)


def pack(paths: RunPaths) -> tuple[dict[str, Path | bytes], str]:
    """What a node needs for a run.

    Returns:
        What to send, by name in the run's folder there, with the config as the worker is to see it; and the folder of
        the base model, if it is neither embedded nor from the Hub.
    """
    record = read_json(paths.config) or {}
    config = record.get("config") or {}
    resources = config.pop("resources", None) or {}  # of where a run is placed, its worker needs no more
    config["resources"] = {name: value for name, value in resources.items() if name in ("device", "snapshots")}
    # The growing files go on there where they end here, so that the sizes of the copies say what is new.
    sent = (paths.extended, paths.events, paths.log, *sorted(paths.checkpoint.rglob("*")))
    files: dict[str, Path | bytes] = {str(path.relative_to(paths.root)): path for path in sent if path.is_file()}
    task, model = config.get("task") or {}, config.get("model") or {}
    for name in filter(task.get, _DATA_FILES):
        there = f".data/{name}/{Path(task[name]).name}"  # relative to the folder in which the worker runs
        files[there] = resolve(task[name])
        task[name] = there
    folder = Path(str(model.get("id", ""))).expanduser().absolute()
    is_own = find_card(str(model.get("id", ""))) is None and folder.is_dir()
    if is_own:
        model["id"] = str(folder)
    files[paths.config.name] = json.dumps(record, ensure_ascii=False).encode()
    return files, str(folder) if is_own else ""


def _is_plain(name: str) -> bool:
    return name not in ("", "/") and not name.startswith(".")
