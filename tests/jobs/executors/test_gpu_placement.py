"""Which GPU a run gets, on machines of which the tests only say what they have."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from job_kit import make_config, plan, wait_for

from peft_studio.config.run_config import RunConfig, parse_config
from peft_studio.errors import ConfigError
from peft_studio.files import read_json
from peft_studio.jobs.admission import Admission, Predictor
from peft_studio.jobs.executors.gpu_placement import GpuPlaces
from peft_studio.jobs.manager import JobManager
from peft_studio.machine.devices import Devices, Gpu
from peft_studio.runs.claims import claim_run
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.store import RunStore

GB = 1_000_000_000
TWO = Devices((Gpu("GPU-a", "A", 80 * GB), Gpu("GPU-b", "B", 80 * GB)))


def config_on(device: str) -> RunConfig:
    """A valid config with a device."""
    data = make_config().model_dump(mode="json")
    return parse_config({**data, "resources": {"device": device}})


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunPaths]:
    """Makes queued runs; with ``gpus``, ones that train on them."""

    def make(device: str = "auto", gpus: list[str] | None = None, needs: int | None = None) -> RunPaths:
        paths = RunStore(tmp_path).create(config_on(device), plan())
        if needs is not None:
            paths.predicted.write_text(json.dumps({"memory_bytes": needs}))
        if gpus is not None:
            assert claim_run(paths, "test", hold=False, gpus=gpus)
        return paths

    return make


def needs(paths: RunPaths) -> int | None:
    """As the predictor says it."""
    return (read_json(paths.predicted) or {}).get("memory_bytes")


def why(found: GpuPlaces, run: RunPaths, running: list[RunPaths]) -> str:
    """Why a run must wait; empty when it has its GPUs."""
    wait = found.must_wait(run, running, needs)
    return wait.reason if wait else ""


def places(max_running: int = 2, devices: Devices = TWO, **free: int) -> GpuPlaces:
    """Places on a machine with so much free memory."""
    return GpuPlaces(devices, max_running, lambda: {f"GPU-{name}": size for name, size in free.items()})


def test_one_run_for_each_gpu(make_run: Callable[..., RunPaths]) -> None:
    found = places()
    first, second, third = (make_run() for _ in range(3))
    assert why(found, first, []) == ""
    assert why(found, second, [first]) == ""
    assert {found.given(first), found.given(second)} == {("GPU-a",), ("GPU-b",)}
    assert why(found, third, [first, second]) == "waits for a free GPU"
    assert found.given(make_run("cpu")) == () and not found.wants(make_run("cpu"))


def test_claims_tell_a_new_app_who_is_where(make_run: Callable[..., RunPaths]) -> None:
    here, there = make_run(gpus=["GPU-a"]), make_run("cpu", gpus=[])
    found, run = places(), make_run()
    assert why(found, run, [here, there]) == "" and found.given(run) == ("GPU-b",)
    certain = make_run("cuda:0")
    assert why(found, certain, [here, there]) == "waits for GPU 0"
    by_hand = make_run()
    assert claim_run(by_hand, "cli", hold=False)  # CUDA takes the first GPU
    assert why(found, certain, [by_hand]) == "waits for GPU 0"


def test_all_gpus_are_given_to_one_run(make_run: Callable[..., RunPaths]) -> None:
    found, large, small = places(max_running=4), make_run("all"), make_run()
    assert why(found, large, [make_run(gpus=["GPU-b"])]) == "waits until all GPUs are free"
    assert why(found, large, [make_run("cpu", gpus=[])]) == ""
    assert found.given(large) == ("GPU-a", "GPU-b")
    assert why(places(), small, [make_run("all", gpus=["GPU-a", "GPU-b"])]) == "waits for a free GPU"


def test_memory_of_each_gpu(make_run: Callable[..., RunPaths]) -> None:
    other, large = make_run(gpus=["GPU-a"], needs=10 * GB), make_run(needs=50 * GB)
    assert why(places(a=70 * GB, b=40 * GB), large, [other]) == (
        "waits for GPU memory: needs about 50.0 GB, 40.0 GB free"
    )
    assert why(places(a=70 * GB, b=40 * GB), large, []) == ""  # alone it may try
    shared = places(max_running=4, a=70 * GB, b=40 * GB)
    assert why(shared, large, [other]) == "" and shared.given(large) == ("GPU-a",)
    # What the other has not taken yet is not free, whatever the driver says.
    other.predicted.write_text(json.dumps({"memory_bytes": 40 * GB}))
    assert "40.0 GB free" in why(shared, large, [other])
    assert why(places(a=70 * GB), make_run(needs=GB), [make_run(gpus=["GPU-a"])]) == ""


def test_memory_of_the_machine_is_for_runs_without_gpu(make_run: Callable[..., RunPaths]) -> None:
    admission = Admission(Predictor(lambda _config: {}), free=lambda: 5 * GB, places=places(max_running=3))
    trains = make_run(gpus=["GPU-a"], needs=60 * GB)
    assert admission.must_wait(make_run(needs=60 * GB), [trains]) is None
    assert admission.must_wait(make_run("cpu", needs=60 * GB), [trains]) is None
    beside = make_run("cpu", gpus=[], needs=GB)
    assert admission.must_wait(make_run("cpu", needs=60 * GB), [beside]).reason.startswith("waits for memory:")


def test_a_machine_without_gpus_says_nothing(make_run: Callable[..., RunPaths]) -> None:
    found, run = places(devices=Devices()), make_run()
    assert not found.wants(run) and found.given(run) is None


def test_a_run_of_another_machine_is_left_to_its_worker(make_run: Callable[..., RunPaths]) -> None:
    found, run = places(), make_run("cuda:7")
    assert why(found, run, [make_run(gpus=["GPU-a"])]) == "" and found.given(run) is None


def test_a_device_that_is_not_there_is_told_before_a_run_exists(make_manager: Callable[..., JobManager]) -> None:
    manager = make_manager(start=False)
    for device in ("cuda:1", "mps", "all"):
        with pytest.raises(ConfigError, match=rf"{device}': this machine has no such device\. Allowed: auto, cpu\."):
            manager.submit(config_on(device))
    assert manager.library.list() == []


def test_who_waits_for_a_gpu_lets_others_pass(make_run: Callable[..., RunPaths]) -> None:
    busy = [make_run(gpus=["GPU-a"]), make_run(gpus=["GPU-b"])]
    passing = [places().must_wait(make_run(device), busy, needs).holds_up for device in ("auto", "cuda:1", "all")]
    assert passing == [False, False, True]


def test_workers_are_told_their_gpus(make_manager: Callable[..., JobManager]) -> None:
    manager = make_manager(max_running=2, start=False)
    manager.executor._places = manager._scheduler._admission._places = places()
    runs = [manager.submit(config_on(device), plan(sleep=0.02)) for device in ("auto", "auto", "cpu")]
    manager.start(preload_engine=False)
    wait_for(lambda: all(manager.library.info(run).status == "finished" for run in runs))
    given = [(read_json(manager.store.paths(run).claim) or {})["gpus"] for run in runs]
    assert sorted(given[:2]) == [["GPU-a"], ["GPU-b"]] and given[2] == []
