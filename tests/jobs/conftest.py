"""Managers on a home of their own, whose workers are real processes that only pretend to train."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from job_kit import HERE, PRELOAD, family, lives, wait_for

from peft_studio.jobs.executors.local import LocalExecutor
from peft_studio.jobs.executors.ray.executor import RayExecutor
from peft_studio.jobs.manager import JobManager
from peft_studio.processes.warm_client import WarmClient
from peft_studio.settings import Settings, prepare_home

SMALL = {"object_store_memory": 80_000_000}  # for the nodes of a Ray cluster
EAGER = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}  # a dead node is soon known to be

MakeManager = Callable[..., JobManager]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home; afterwards none of its processes may be left."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")])))
    path = tmp_path / "home"
    yield path
    ours = [process for process in family(path) if process.pid != os.getpid()]
    for process in ours:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended this instant
            process.kill()
    wait_for(lambda: not any(lives(process) for process in ours))


@pytest.fixture
def make_manager(home: Path) -> Iterator[MakeManager]:
    """Builds started managers and closes them afterwards."""
    managers = []

    def make(
        max_running: int = 1,
        grace: float = 5.0,
        module: str = "fake_worker",
        start: bool = True,
        auto_resume: bool = False,
        memory: dict[str, int] | None = None,
    ) -> JobManager:
        settings = Settings(home=home, max_running=max_running, threads=1, auto_resume=auto_resume)
        prepare_home(settings)
        warm = WarmClient(settings.cache_dir / "warm.log", threads=1, preload=PRELOAD)
        executor = LocalExecutor(warm, 1, module)
        manager = JobManager(settings, warm, executor, grace, estimate=lambda _config: {"memory": memory})
        managers.append(manager)
        if start:
            manager.start(preload_engine=False)
        return manager

    yield make
    for manager in managers:
        manager.close()


@pytest.fixture
def manager(make_manager: MakeManager) -> JobManager:
    """A started manager that runs one run at a time."""
    return make_manager()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A Ray cluster of two nodes on this machine; its workers find ``fake_worker``."""
    pytest.importorskip("ray", reason="Ray is not installed; tests/requirements.txt names it")
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")])))
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": EAGER, **SMALL}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=2, **SMALL)
    yield cluster
    cluster.shutdown()
    patch.undo()


@pytest.fixture(scope="session")
def ray_executor(ray_cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Callable]]:
    """A home, and what makes the one executor of all its tests ready to run a module; runs take a quarter CPU."""
    home = tmp_path_factory.mktemp("ray")
    executor = RayExecutor(home, 1, ray_cluster.address, (0.25, 0.0))

    def make(_home: Path, module: str) -> RayExecutor:
        executor.module = module
        return executor

    yield home, make
    executor.close()
    shutil.rmtree(f"/tmp/peft-studio-{(home / 'ray-name').read_text()}", ignore_errors=True)
