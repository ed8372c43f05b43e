"""What runs take on the disk, and that only what may go goes."""

import json
import os
import time
from pathlib import Path

import pytest
from job_kit import make_config

from peft_studio.errors import InvalidStateError, StorageError
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.housekeeping import Housekeeper, set_star, tree_bytes
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.status import Status
from peft_studio.settings import Settings, prepare_home


def manager_with(home: Path, **limits: float) -> JobManager:
    """A manager that starts nothing."""
    settings = Settings(home=home, **limits)
    prepare_home(settings)
    return JobManager(settings)


def ended(manager: JobManager, kind: str = "finished", created: float = 0.0, size: int = 1000) -> RunPaths:
    """A run that is over, with an adapter and a checkpoint of so many bytes each."""
    paths = manager.store.create(make_config())
    record = json.loads(paths.config.read_text())
    paths.config.write_text(json.dumps({**record, "created": created or time.time()}))
    paths.events.write_text(json.dumps({"v": 1, "kind": kind, "step": 1, "summary": {}}) + "\n")
    for folder, name in (("adapter", "adapter_model.safetensors"), ("checkpoint", "state.bin")):
        (paths.root / folder).mkdir()
        (paths.root / folder / name).write_bytes(b"x" * size)
    paths.claim.write_text('{"pid": 1, "process_start": 1}')
    paths.exit.write_text('{"code": 0, "signal": null}')
    return paths


def test_sizes_add_up(tmp_path: Path) -> None:
    manager = manager_with(tmp_path)
    paths = ended(manager, size=5000)
    (tmp_path / "cache" / "figures").write_bytes(b"y" * 77)
    use = manager.keeper.measure(manager.library.list())
    (run,) = use.runs
    files = [file for file in paths.root.rglob("*") if file.is_file()]
    assert (run.id, run.checkpoint, run.adapter) == (paths.id, 5000, 5000)
    assert run.total == use.total == sum(file.stat().st_size for file in files) > 10_000
    assert use.others == 77 + (tmp_path / "cache" / "runs.json").stat().st_size
    assert (use.leftovers, use.warning) == (0, "") and use.free > 0
    json.dumps(use.to_dict())


def test_a_run_that_is_over_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = manager_with(tmp_path)
    over, queued = ended(manager), manager.store.create(make_config())
    manager.keeper.measure(manager.library.list())
    looks: list[str] = []
    monkeypatch.setattr("peft_studio.runs.housekeeping.tree_bytes", lambda path: looks.append(str(path)) or 0)
    manager.keeper.measure(manager.library.list())
    assert not any(over.id in look for look in looks) and any(queued.id in look for look in looks)


def test_links_are_neither_followed_nor_loops(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "file").write_bytes(b"12345")
    assert tree_bytes(tmp_path) < 1000


def test_quota(tmp_path: Path) -> None:
    manager = manager_with(tmp_path, quota_mb=0.02)
    ended(manager, size=5000)
    assert manager.keeper.measure(manager.library.list()).warning == ""
    manager.submit(make_config())
    ended(manager, size=2800)
    warned = manager.keeper.measure(manager.library.list())
    assert "of the 20 kB that are allowed" in warned.warning and "no new run" not in warned.warning
    ended(manager, size=3000)
    with pytest.raises(StorageError, match="no new run can start"):
        manager_with(tmp_path, quota_mb=0.02).submit(make_config())
    assert manager_with(tmp_path, quota_warn_mb=0.01).keeper.measure(manager.library.list()).warning


def test_retention_is_off_by_default(tmp_path: Path) -> None:
    manager = manager_with(tmp_path)
    ended(manager, created=1.0)
    assert manager.keep_house() == []


def test_retention_keeps_the_newest_and_whatever_is_starred_or_not_over(tmp_path: Path) -> None:
    manager = manager_with(tmp_path, keep_runs=2)
    now = time.time()
    old = [ended(manager, kind, now - 1000 + place) for place, kind in enumerate(("finished", "stopped", "failed"))]
    set_star(old[0], True)
    new = [ended(manager, created=now - 10 + place) for place in range(2)]
    queued = manager.store.create(make_config())
    running = manager.store.create(make_config())
    running.claim.write_text(json.dumps({"pid": os.getpid(), "process_start": _start()}))
    assert manager.keep_house() == [old[1].id, old[2].id]
    assert {info.id for info in manager.library.list()} == {run.id for run in (old[0], *new, queued, running)}
    set_star(old[0], False)
    assert manager.keep_house() == [old[0].id]


def test_retention_never_touches_a_paused_run(tmp_path: Path) -> None:
    manager = manager_with(tmp_path, keep_runs=1, keep_days=1)
    ended(manager)
    (info,) = manager.library.list()
    from dataclasses import replace

    paused = [replace(info, id=f"p{number}", status=Status.PAUSED, created=1.0, started=1.0) for number in range(5)]
    assert manager.keeper.outdated([info, *paused]) == []


def test_retention_by_days(tmp_path: Path) -> None:
    manager = manager_with(tmp_path, keep_days=7)
    old, new = ended(manager, created=time.time() - 8 * 86400), ended(manager, created=time.time() - 6 * 86400)
    assert manager.keep_house() == [old.id] and [info.id for info in manager.library.list()] == [new.id]


def test_a_start_triggers_retention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = manager_with(tmp_path, keep_runs=1)
    old, new = ended(manager, created=time.time() - 100), ended(manager)
    for part in (manager.executor, manager._scheduler):
        for name in ("open", "start"):
            monkeypatch.setattr(part, name, lambda: None, raising=False)
    manager.start(preload_engine=False)
    manager.close()
    assert not old.root.exists() and new.root.exists()


def test_a_new_run_triggers_retention(tmp_path: Path) -> None:
    manager = manager_with(tmp_path, keep_runs=1)
    old, new = ended(manager, created=time.time() - 100), ended(manager)
    manager.submit(make_config())
    assert not old.root.exists() and new.root.exists()


def test_freeing_a_checkpoint_keeps_the_rest(tmp_path: Path) -> None:
    manager = manager_with(tmp_path)
    paths = ended(manager, size=4321)
    before = manager.library.metrics(paths.id)
    assert manager.free_checkpoint(paths.id) == 4321 and manager.free_checkpoint(paths.id) == 0
    assert (
        not (paths.root / "checkpoint").exists()
        and paths.adapter.exists()
        and manager.library.metrics(paths.id) == before
    )
    assert manager.keeper.measure(manager.library.list()).runs[0].checkpoint == 0
    queued = manager.store.create(make_config())
    with pytest.raises(InvalidStateError, match="needs its checkpoint"):
        manager.free_checkpoint(queued.id)
    with pytest.raises(InvalidStateError, match="is paused"):
        manager.keeper.free_checkpoint(paths, "paused")


def test_leftovers_are_removed_once_they_are_old(tmp_path: Path) -> None:
    manager = manager_with(tmp_path)
    folders = [tmp_path / "runs" / name for name in (".new-x", ".deleted-y", ".import-z")]
    for folder in folders:
        folder.mkdir()
        (folder / "file").write_bytes(b"x" * 10)
    assert manager.keeper.measure([]).leftovers == 30 and manager.keeper.remove_leftovers() == 0
    for folder in folders[:2]:
        os.utime(folder, (1, 1))
    assert manager.keeper.remove_leftovers() == 20
    assert [folder.exists() for folder in folders] == [False, False, True]


def test_the_curve_files_of_older_versions_go_with_the_leftovers(tmp_path: Path) -> None:
    manager = manager_with(tmp_path)
    kept = tmp_path / "cache" / "curves" / "some-run.curves"
    kept.parent.mkdir()
    kept.write_bytes(b"x" * 30)
    assert manager.library.list() == [] and kept.exists()
    assert manager.keeper.remove_leftovers() == 30 and not kept.parent.exists()


def test_a_home_that_is_not_there_yet(tmp_path: Path) -> None:
    use = Housekeeper(Settings(home=tmp_path / "none")).measure([])
    assert (use.total, use.others, use.free) == (0, 0, 0)


def _start() -> float:
    import psutil

    return psutil.Process().create_time()
