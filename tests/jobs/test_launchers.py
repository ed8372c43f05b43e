"""Who trains a run of the command line: a worker of its own, a running app's queue, or a cluster."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from job_kit import make_config, plan, wait_for

from peft_studio.cli import launchers as hands
from peft_studio.cli.follow import Follower
from peft_studio.cli.launchers import ByApp, ByCluster, ByWorker, take_up
from peft_studio.config.run_config import parse_config
from peft_studio.errors import ConfigError, JobError
from peft_studio.files import has_app, read_json
from peft_studio.jobs.executors.ray.executor import RayExecutor
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.reader import RunInfo
from peft_studio.settings import Settings, prepare_home

Make = Callable[..., JobManager]


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of the command line only pretend to train."""
    monkeypatch.setattr(hands, "WORKER", "fake_worker")


def follow(manager: JobManager, paths: RunPaths, hand: Any, steps: int) -> RunInfo:
    return Follower(paths, hand, steps, manager.executor.lives).wait()


def test_without_an_app_it_starts_at_once(make_manager: Make) -> None:
    manager = make_manager(start=False)
    paths, hand = take_up(manager, make_config(5), plan(), "low")
    assert isinstance(hand, ByWorker)
    assert follow(manager, paths, hand, 5).status == "finished"
    claim = read_json(paths.claim) or {}
    assert claim["by"] == "cli" and "gpus" not in claim
    assert manager.queue.state().priority(paths.id) == "low"  # for an app in which it goes on


def test_with_an_app_and_a_priority_it_waits_its_turn(make_manager: Make) -> None:
    app, ours = make_manager(), make_manager(start=False)
    busy = app.submit(make_config(10_000), plan())
    wait_for(lambda: app.library.info(busy).step >= 1)
    low, hand = take_up(ours, make_config(5), plan(), "low")
    high, other = take_up(ours, make_config(5), plan(), "high")
    assert isinstance(hand, ByApp) and isinstance(other, ByApp)
    assert hand.words == "number 2 in the queue" and other.words == "number 1 in the queue" and not other.lost()
    app.stop(busy)
    assert follow(ours, low, hand, 5).status == follow(ours, high, other, 5).status == "finished"
    assert high.claim.stat().st_mtime_ns < low.claim.stat().st_mtime_ns
    assert {(read_json(paths.claim) or {})["by"] for paths in (low, high)} == {"app"}


def test_without_a_priority_an_app_is_not_asked(make_manager: Make) -> None:
    make_manager().pause_queue()
    ours = make_manager(start=False)
    paths, hand = take_up(ours, make_config(5), plan(), "")
    assert isinstance(hand, ByWorker) and follow(ours, paths, hand, 5).status == "finished"


def test_an_app_that_is_closed_leaves_the_run_in_the_queue(
    make_manager: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peft_studio.cli.follow.PATIENCE", 0.1)
    app, ours = make_manager(), make_manager(start=False)
    app.pause_queue()
    paths, hand = take_up(ours, make_config(5), plan(), "normal")
    assert hand.words == "the queue is paused"
    threading.Timer(0.5, app.close).start()
    with pytest.raises(JobError, match=r"The app was closed before it started the run .* stays in the queue"):
        follow(ours, paths, hand, 5)
    assert ours.library.info(paths.id).status == "queued"


def test_a_device_that_is_not_there_makes_no_run(make_manager: Make) -> None:
    manager = make_manager(start=False)
    config = parse_config({**make_config().model_dump(mode="json"), "resources": {"device": "cuda"}})
    with pytest.raises(ConfigError, match="no such device"):
        take_up(manager, config, plan(), "")
    assert manager.library.list() == []


def test_on_a_cluster(home: Path, ray_cluster: Any) -> None:
    settings = Settings(home=home, threads=1, executor="ray", ray_address=ray_cluster.address)
    prepare_home(settings)
    executor = RayExecutor(home, 1, ray_cluster.address, (0.25, 0.0), "fake_worker")
    manager = JobManager(settings, executor=executor)
    config = parse_config({**make_config(5).model_dump(mode="json"), "resources": {"cpus": 0.5}})
    paths, hand = take_up(manager, config, plan(), "")
    assert isinstance(hand, ByCluster) and has_app(home)
    info = follow(manager, paths, hand, 5)
    assert info.status == "finished" and info.step == 5
    assert str((read_json(paths.claim) or {})["host"]).startswith("ray:")
    assert not has_app(home)
    there = Path(f"/tmp/peft-studio-{(home / 'ray-name').read_text()}")
    wait_for(lambda: not list(there.glob("run-*")))
    there.rmdir()
