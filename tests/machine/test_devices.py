"""What a machine has is read from nvidia-smi or the driver, here from imitations of both."""

import stat
from pathlib import Path

import pytest

from peft_studio.errors import ConfigError
from peft_studio.machine import devices
from peft_studio.machine.devices import Devices, Gpu, count_gpus, find_devices, find_gpus, free_memory, restrict

SMI = """#!/bin/sh
case "$1" in
  *memory.total*) printf 'GPU-11aa, NVIDIA H200, 143771\\nGPU-22bb, NVIDIA GB10, [N/A]\\n' ;;
  *) printf 'GPU-11aa, 1024\\nGPU-22bb, [N/A]\\n' ;;
esac
"""


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called nvidia-smi, the first on the path."""
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    find_gpus.cache_clear()
    yield program
    find_gpus.cache_clear()


def test_gpus_as_the_command_lists_them(smi: Path) -> None:
    first, second = find_gpus()
    assert (str(first), str(second)) == ("H200, 140 GB", "GB10")
    assert free_memory() == {"GPU-11aa": 1 << 30}
    assert find_devices(None, 2).choices() == [
        ("Automatic: a free GPU", "auto"),
        ("GPU 0: H200, 140 GB", "cuda:0"),
        ("GPU 1: GB10", "cuda:1"),
        ("All 2 GPUs, the model spread over them", "all"),
        ("CPU, 2 threads", "cpu"),
    ]


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("1", ["GPU-22bb"]),
        ("1,0", ["GPU-22bb", "GPU-11aa"]),
        ("GPU-22", ["GPU-22bb"]),
        ("", []),
        ("-1", []),
        ("0,-1,1", ["GPU-11aa"]),
        ("7", []),
        ("MIG-33cc", ["MIG-33cc"]),
    ],
)
def test_hidden_gpus_are_not_offered(smi: Path, visible: str, names: list[str]) -> None:
    assert [gpu.uuid for gpu in find_gpus(visible)] == names


def test_a_command_that_fails_is_a_machine_without(smi: Path) -> None:
    smi.write_text("#!/bin/sh\nexit 9\n")
    assert find_gpus() == () and free_memory() == {}


def test_the_driver_knows_names(tmp_path: Path) -> None:
    for number in (1, 0):
        folder = tmp_path / f"0000:0{number}:00.0"
        folder.mkdir()
        (folder / "information").write_text(f"Model: \t\t NVIDIA L4\nIRQ:   5\nGPU UUID: \t GPU-{number}\n")
    assert devices._by_driver(tmp_path) == [Gpu("GPU-0", "NVIDIA L4"), Gpu("GPU-1", "NVIDIA L4")]
    assert count_gpus(None, tmp_path) == 2 and count_gpus("1", tmp_path) == 1 and count_gpus("", tmp_path) == 0
    assert devices._by_driver(tmp_path / "none") == [] and count_gpus(None, tmp_path / "none") == 0


def test_only_what_is_there_can_be_chosen() -> None:
    none, one, apple = Devices(threads=1), Devices((Gpu("GPU-a", "A", 8 << 30),)), Devices(mps=True)
    assert none.choices() == [("Automatic: the CPU", "auto"), ("CPU, 1 thread", "cpu")]
    assert [value for _, value in one.choices()] == ["auto", "cuda:0", "cpu"]
    assert [value for _, value in apple.choices()] == ["auto", "mps", "cpu"]
    for machine, wish in ((none, "cuda"), (none, "all"), (one, "cuda:1"), (one, "mps"), (apple, "cuda")):
        with pytest.raises(ConfigError, match=f"'{wish}': this machine has no such device"):
            machine.check(wish)
    assert one.options("all") == one.options("cuda") == one.options("cuda:0") == one.options("auto") == [one.gpus]
    assert one.options("cpu") == none.options("auto") == []


def test_a_worker_hides_what_its_run_is_not_to_use(smi: Path) -> None:
    for wish, found in (("cpu", {"CUDA_VISIBLE_DEVICES": ""}), ("cuda:1", {"CUDA_VISIBLE_DEVICES": "GPU-22bb"})):
        env: dict[str, str] = {}
        restrict(wish, env)
        assert env == found
    env = {"CUDA_VISIBLE_DEVICES": "1"}
    restrict("auto", env)
    restrict("cuda:0", env)
    assert env == {"CUDA_VISIBLE_DEVICES": "GPU-22bb"}
    with pytest.raises(ConfigError, match="Allowed: auto, cpu, cuda, cuda:0, all"):
        restrict("cuda:1", env)
