"""What this machine does with 16-bit numbers (bfloat16), and which precision ``training.precision: auto`` becomes.

Found without PyTorch. A processor without instructions for them computes in bf16 all the same, twenty times slower
than in float32 (measured on AVX2).
"""

import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from peft_studio.machine.devices import AUTO, CPU, CUDA, MPS

FP32, BF16 = "fp32", "bf16"
CPUINFO = Path("/proc/cpuinfo")
_KINDS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 bf16", "bf16": "Arm bf16"}
"""What the kernel calls the instructions that multiply matrices of such numbers, and what people call them."""
_APPLE = "hw.optional.arm.FEAT_BF16"
AMPERE = (8, 0)  # the first compute capability with such instructions

FAST_FROM = {CPU: 20_000_000, CUDA: 300_000_000}
"""Parameters from which a step in bf16 is so much faster that ``auto`` takes it, by kind of device. Below, a processor
with AMX gains a fifth and loses it again by a loss that falls more slowly (3 M: 1.22 times the tokens, 2 % more loss
after 40 steps; 135 M: 1.9 times), and a GPU waits for its next order, not for sums (H100: 3 M and 135 M)."""


@dataclass(frozen=True)
class Bf16:
    """What a device does with 16-bit numbers.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``.
        name: Of the device, for people.
        by: The instructions that it has for them, for people; empty without any.
    """

    device: str
    name: str
    by: str

    @property
    def crawls(self) -> bool:
        """Whether bf16 is far slower than float32 there."""
        return self.device == CPU and not self.by

    def precision(self, wish: str, parameters: int) -> str:
        """What ``training.precision`` means for a model with so many parameters: ``fp32`` or ``bf16``."""
        if wish != AUTO:
            return wish
        pays = bool(self.by) and parameters >= FAST_FROM.get(self.device, sys.maxsize)
        return BF16 if pays else FP32

    def reason(self, wish: str, parameters: int) -> str:
        """Why it means that, in a few words."""
        if wish != AUTO:
            return "as chosen"
        if not self.by:
            return f"{self.name} has no instructions for bf16"
        if self.device not in FAST_FROM:
            return f"float32 is as fast on {self.name}"
        least = f"{FAST_FROM[self.device] / 1e6:.0f} million parameters"
        faster = self.precision(wish, parameters) == BF16
        return f"{self.name} has {self.by}, which pays from {least} on" if faster else f"bf16 pays from {least} on"

    def warning(self, precision: str) -> str:
        """What must be said before a run in this precision; empty when there is nothing to say."""
        if precision != BF16 or not self.crawls:
            return ""
        return (
            f"training.precision = 'bf16' will crawl here: {self.name} has no instructions for 16-bit numbers "
            "(AVX-512 bf16, AMX or Arm bf16), and a step takes up to twenty times as long as with 'fp32'. "
            "'auto' takes the faster one."
        )


def find_bf16(device: str, name: str = "", capability: tuple[int, int] | None = None) -> Bf16:
    """What a device does with 16-bit numbers.

    Args:
        device: ``cpu``, ``cuda`` or ``mps``.
        name: Of a GPU.
        capability: Its compute capability; None when nobody says.
    """
    if device == CUDA:
        by = "tensor cores for bf16" if capability is not None and capability >= AMPERE else ""
        return Bf16(CUDA, name or "the GPU", by)
    if device == MPS:
        return Bf16(MPS, name or "the Apple GPU", "bf16")
    return Bf16(CPU, processor_name(), ", ".join(processor_bf16()))


@lru_cache(maxsize=4)
def processor_name(cpuinfo: Path = CPUINFO) -> str:
    """The processor's name as the kernel has it."""
    named = [value for key, value in _facts(cpuinfo) if key == "model name"]
    return named[0] if named else platform.processor() or platform.machine()


@lru_cache(maxsize=4)
def processor_bf16(cpuinfo: Path = CPUINFO) -> tuple[str, ...]:
    """The instructions for 16-bit numbers that all cores of the processor have, as people call them."""
    if sys.platform == "darwin" and cpuinfo == CPUINFO:
        return (_KINDS["bf16"],) if _ask_apple() == "1" else ()
    cores = [set(value.split()) for key, value in _facts(cpuinfo) if key in ("flags", "Features")]  # x86; Arm
    common = set.intersection(*cores) if cores else set()
    return tuple(words for flag, words in _KINDS.items() if flag in common)


def _facts(cpuinfo: Path) -> Iterable[tuple[str, str]]:
    """Names and values of all lines of a file such as ``/proc/cpuinfo``; none when it cannot be read."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    pairs = (line.partition(":") for line in lines)
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def _ask_apple() -> str:
    command = ["sysctl", "-n", _APPLE]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
