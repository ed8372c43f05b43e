"""What belongs to whom: counted together, packed while it is read, deleted, and expired."""

import io
import json
import os
import time
import zipfile
from pathlib import Path

import pytest
from job_kit import make_config

from peft_studio.access.visitors import Role, Visitor, asking
from peft_studio.archives.run_archive import unpack_run
from peft_studio.errors import LimitError
from peft_studio.jobs.manager import JobManager
from peft_studio.machine.path_policy import mark_as_fetched, owner_mark
from peft_studio.runs.housekeeping import DAY, tree_bytes
from peft_studio.runs.paths import RunPaths
from peft_studio.settings import Access, Settings, prepare_home

ANN, BEN = Visitor("v-ann", Role.VISITOR), Visitor("v-ben", Role.VISITOR)


@pytest.fixture
def manager(tmp_path: Path) -> JobManager:
    """A public app's manager that starts nothing; things expire after ten days."""
    settings = Settings(home=tmp_path, access=Access.PUBLIC, most_idle_days=10)
    prepare_home(settings)
    return JobManager(settings)


def run_of(manager: JobManager, visitor: Visitor, created: float | None = None, running: bool = False) -> RunPaths:
    """A run that is over, or one at work in this process."""
    paths = manager.store.create(make_config(), owner=visitor.id)
    record = json.loads(paths.config.read_text())
    paths.config.write_text(json.dumps({**record, "created": created or time.time()}))
    if running:
        manager._index._lives = lambda _paths, _claim: True
        paths.claim.write_text(json.dumps({"pid": os.getpid(), "process_start": 1}))
        return paths
    paths.events.write_text(json.dumps({"v": 1, "kind": "finished", "step": 1, "summary": {}}) + "\n")
    (paths.root / "adapter").mkdir()
    (paths.root / "adapter" / "README.md").write_text("A card.\n")
    paths.claim.write_text('{"pid": 1, "process_start": 1}')
    paths.exit.write_text('{"code": 0, "signal": null}')
    return paths


def upload_of(home: Path, visitor: Visitor, size: int) -> Path:
    path = home / "uploads" / f"{owner_mark(visitor.id)}-{size:016x}" / "rows.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * size)
    return path


def fetched(home: Path, size: int, *visitors: Visitor) -> Path:
    path = home / "datasets" / f"set-{size}" / "train.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * size)
    for visitor in visitors:
        mark_as_fetched(path.parent, visitor.id)
    return path


def test_runs_uploads_and_fetched_data_are_counted_together(manager: JobManager, tmp_path: Path) -> None:
    run = tree_bytes(run_of(manager, ANN).root)
    upload_of(tmp_path, ANN, 1000)
    fetched(tmp_path, 200, ANN, BEN)
    fetched(tmp_path, 70)  # nobody's
    assert manager.belongings.kept([ANN.id]) == (run + 1200, run + 1200)
    assert manager.belongings.kept([BEN.id]) == (200, run + 1200)
    with asking(ANN), pytest.raises(LimitError, match="500 MB may be kept"):
        manager.share.check_kept(500e6)


def test_all_of_it_leaves_as_a_zip_piece_by_piece(manager: JobManager, tmp_path: Path) -> None:
    run, other = run_of(manager, ANN), run_of(manager, BEN)
    busy = run_of(manager, ANN, running=True)
    upload_of(tmp_path, ANN, 3_500_000)
    packed = manager.belongings.packed(ANN.id)
    with pytest.raises(LimitError, match="being packed already"):
        manager.belongings.packed(ANN.id)
    pieces = list(packed)
    assert max(map(len, pieces)) < 2**21 and sum(map(len, pieces)) > 3_500_000
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        assert archive.testzip() is None
        told = json.loads(archive.read("contents.json"))
        assert told["runs"] == [run.id] and told["left_out"] == [busy.id] and other.id not in str(told)
        assert len(archive.read(told["files"][0])) == 3_500_000
        taken = unpack_run(io.BytesIO(archive.read(f"runs/{run.id}.zip")), manager.store)
    assert manager.library.info(taken).status == "finished"
    abandoned = manager.belongings.packed(ANN.id)
    del abandoned  # whoever goes away lets go of the place
    assert list(manager.belongings.packed(ANN.id))


def test_all_of_it_is_deleted_and_nothing_else(manager: JobManager, tmp_path: Path) -> None:
    run, other, busy = run_of(manager, ANN), run_of(manager, BEN), run_of(manager, ANN, running=True)
    upload, kept = upload_of(tmp_path, ANN, 10), upload_of(tmp_path, BEN, 11)
    both, hers = fetched(tmp_path, 12, ANN, BEN), fetched(tmp_path, 13, ANN)
    assert manager.belongings.delete(ANN.id, manager.stop, manager.delete) == [busy.id]
    assert busy.stop.exists() and other.root.exists() and kept.exists() and both.exists()
    assert not (run.root.exists() or upload.parent.exists() or hers.parent.exists())
    assert manager.belongings.kept([ANN.id])[0] == tree_bytes(busy.root)


def test_what_is_not_visited_expires(manager: JobManager, tmp_path: Path) -> None:
    now = time.time()
    old, new = run_of(manager, ANN, now - 11 * DAY), run_of(manager, BEN, now - 9 * DAY)
    visited = run_of(manager, Visitor("v-cid", Role.VISITOR), now - 30 * DAY)
    busy = run_of(manager, Visitor("v-dot", Role.VISITOR), now - 30 * DAY, running=True)
    owners = run_of(manager, Visitor("", Role.OWNER), now - 30 * DAY)
    nobodys = fetched(tmp_path, 14, Visitor("v-gone", Role.VISITOR))
    os.utime(nobodys.parent, (now - 30 * DAY, now - 30 * DAY))
    manager.belongings.visited("v-cid")
    assert manager.belongings.expire(manager.delete, now) == [ANN.id]
    assert not old.root.exists() and not nobodys.parent.exists()
    assert all(paths.root.exists() for paths in (new, visited, busy, owners))
    again = JobManager(manager.settings)  # the visit is remembered
    assert again.belongings.expire(again.delete, now + 2 * DAY)[0] == BEN.id and visited.root.exists()


def test_nothing_expires_where_no_days_are_set(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, access=Access.CLASS)
    prepare_home(settings)
    manager = JobManager(settings)
    run = run_of(manager, ANN, 1e9)
    assert manager.belongings.expire(manager.delete) == [] and run.root.exists()
