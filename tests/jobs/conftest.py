"""Managers on a home of their own, whose workers are real processes that only pretend to train."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from job_kit import HERE, PRELOAD, family, lives, wait_for

from peft_studio.jobs.executors.local import LocalExecutor
from peft_studio.jobs.manager import JobManager
from peft_studio.jobs.warm_client import WarmClient
from peft_studio.settings import Settings, prepare_home

NODE = {"num_cpus": 2, "object_store_memory": 80_000_000}

MakeManager = Callable[..., JobManager]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home; afterwards none of its processes may be left."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")])))
    path = tmp_path / "home"
    yield path
    ours = [process for process in family(path) if process.pid != os.getpid()]
    for process in ours:
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
    """A Ray cluster of two nodes on this machine; ``TEST_RAY_ADDRESS`` names it, and its workers find ``fake_worker``."""
    pytest.importorskip("ray", reason="Ray is not installed; tests/requirements.txt names it")
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")])))
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    cluster.add_node(**NODE)
    patch.setenv("TEST_RAY_ADDRESS", cluster.address)
    yield cluster
    cluster.shutdown()
    patch.undo()
