"""Runs on a real Ray cluster of two nodes: everything that is not the same for every executor."""

import csv
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from job_kit import PRELOAD, lives, make_config, plan, read_events, wait_for

from peft_studio.config.run_config import RunConfig, parse_config
from peft_studio.errors import ConfigError, JobError
from peft_studio.files import read_json
from peft_studio.jobs.executors.ray.executor import RayExecutor
from peft_studio.jobs.manager import JobManager
from peft_studio.processes.warm_client import WarmClient
from peft_studio.runs.claims import write_exit
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.reader import RunReader
from peft_studio.runs.store import RunStore
from peft_studio.settings import Settings, load_settings, prepare_home

PATIENCE = 90.0
Make = Callable[..., JobManager]


def with_resources(steps: int = 20, **resources: float) -> RunConfig:
    return parse_config({**make_config(steps).model_dump(mode="json"), "resources": resources})


@pytest.fixture
def make_ray(home: Path, ray_cluster: Any) -> Iterator[Make]:
    """Builds started managers whose runs go to the cluster; afterwards nothing of them may be left on it."""
    made = []

    def make(module: str = "fake_worker", auto_resume: bool = True) -> JobManager:
        settings = Settings(home=home, max_running=1, threads=1, auto_resume=auto_resume)
        prepare_home(settings)
        warm = WarmClient(settings.cache_dir / "warm.log", threads=1, preload=PRELOAD)
        executor = RayExecutor(home, 1, ray_cluster.address, (0.25, 0.0), module)
        manager = JobManager(settings, warm, executor, estimate=lambda _config: {})
        manager.start(preload_engine=False)
        made.append(manager)
        return manager

    yield make
    base = Path(f"/tmp/peft-studio-{(home / 'ray-name').read_text()}")
    wait_for(lambda: not list(base.glob("run-*")), PATIENCE)
    shutil.rmtree(base, ignore_errors=True)
    for manager in made:
        manager.close()
    assert not [process for process in psutil.process_iter() if _names(process, str(base))]


def _names(process: psutil.Process, text: str) -> bool:
    try:
        return lives(process) and text in " ".join(process.cmdline())
    except psutil.Error:
        return False


def status_is(manager: JobManager, run_id: str, *statuses: str) -> Any:
    """Waits for a status, and returns what is known of the run then."""
    return wait_for(lambda: info if (info := manager.library.info(run_id)).status in statuses else None, PATIENCE)


def steps_of(manager: JobManager, run_id: str) -> list[int]:
    return [item["step"] for item in manager.library.metrics(run_id) if item["name"] in ("loss", "train/loss")]


def test_a_node_that_dies_costs_nothing_but_time(make_ray: Make, ray_cluster: Any) -> None:
    ray_cluster.add_node(num_cpus=2, object_store_memory=80_000_000)  # in place of the one that will be lost
    manager = make_ray()
    run_id = manager.submit(
        with_resources(150, cpus=2), plan(sleep=0.02, checkpoint_every=10)
    )  # too much for the head
    paths = manager.store.paths(run_id)
    blocked = manager.submit(with_resources(5, cpus=64), plan())
    small = manager.submit(with_resources(5, cpus=0.25), plan())
    wait_for(lambda: (manager.library.info(run_id).checkpoint_step or 0) >= 20, PATIENCE)  # while it trains
    first = (read_json(paths.claim) or {})["host"].removeprefix("ray:")
    assert manager.library.info(run_id).status == "running" and manager.library.info(run_id).loss is not None
    assert "no node has 64 CPU" in manager.library.info(blocked).reason
    doomed = next(node for node in ray_cluster.worker_nodes if node.node_id == first)
    ray_cluster.remove_node(doomed, allow_graceful=False)
    info = status_is(manager, run_id, "finished")
    assert (info.attempts, info.step) == (1, 150)
    assert (read_json(paths.claim) or {})["host"].removeprefix("ray:") != first
    assert "went down" in (read_json(paths.attempts / "1" / "exit.json") or {})["lost"]
    assert steps_of(manager, run_id) == list(range(1, 151))
    kinds = [event["kind"] for event in read_events(paths.events)]
    assert kinds.count("resumed") == 1 and kinds.count("finished") == 1
    status_is(manager, small, "finished")  # what can never start does not hold up the others
    manager.delete(blocked)


def test_pause_resume_stop_and_an_app_that_is_gone_for_a_while(make_ray: Make) -> None:
    manager = make_ray(auto_resume=False)
    run_id = manager.submit(make_config(100_000), plan(sleep=0.005))
    wait_for(lambda: manager.library.info(run_id).step >= 5, PATIENCE)
    manager.pause(run_id)
    paused = status_is(manager, run_id, "paused")
    assert paused.checkpoint_step == paused.step
    manager.resume(run_id)
    wait_for(lambda: manager.library.info(run_id).step > paused.step, PATIENCE)
    manager.close()
    step = manager.library.info(run_id).step
    assert manager.library.info(run_id).status == "running"  # as far as anybody knows
    again = make_ray(auto_resume=False)
    wait_for(lambda: again.library.info(run_id).step > step + 5, PATIENCE)
    again.stop(run_id)
    info = status_is(again, run_id, "stopped")
    assert steps_of(again, run_id) == list(range(1, info.step + 1))
    assert again.store.paths(run_id).adapter.is_dir()


def test_the_same_results_as_here_from_data_that_is_sent(
    make_ray: Make, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "my rows.csv"
    with rows.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "answer"), *((f"the mill {i}", f"is near {i % 7}") for i in range(60))])
    training = {"max_steps": 4, "batch_size": 2, "eval_rows": 2, "eval_every": 2, "max_length": 40}
    task = {"id": "custom", "train_file": str(rows), "input_column": "text", "target_column": "answer"}
    config = {"model": {"id": str(tiny_model)}, "task": task, "method": {"name": "lora"}, "training": training}
    there = make_ray("peft_studio.worker")
    run_id = there.submit(parse_config(config))
    missing = there.submit(parse_config({**config, "model": {"id": "nano-lm"}}))
    model_gone = there.store.paths(missing)
    _change_model(model_gone, str(tmp_path))  # a folder that is not a model fails on the node, in words
    here = JobManager(Settings(home=tmp_path / "here", max_running=1, threads=1))
    here.start(preload_engine=False)
    try:
        other = here.submit(parse_config(config))
        status_is(here, other, "finished", "failed")
    finally:
        here.close()
    info = status_is(there, run_id, "finished", "failed")
    assert info.status == "finished", info.reason
    mine, theirs = (
        {(m["step"], m["name"]): m["value"] for m in x.library.metrics(r)} for x, r in ((there, run_id), (here, other))
    )
    compared = [key for key in theirs if "loss" in key[1]]
    assert len(compared) >= 5 and set(mine) == set(theirs)
    assert all(mine[key] == pytest.approx(theirs[key], abs=1e-6) for key in compared)
    saved = [m.store.paths(r).adapter / "adapter_model.safetensors" for m, r in ((there, run_id), (here, other))]
    assert saved[0].stat().st_size == saved[1].stat().st_size
    assert there.store.config(run_id).task.train_file == str(rows)  # what was asked for stays as it was
    assert status_is(there, missing, "failed").reason


def _change_model(paths: RunPaths, model: str) -> None:
    record = read_json(paths.config) or {}
    record["config"]["model"]["id"] = model
    paths.config.write_text(json.dumps(record))


def test_a_node_that_cannot_run_it_says_why(home: Path) -> None:
    pytest.importorskip("ray")
    from peft_studio.jobs.executors.ray.bridge import refuse

    run = RunStore(home / "runs").create(make_config())
    refuse(run, "The base model's folder /x does not exist on the Ray node n.")
    info = RunReader(run).info()
    assert (info.status, info.reason) == ("failed", "The base model's folder /x does not exist on the Ray node n.")


FAKE_BRIDGE = """
import sys
from multiprocessing.connection import Connection
app = Connection(int(sys.argv[2]))
app.send({"nodes": [([1.0, 0.0], [1.0, 0.0])]})
while command := app.recv():
    if command.get("force"):
        app.send({"settled": command["run"]})
"""


@pytest.fixture
def fake_bridge(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayExecutor]:
    """An executor with one CPU on a cluster that settles what is terminated by force. Needs no Ray."""
    real = subprocess.Popen
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: True)
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, **options: real([command[0], "-c", FAKE_BRIDGE, *command[3:]], **options)
    )
    executor = RayExecutor(home, 1, request=(0.6, 0.0))
    executor.open()
    wait_for(executor.ready)
    yield executor
    executor.close()


def test_a_run_without_a_place_counts_until_it_is_settled(fake_bridge: RayExecutor, home: Path) -> None:
    one, other = (RunStore(home / "runs").create(make_config()) for _ in range(2))
    assert fake_bridge.must_wait(one) is None
    fake_bridge.start(one)
    assert fake_bridge.pending(one) and fake_bridge.must_wait(one) is None
    wait = fake_bridge.must_wait(other)
    assert wait is not None and "no node has 0.6 CPU free" in wait.reason
    fake_bridge.terminate(one, force=True)
    wait_for(lambda: not fake_bridge.pending(one) and fake_bridge.must_wait(other) is None)


def test_what_a_silent_bridge_told_is_not_believed(
    fake_bridge: RayExecutor, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the clock on the wall says; and while nothing is known, claimants live."""
    run = RunStore(home / "runs").create(make_config())
    real, clock = time.time, time.monotonic
    monkeypatch.setattr(time, "time", lambda: real() - 7200)
    assert fake_bridge.ready()
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 16)
    assert not fake_bridge.ready() and fake_bridge.must_wait(run) is not None
    with pytest.raises(JobError, match="cannot be reached"):
        fake_bridge.start(run)
    assert not fake_bridge.pending(run)
    claim = {"host": "ray:abc", "pid": os.getpid(), "process_start": 1.0, "actor": "a"}
    run.claim.write_text(json.dumps(claim))
    assert fake_bridge.lives(run, claim) and not fake_bridge.lives(run, {**claim, "actor": "b"})
    write_exit(run, code=0, signal=None)
    assert not fake_bridge.lives(run, claim)


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    settings = load_settings({"PEFT_STUDIO_EXECUTOR": "ray", "PEFT_STUDIO_HOME": str(tmp_path)})
    with pytest.raises(ConfigError, match=r"pip install 'ray==2\.60\.\*'"):
        JobManager(settings)


def test_a_cluster_that_cannot_be_reached(home: Path) -> None:
    pytest.importorskip("ray")
    executor = RayExecutor(home, 1, "127.0.0.1:1")
    run = RunStore(home / "runs").create(make_config())
    executor.open()
    try:
        assert not executor.ready()
        wait = wait_for(
            lambda: found if (found := executor.must_wait(run)) and ":" in found.reason else None, PATIENCE
        )
        assert wait.reason.startswith("waits for the Ray cluster: ") and "127.0.0.1" in wait.reason
        claim = {"host": "ray:abc", "pid": os.getpid(), "process_start": 1.0}
        run.claim.write_text(json.dumps(claim))
        assert executor.lives(run, claim)  # nothing is known of it
    finally:
        executor.close()
