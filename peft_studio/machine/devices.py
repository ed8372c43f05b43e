"""What this machine can train on: CPU, NVIDIA GPUs, an Apple GPU; found without PyTorch and without starting CUDA."""

import platform
import shutil
import subprocess
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from peft_studio.errors import ConfigError

AUTO, CPU, MPS, CUDA, ALL = "auto", "cpu", "mps", "cuda", "all"
VISIBLE = "CUDA_VISIBLE_DEVICES"  # which GPUs a process sees, by number or UUID; none when empty
DRIVER = Path("/proc/driver/nvidia/gpus")
_ASK = "nvidia-smi"
_PATIENCE = 20.0  # seconds for its answer; a driver that was asleep takes some


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU.

    Attributes:
        uuid: Its name for ``CUDA_VISIBLE_DEVICES``.
        name: For people.
        memory: Bytes in all; None when nobody says.
    """

    uuid: str
    name: str
    memory: int | None = None

    def __str__(self) -> str:
        size = f", {self.memory / 2**30:.0f} GB" if self.memory else ""
        return f"{self.name.removeprefix('NVIDIA ')}{size}"


@dataclass(frozen=True)
class Devices:
    """What runs can be placed on.

    Attributes:
        gpus: NVIDIA GPUs; ``cuda:0`` is the first of them.
        mps: Whether there is an Apple GPU.
        threads: CPU threads of a worker.
    """

    gpus: tuple[Gpu, ...] = ()
    mps: bool = False
    threads: int = 1

    def choices(self) -> list[tuple[str, str]]:
        """What a person can choose: words, and the value of ``resources.device``."""
        cpu = f"CPU, {self.threads} thread{'s' if self.threads > 1 else ''}"
        best = "a free GPU" if len(self.gpus) > 1 else "the GPU" if self.gpus or self.mps else "the CPU"
        found = [(f"Automatic: {best}", AUTO)]
        found += [(f"GPU {number}: {gpu}", f"{CUDA}:{number}") for number, gpu in enumerate(self.gpus)]
        found += [(f"All {len(self.gpus)} GPUs, the model spread over them", ALL)] if len(self.gpus) > 1 else []
        return [*found, *([("Apple GPU", MPS)] if self.mps else []), (cpu, CPU)]

    def wants_gpu(self, wish: str) -> bool:
        """Whether a run with this ``resources.device`` will be on NVIDIA GPUs."""
        return bool(self.gpus) and wish not in (CPU, MPS)

    def options(self, wish: str) -> list[tuple[Gpu, ...]]:
        """The sets of GPUs of which a run may have any one.

        Raises:
            ConfigError: This machine has no such device.
        """
        self.check(wish)
        if not self.wants_gpu(wish):
            return []
        if wish == ALL:
            return [self.gpus]
        number = wish.partition(":")[2]
        return [(gpu,) for gpu in (self.gpus[int(number) :][:1] if number else self.gpus)]

    def check(self, wish: str) -> None:
        """Makes sure that there is such a device.

        Raises:
            ConfigError: There is none; the message says which there are.
        """
        known = [AUTO, CPU, *([MPS] if self.mps else [])]
        known += [CUDA, *(f"{CUDA}:{number}" for number in range(len(self.gpus))), ALL] if self.gpus else []
        if wish not in known:
            raise ConfigError(
                f"resources.device = {wish!r}: this machine has no such device. Allowed: {', '.join(known)}.",
                "resources.device",
            )


def find_devices(visible: str | None, threads: int) -> Devices:
    """What this machine has.

    Args:
        visible: ``CUDA_VISIBLE_DEVICES``; None when it is not set.
        threads: CPU threads of a worker.
    """
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return Devices(find_gpus(visible), apple, threads)


@lru_cache(maxsize=8)
def find_gpus(visible: str | None = None) -> tuple[Gpu, ...]:
    """The GPUs that a process sees, in the order in which CUDA numbers them under ``CUDA_DEVICE_ORDER=PCI_BUS_ID``.

    Args:
        visible: ``CUDA_VISIBLE_DEVICES``; None when it is not set.
    """
    every = _by_command() or _by_driver()
    if visible is None:
        return tuple(every)
    found: list[Gpu] = []
    for entry in map(str.strip, visible.split(",")):
        if entry.isdecimal():
            mine = every[int(entry) :][:1]
        elif entry.startswith("MIG-"):
            mine = [Gpu(entry, "part of a GPU")] if every else []
        else:
            mine = [gpu for gpu in every if entry and gpu.uuid.startswith(entry)]
        if len(mine) != 1:  # as CUDA does: what comes after an entry that names nothing does not count
            break
        found += mine
    return tuple(found)


def count_gpus(visible: str | None, driver: Path = DRIVER) -> int:
    """How many GPUs a process sees, without asking them.

    Args:
        visible: ``CUDA_VISIBLE_DEVICES``; None when it is not set.
        driver: Where the driver lists them.
    """
    there = sum(1 for _ in driver.iterdir()) if driver.is_dir() else 0
    if visible is None or not there:
        return there
    return sum(1 for entry in visible.split(",") if entry.strip() not in ("", "-1"))


def free_memory() -> dict[str, int]:
    """Free bytes of each GPU, by UUID; of those that say."""
    return {uuid: size for uuid, size in ((row[0], _bytes(row[1])) for row in _query("uuid,memory.free")) if size}


def restrict(wish: str, env: MutableMapping[str, str]) -> None:
    """Hides from a process what its run is not to use; only before it starts CUDA.

    Args:
        wish: The run's ``resources.device``.
        env: The process's environment.

    Raises:
        ConfigError: This machine has no such GPU.
    """
    if wish == CPU:
        env[VISIBLE] = ""
    elif ":" in wish:
        devices = Devices(find_gpus(env.get(VISIBLE)))
        env[VISIBLE] = devices.options(wish)[0][0].uuid


def _by_command() -> list[Gpu]:
    return [Gpu(row[0], row[1], _bytes(row[2])) for row in _query("uuid,name,memory.total")]


def _by_driver(driver: Path = DRIVER) -> list[Gpu]:
    """Where the command is missing, as in some containers: the driver knows names, but no sizes."""
    found = []
    for folder in sorted(driver.iterdir()) if driver.is_dir() else ():
        try:
            lines = (folder / "information").read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        if facts.get("GPU UUID"):
            found.append(Gpu(facts["GPU UUID"], facts.get("Model", "GPU")))
    return found


def _query(fields: str) -> list[list[str]]:
    """One row for each GPU; none when the command is missing or fails."""
    if shutil.which(_ASK) is None:
        return []
    command = [_ASK, f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines()]
    return [row for row in rows if len(row) == fields.count(",") + 1]


def _bytes(mebibytes: str) -> int | None:
    """None for ``[N/A]``, which GPUs say whose memory is the machine's."""
    return int(mebibytes) << 20 if mebibytes.isdecimal() else None
