"""What a run must record so that its figures can be trusted later: versions, fingerprints, device, memory."""

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from peft_studio import __version__
from peft_studio.config.run_config import RunConfig
from peft_studio.machine.memory import peak_resident
from peft_studio.machine.precision import processor_bf16, processor_name
from peft_studio.tasks.base import Row

_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "sacrebleu")


def versions() -> dict[str, str]:
    """Versions of this project, Python and the libraries that shape the figures."""
    return {"peft-studio": __version__, "python": platform.python_version()} | {
        name: version(name) for name in _LIBRARIES
    }


def fingerprint_of(value: object) -> str:
    """SHA-256 of a JSON-able value, hex, first 16 digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def fingerprint_rows(rows: Iterable[Row]) -> str:
    """Identifies data: changes when any prompt, target, reference, slot or turn of a chat changes."""
    return fingerprint_of([_plain(row) for row in rows])


ELSEWHERE: dict[str, Any] = {
    "resources": True,
    "training": {"answers"},
    "task": {
        "train_file", "validation_file", "test_file", "chat_column", "history_column", "system_column", "loss_on",
        "train_rows",
    },
}  # fmt: skip
"""Parts of a config that a checkpoint does not depend on: where a run is placed, what it does when it has trained,
where its rows lay, and how many they are and how they became chats, which the rows tell themselves."""


def fingerprint_settings(config: RunConfig) -> str:
    """Identifies what a checkpoint depends on of a config."""
    return fingerprint_of(config.model_dump(mode="json", exclude=ELSEWHERE))


def _plain(row: Row) -> list[object]:
    chat = [list(row.chat.turns), row.chat.all_turns] if row.chat else None
    return [row.prompt, row.target, list(row.references), dict(row.slots), *([chat] if chat else [])]


def fingerprint_targets(targets: Iterable[Sequence[int]]) -> str:
    """Identifies what a loss was measured on: the tokens of each row that count, in order."""
    return fingerprint_of(list(targets))


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
    """The device that trains, with its name; of a model that is spread over several, all their names.

    A processor's instructions for 16-bit numbers, which make one kind so much faster than another, stand beside it.
    """
    devices = sorted({parameter.device for parameter in model.parameters()}, key=str)
    kind = max(device.type for device in devices)
    if kind != "cuda":
        return {"type": kind, "name": processor_name(), "bf16": ", ".join(processor_bf16())}
    names = [torch.cuda.get_device_name(device) for device in devices if device.type == kind]
    return {"type": kind, "name": " + ".join(names)}


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far, in bytes; on GPUs, of what it held of their memory."""
    if torch.cuda.is_available():
        held = sum(torch.cuda.max_memory_allocated(number) for number in range(torch.cuda.device_count()))
        if held:
            return int(held)
    return peak_resident()


def with_peak_memory(emit: Callable[..., None]) -> Callable[..., None]:
    """Adds the peak so far to events that come now and then, so that it can be watched, and told by stage."""

    def emit_with_memory(kind: str, **fields: object) -> None:
        if kind in ("stage", "eval", "saved"):
            fields["peak_memory_bytes"] = peak_memory_bytes()
        emit(kind, **fields)

    return emit_with_memory
