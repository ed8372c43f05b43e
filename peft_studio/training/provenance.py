"""What a run must record so that its figures can be trusted later: versions, fingerprints, device, memory."""

import hashlib
import json
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from peft_studio import __version__
from peft_studio.machine.memory import peak_resident
from peft_studio.tasks.base import Row

_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "sacrebleu")


def versions() -> dict[str, str]:
    """Versions of this project, Python and the libraries that shape the figures."""
    return {"peft-studio": __version__, "python": platform.python_version()} | {
        name: version(name) for name in _LIBRARIES
    }


def fingerprint_of(value: Any) -> str:
    """SHA-256 of a JSON-able value, hex, first 16 digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def fingerprint_rows(rows: Iterable[Row]) -> str:
    """Identifies data: changes when any prompt, target, reference or slot changes."""
    return fingerprint_of([[row.prompt, row.target, list(row.references), dict(row.slots)] for row in rows])


def fingerprint_model(model: nn.Module) -> str:
    """Identifies a base model by its weights: every tensor's name, shape and a sample of its values.

    At most 4,096 evenly spaced values of each tensor are read, so that a large model takes milliseconds too.
    """
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        flat = tensor.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 4096)].float().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:16]


def device_of(model: nn.Module) -> dict[str, str]:
    """The device that trains, with its name; of a model that is spread over several, all their names."""
    devices = sorted({parameter.device for parameter in model.parameters()}, key=str)
    kind = max(device.type for device in devices)
    if kind != "cuda":
        return {"type": kind, "name": _cpu_name()}
    names = [torch.cuda.get_device_name(device) for device in devices if device.type == kind]
    return {"type": kind, "name": " + ".join(names)}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far, in bytes; on GPUs, of what it held of their memory."""
    if torch.cuda.is_available():
        held = sum(torch.cuda.max_memory_allocated(number) for number in range(torch.cuda.device_count()))
        if held:
            return int(held)
    return peak_resident()
