"""A disk that is really full, or really read-only: a small file system of its own, mounted for the test.

As root it is mounted here. Anybody else runs these tests again in a user namespace, where mounting is allowed.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from job_kit import PRELOAD, make_config, plan, read_events, wait_for
from starlette.applications import Starlette
from starlette.testclient import TestClient

from peft_studio.config.run_config import parse_config
from peft_studio.errors import StorageError
from peft_studio.jobs.executors.local import LocalExecutor
from peft_studio.jobs.manager import JobManager
from peft_studio.processes.warm_client import WarmClient
from peft_studio.runs.curves import raw_metrics
from peft_studio.runs.housekeeping import set_star
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.store import RunStore
from peft_studio.settings import Settings, prepare_home
from peft_studio.ui.routes import routes

pytestmark = pytest.mark.faults
ROOT = Path(__file__).resolve().parents[2]
INSIDE = "PEFT_STUDIO_TEST_INSIDE"  # set in the namespace
MakeManager = Callable[..., JobManager]


class Disk:
    """A small file system.

    Attributes:
        path: Where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def mount(self, size: str) -> bool:
        """Mounts it; False when that is not allowed."""
        self.path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(self.path)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def fill(self) -> Path:
        """Takes every free byte; returns what to remove to have them back."""
        filler = self.path / "filler"
        with filler.open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while file.write(b"x" * size):
                        pass
                except OSError:
                    continue
        return filler

    def change(self, how: str) -> None:
        """Mounts it again: ``ro``, ``rw``, or ``size=...``."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.path)], check=True)

    @staticmethod
    def freeze(folder: Path) -> None:
        """Lets nothing in a folder be made, changed or removed; files that are open already can be written."""
        subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)

    @staticmethod
    def thaw(folder: Path) -> None:
        """Ends that."""
        subprocess.run(["umount", "-l", str(folder)], check=True)

    def unmount(self) -> None:
        """Ends it, busy or not."""
        subprocess.run(["umount", "-l", str(self.path)], check=True)


def _again_in_a_namespace(request: pytest.FixtureRequest) -> None:
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-m", "pytest", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, request.node.nodeid], cwd=ROOT, env={**os.environ, INSIDE: "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if "unshare" in done.stderr:
        pytest.skip(f"This machine lets nobody mount a file system, not even in a namespace: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout
    pytest.skip("passed in a user namespace of its own")


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    """A file system of 4 MB."""
    disk = Disk(tmp_path / "disk")
    if not disk.mount("4m"):
        assert INSIDE not in os.environ, "mounting failed in the namespace, too"
        _again_in_a_namespace(request)
    yield disk
    disk.unmount()


@pytest.fixture
def home(disk: Disk, home: Path) -> Path:
    """A home on that disk; the fixture of the same name sees to its processes."""
    home.symlink_to(disk.path, target_is_directory=True)
    return home


def steps_of(paths: RunPaths) -> list[int]:
    """The steps whose losses are in the log."""
    return [value["step"] for value in raw_metrics(paths) if value["name"] == "train/loss"]


def test_the_disk_fills_up_while_a_run_trains(disk: Disk, make_manager: MakeManager) -> None:
    manager = make_manager()
    run = manager.submit(make_config(400), plan(sleep=0.005, checkpoint_every=5))
    waiting = manager.submit(make_config(400), "waits")
    manager.hold(waiting)
    paths = manager.store.paths(run)
    wait_for(lambda: manager.library.info(run).checkpoint_step)
    filler = disk.fill()
    info = wait_for(lambda: manager.library.info(run) if manager.library.info(run).status == "failed" else None)
    assert "The disk is full" in info.reason or "could not be written" in info.reason
    assert steps_of(paths) == list(range(1, info.step + 1)) and info.checkpoint_step
    disk.fill()  # what was kept for the last words is free again
    for ask in (
        lambda: manager.submit(make_config()),
        lambda: manager.pause_queue(),
        lambda: manager.hold(waiting, held=False),
        lambda: manager.resume(run),
    ):
        with pytest.raises(StorageError, match="No space left on device"):
            ask()
    manager.delete(waiting)  # deleting must work, of all things
    assert [info.id for info in manager.library.list()] == [run] and not list(manager.store.root.glob(".new-*"))
    filler.unlink()
    manager.resume(run)
    wait_for(lambda: manager.library.info(run).status == "finished")
    assert steps_of(paths) == list(range(1, 401))


def test_an_app_starts_on_a_full_disk(disk: Disk, make_manager: MakeManager) -> None:
    first = make_manager()
    run = first.submit(make_config(3), plan())
    wait_for(lambda: first.library.info(run).status == "finished")
    waiting = RunStore(disk.path / "runs").create(make_config(3), plan()).id
    first.pause_queue()
    first.close()
    filler = disk.fill()
    second = make_manager()
    assert {info.id: info.status for info in second.library.list()} == {run: "finished", waiting: "queued"}
    assert second.library.series(run)["train"]["step"] == [1, 2, 3]
    with pytest.raises(StorageError, match="No space left"):
        second.pause_queue(False)
    filler.unlink()
    second.pause_queue(False)
    wait_for(lambda: second.library.info(waiting).status == "finished")


REAL = {"max_steps": 24, "batch_size": 2, "eval_every": 100, "eval_rows": 2, "max_length": 300}


def test_a_real_run_on_a_disk_that_fills_up(disk: Disk, home: Path, tiny_model: Path) -> None:
    """The last good checkpoint stays whole through failing ones, and the run goes on from it once there is space."""
    settings = Settings(home=home, max_running=1, threads=1, auto_resume=False)
    prepare_home(settings)
    warm = WarmClient(Path(f"{home}.log"), threads=1)
    manager = JobManager(settings, warm, LocalExecutor(warm, 1, "eager_worker"), estimate=lambda _: {"memory": None})
    config = parse_config({"model": {"id": str(tiny_model)}, "method": {"name": "lora"}, "training": REAL})
    manager.start(preload_engine=False)
    run = manager.submit(config)
    paths = manager.store.paths(run)
    wait_for(lambda: manager.library.info(run).checkpoint_step, 90)
    filler = disk.fill()
    info = wait_for(lambda: manager.library.info(run) if manager.library.info(run).status == "failed" else None, 60)
    assert "No space left" in info.reason or "The disk is full" in info.reason
    assert steps_of(paths) == list(range(1, info.step + 1))
    assert not [finding for finding in manager.library.findings(run) if finding.id == "damaged"]
    filler.unlink()
    manager.resume(run)
    wait_for(lambda: manager.library.info(run).status == "finished", 90)
    assert any(event["kind"] == "resumed" for event in read_events(paths.events))
    assert steps_of(paths) == list(range(1, REAL["max_steps"] + 1))
    manager.close()


def test_a_run_whose_folder_becomes_read_only(disk: Disk, make_manager: MakeManager) -> None:
    manager = make_manager()
    run = manager.submit(make_config(2000), plan(sleep=0.005, checkpoint_every=5))
    wait_for(lambda: manager.library.info(run).checkpoint_step)
    folder = disk.path / "runs" / run
    disk.freeze(folder)
    info = wait_for(lambda: manager.library.info(run) if manager.library.info(run).status == "failed" else None)
    assert "Read-only file system" in info.reason
    assert steps_of(manager.store.paths(run)) == list(range(1, info.step + 1)) and info.checkpoint_step
    for ask in (manager.delete, manager.resume):
        with pytest.raises(StorageError, match=r"Read-only file system|busy"):
            ask(run)
    disk.thaw(folder)
    manager.resume(run)
    wait_for(lambda: manager.library.info(run).step > info.step)
    manager.stop(run)
    wait_for(lambda: manager.library.info(run).status == "stopped")


def test_an_app_on_a_read_only_home_shows_what_is_there(disk: Disk, home: Path, make_manager: MakeManager) -> None:
    first = make_manager()
    run = first.submit(make_config(3), plan())
    wait_for(lambda: first.library.info(run).status == "finished")
    queued = RunStore(disk.path / "runs").create(make_config(3), plan()).id
    first.close()
    disk.change("ro")
    settings = Settings(home=home, max_running=1, threads=1)
    warm = WarmClient(settings.cache_dir / "warm.log", threads=1, preload=PRELOAD)
    manager = JobManager(settings, warm, LocalExecutor(warm, 1, "fake_worker"), estimate=lambda _: {"memory": None})
    manager.start(preload_engine=False)
    assert "cannot be written" in manager.trouble and str(home) in manager.trouble
    assert {info.id for info in manager.library.list()} == {run, queued}
    assert manager.library.series(run)["train"]["step"] == [1, 2, 3]
    with TestClient(Starlette(routes=routes(manager))) as client:
        assert client.get("/studio/runs.json").status_code == 200
        refused = client.post(f"/studio/runs/{queued}/stop", headers={"Origin": "http://testserver"})
        assert refused.status_code == 409 and "Read-only file system" in refused.json()["error"]
    for ask in (lambda: manager.submit(make_config()), lambda: set_star(manager.store.paths(run), True)):
        with pytest.raises(StorageError, match="Read-only file system"):
            ask()
    time.sleep(0.5)
    assert manager.library.info(queued).status == "queued"  # it waits; nobody tries to start it
    manager.close()
    disk.change("rw")
    third = make_manager()
    wait_for(lambda: third.library.info(queued).status == "finished")


def test_the_real_kernel_says_no_space(tmp_path: Path) -> None:
    """Needs no mount: /dev/full refuses every byte, and a limit on file sizes cuts a write short."""
    paths = RunStore(tmp_path).create(make_config(5), plan())
    paths.events.symlink_to("/dev/full")
    command = [sys.executable, "-m", "fake_worker", str(paths.root)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "No space left on device" in done.stderr
    assert json.loads(paths.exit.read_text())["code"] == 1
    shutil.rmtree(paths.root)
