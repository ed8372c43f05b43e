"""A checkpoint on disk: everything that the next step depends on, as safetensors and JSON, complete at every instant.

``checkpoint/state.json`` names the files that belong to it, with their sizes and checksums, and is replaced in one
move after they are safely on disk; so a process that is killed at any instant leaves the old one or the new one.
"""

import contextlib
import json
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from peft_studio.errors import CheckpointError, StorageError
from peft_studio.files import atomic_write, read_json, remove, replace_folder
from peft_studio.training.provenance import fingerprint_of

FORMAT = 1
PlainState = dict[str, Any]
"""Values that JSON can say."""
_STATE = "state.json"
_CHUNK = 1 << 22


@dataclass(frozen=True)
class RunIdentity:
    """What a checkpoint belongs to, as fingerprints: it fits no other config, base model or data."""

    config: str
    base: str
    data: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read.

    Attributes:
        state: Plain values: ``step``, ``max_steps``, counters, random states.
        tensors: What changes from step to step, by names such as ``model/...`` and ``optimizer/exp_avg/...``.
        constants: Tensors of the method that do not change and are not the base model's.
    """

    state: PlainState
    tensors: dict[str, Tensor]
    constants: dict[str, Tensor]

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.state["step"])

    def part(self, prefix: str) -> dict[str, Tensor]:
        """See ``below``."""
        return below(prefix, self.tensors)


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix such as ``model/``, which is cut off."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with a prefix such as ``model/`` before their names."""
    return {prefix + name: value for name, value in tensors.items()}


@dataclass
class CheckpointWriter:
    """Writes the checkpoints of one process, each in place of the one before.

    Attributes:
        folder: ``checkpoint`` in the run's folder.
        identity: What they belong to.
        constants: Tensors that never change; written once.
    """

    folder: Path
    identity: RunIdentity
    constants: Mapping[str, Tensor]
    _constant_file: PlainState | None = None

    def write(self, state: PlainState, tensors: Mapping[str, Tensor]) -> None:
        """Writes a checkpoint, of JSON-able values (``step`` among them) and tensors as ``Checkpoint`` has them.

        Raises:
            StorageError: The disk is full or the folder is not writable; the checkpoint before stays.
        """
        target = self.folder if self.folder.is_dir() else self.folder.with_name(f".{self.folder.name}-new")
        try:
            if target is not self.folder:
                remove(target)
                target.mkdir()
            self._write_into(target, state, tensors)
            if target is not self.folder:
                replace_folder(target, self.folder)
                _sync(self.folder.parent)
        except (SafetensorError, OSError, StorageError) as exc:
            _tidy(target)
            why = str(exc).rstrip(".")
            raise StorageError(f"The checkpoint could not be written in {self.folder.parent}: {why}.") from exc

    def _write_into(self, folder: Path, state: PlainState, tensors: Mapping[str, Tensor]) -> None:
        suffix = f"{state['step']:08d}-{os.urandom(3).hex()}.safetensors"  # never the name of a file that counts
        files = {"tensors": _save(folder / f"step-{suffix}", tensors)}
        if self.constants and self._constant_file is None:
            self._constant_file = _save(folder / f"constant-{suffix}", self.constants)
        if self._constant_file is not None:
            files["constants"] = self._constant_file
        body = {"format": FORMAT, **state, "identity": asdict(self.identity), "files": files}
        text = json.dumps({"digest": fingerprint_of(body), **body}, allow_nan=False)
        atomic_write(folder / _STATE, text, durable=True)
        _sync(folder)
        _tidy(folder)


def _save(path: Path, tensors: Mapping[str, Tensor]) -> PlainState:
    save_file({name: _plain(value) for name, value in tensors.items()}, path)
    path.chmod(0o600)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return {"name": path.name, "bytes": path.stat().st_size, "crc32": _checksum(path)}


def _plain(tensor: Tensor) -> Tensor:
    """On the CPU, contiguous, and alone in its memory, as safetensors wants it."""
    plain = tensor.detach().cpu().contiguous()
    return plain.clone() if plain.untyped_storage().nbytes() != plain.nbytes else plain


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value


def _sync(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system lets a folder be synced
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _tidy(folder: Path) -> None:
    """Removes what the state does not name: older steps, and what a writer that was killed left behind."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        files = json.loads((folder / _STATE).read_bytes())["files"].values() if (folder / _STATE).exists() else []
        named = {_STATE, *(file["name"] for file in files)}
        for path in folder.iterdir():
            if path.name not in named:
                path.unlink()


def read_checkpoint(folder: Path, identity: RunIdentity) -> Checkpoint | None:
    """Reads a run's checkpoint.

    Returns:
        None when there is none.

    Raises:
        CheckpointError: It is damaged, of another format, or belongs to another config, base model or data.
    """
    if not os.path.lexists(folder):
        return None
    state = _read_state(folder / _STATE)
    if state.get("format") != FORMAT:
        raise CheckpointError(f"it has format {state.get('format')!r}, and this version reads format {FORMAT}")
    for what, value in asdict(identity).items():
        if state["identity"].get(what) != value:
            raise CheckpointError(f"it belongs to another {what}")
    files = state["files"]
    constants = _load(folder, files["constants"]) if "constants" in files else {}
    return Checkpoint(state, _load(folder, files["tensors"]), constants)


def _read_state(path: Path) -> PlainState:
    state = read_json(path)
    if state is None or "digest" not in state:
        raise CheckpointError(f"its {path.name} cannot be read")
    if state.pop("digest") != fingerprint_of(state):
        raise CheckpointError(f"its {path.name} is damaged")
    return state


def _load(folder: Path, file: PlainState) -> dict[str, Tensor]:
    path = folder / file["name"]
    try:
        if path.stat().st_size != file["bytes"] or _checksum(path) != file["crc32"]:
            raise CheckpointError(f"its file {path.name} is damaged")
        return dict(load_file(path))
    except (OSError, SafetensorError) as exc:
        raise CheckpointError(f"its file {path.name} cannot be read") from exc


def set_aside(folder: Path) -> None:
    """Moves a checkpoint that cannot be used out of the way, in place of an earlier such one."""
    aside = folder.with_name(f".{folder.name}-rejected")
    with contextlib.suppress(OSError):
        remove(aside)
        folder.rename(aside)


@dataclass
class Throttle:
    """When to write: not too often, and at a small share of the time.

    Attributes:
        seconds: From one checkpoint to the next at least.
        share: Of the time, that writing may cost.
    """

    seconds: float
    share: float
    _next: float = -math.inf

    def wait(self, now: float, cost: float = 0.0) -> None:
        """Sets the next time, after something that cost so many seconds ended now."""
        self._next = now + max(self.seconds, cost / self.share)

    def due(self, now: float) -> bool:
        """Whether it is time."""
        return now >= self._next
