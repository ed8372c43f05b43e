"""What survives: the app killed under running workers, two apps on one home, a warm server that dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from job_kit import family, make_config, plan, read_events, wait_for

from peft_studio.errors import JobError, StorageError
from peft_studio.files import read_json
from peft_studio.jobs.executors.local import LocalExecutor
from peft_studio.jobs.manager import JobManager
from peft_studio.processes.warm_client import WarmClient
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.store import RunStore
from peft_studio.settings import Settings, prepare_home

pytestmark = pytest.mark.faults
MakeManager = Callable[..., JobManager]


@pytest.fixture
def app(home: Path) -> Iterator[subprocess.Popen[str]]:
    """An app in a process of its own."""
    command = [sys.executable, "-m", "app_process", str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        yield process
        process.kill()


def test_a_new_app_picks_up_running_and_queued_runs(app: subprocess.Popen[str], make_manager: MakeManager) -> None:
    manager = make_manager(start=False)
    first = manager.submit(make_config(120), plan(sleep=0.01))
    second = manager.submit(make_config(3), plan())
    wait_for(lambda: manager.library.info(first).step >= 2)
    app.kill()
    app.wait()
    step = manager.library.info(first).step
    wait_for(lambda: manager.library.info(first).step > step + 5)  # nobody watches, and it goes on
    assert manager.library.info(second).status == "queued"
    manager.start(preload_engine=False)
    assert manager.library.info(first).status == "running"
    wait_for(lambda: manager.library.info(second).status == "finished")
    assert (manager.library.info(first).status, manager.library.info(first).step) == ("finished", 120)
    assert read_json(manager.store.paths(first).exit) is not None


def test_a_run_that_ends_while_no_app_lives_is_recorded(
    app: subprocess.Popen[str], make_manager: MakeManager, home: Path
) -> None:
    manager = make_manager(start=False)
    run_id = manager.submit(make_config(10_000), plan())
    paths = manager.store.paths(run_id)
    wait_for(lambda: manager.library.info(run_id).step >= 2)
    app.kill()
    app.wait()
    psutil.Process(read_json(paths.claim)["pid"]).children()[0].kill()
    wait_for(paths.exit.exists)
    assert manager.library.info(run_id).reason == "killed by signal 9"
    wait_for(lambda: not family(home))  # warm server and supervisor have gone, too


def test_two_apps_on_one_home(app: subprocess.Popen[str], make_manager: MakeManager) -> None:
    manager = make_manager(start=False)
    with pytest.raises(StorageError, match=rf"in use by another PEFT Studio \(process {app.pid}\)"):
        manager.start()
    app.kill()
    app.wait()
    manager.start(preload_engine=False)


def test_an_app_can_be_closed_and_started_again(make_manager: MakeManager) -> None:
    first = make_manager()
    run_id = first.submit(make_config(60), plan(sleep=0.01))
    wait_for(lambda: first.library.info(run_id).step >= 2)
    first.close()
    second = make_manager()
    wait_for(lambda: second.library.info(run_id).status == "finished")


def test_a_home_that_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        JobManager(Settings(home=tmp_path / "file")).start()


def test_warm_server_that_dies_is_replaced_and_nobody_waits(make_manager: MakeManager) -> None:
    manager = make_manager(max_running=2)
    first = manager.submit(make_config(10_000), plan())
    wait_for(lambda: manager.library.info(first).step >= 2)
    dead = manager._warm.pid
    os.kill(dead, signal.SIGKILL)
    second = manager.submit(make_config(3), plan())  # started cold
    wait_for(lambda: manager.library.info(second).status == "finished")
    assert manager.library.info(first).status == "running"
    manager._warm._started -= 100  # as if it had died long after its start
    wait_for(manager._warm.ready)
    assert manager._warm.pid != dead
    third = manager.submit(make_config(3), plan())
    wait_for(lambda: manager.library.info(third).status == "finished")
    manager.stop(first)
    wait_for(lambda: manager.library.info(first).status == "stopped")


def test_warm_server_that_never_comes_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peft_studio.processes.warm_client.PATIENCE", 3.0)
    settings = Settings(home=home, max_running=1, threads=1)
    prepare_home(settings)
    (home / "leave_at_once.py").write_text("raise SystemExit(5)")
    monkeypatch.setenv("PYTHONPATH", f"{home}:{os.environ['PYTHONPATH']}")
    warm = WarmClient(home / "warm.log", threads=1, preload=["leave_at_once"])
    executor = LocalExecutor(warm, 1, "fake_worker")
    manager = JobManager(settings, warm, executor, estimate=lambda _config: {"memory": {"weights": 9}})
    manager.start(preload_engine=False)
    run_id = manager.submit(make_config(3), plan())
    wait_for(lambda: manager.library.info(run_id).status == "finished")
    manager.close()


def test_worker_that_cannot_start_fails_in_words(make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peft_studio.jobs.scheduler.RETRY_PAUSE", 0.05)
    manager = make_manager(module="no_such_module")
    run_id = manager.submit(make_config())
    info = wait_for(lambda: manager.library.info(run_id) if manager.library.info(run_id).status == "failed" else None)
    assert "could not be started" in info.reason and "3 times" in info.reason
    assert "no_such_module" in manager.library.log_tail(run_id)
    manager.delete(run_id)


def test_an_executor_without_processes(make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_paths: RunPaths) -> None:
        raise JobError("No process could be started: Resource temporarily unavailable.")

    monkeypatch.setattr("peft_studio.jobs.scheduler.RETRY_PAUSE", 0.05)
    manager = make_manager(start=False)
    monkeypatch.setattr(manager.executor, "start", refuse)
    manager.start(preload_engine=False)
    run_id = manager.submit(make_config())
    wait_for(lambda: "temporarily unavailable" in manager.library.info(run_id).reason)


def test_a_run_is_claimed_once(home: Path) -> None:
    paths = RunStore(home / "runs").create(make_config(20), plan())
    command = [sys.executable, "-m", "fake_worker", str(paths.root)]
    with ThreadPoolExecutor() as pool:
        codes = list(pool.map(lambda _: subprocess.run(command, stdout=subprocess.DEVNULL).returncode, range(4)))
    assert sorted(codes) == [0, 3, 3, 3]
    assert [event["kind"] for event in read_events(paths.events)].count("started") == 1


def test_worker_of_a_deleted_run_leaves_quietly(home: Path) -> None:
    paths = RunStore(home / "runs").create(make_config(20), plan())
    RunStore(home / "runs").delete(paths.id)
    result = subprocess.run([sys.executable, "-m", "fake_worker", str(paths.root)], capture_output=True, text=True)
    assert result.returncode == 3 and not result.stderr and not paths.root.exists()


def test_terminating_the_supervisor_does_not_lose_the_run(make_manager: MakeManager) -> None:
    manager = make_manager()
    run_id = manager.submit(make_config(100), plan(sleep=0.01))
    wait_for(lambda: manager.library.info(run_id).step >= 2)
    os.kill(read_json(manager.store.paths(run_id).claim)["pid"], signal.SIGTERM)
    wait_for(lambda: manager.library.info(run_id).status == "finished")


def test_start_on_a_warm_app_is_quick(make_manager: MakeManager) -> None:
    manager = make_manager()
    wait_for(manager._warm.ready)
    began = time.time()
    run_id = manager.submit(make_config(3), plan())
    wait_for(lambda: manager.library.info(run_id).step >= 1)
    assert time.time() - began < 1.5
