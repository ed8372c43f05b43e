"""Which GPUs of this machine a run gets: one that is free, a certain one, or all of them.

The claim of a run that trains says which it has, so an app that was started again knows who is where.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from peft_studio.config.run_config import ResourcesConfig
from peft_studio.errors import ConfigError
from peft_studio.files import read_json
from peft_studio.jobs.executors.base import Wait, memory_wait
from peft_studio.machine.devices import ALL, CUDA, Devices, Gpu, free_memory
from peft_studio.runs.paths import RunPaths

Predicted = Callable[[RunPaths], int | None]


class GpuPlaces:
    """Gives GPUs to runs. It remembers only those that it gave to runs that have not claimed them yet.

    Args:
        devices: What the machine has.
        max_running: Runs at a time; more than GPUs share them, as far as their memory allows.
        free: Free bytes by GPU, now.
    """

    def __init__(
        self, devices: Devices, max_running: int, free: Callable[[], Mapping[str, int]] = free_memory
    ) -> None:
        self._devices = devices
        self._shares = max(1, math.ceil(max_running / max(1, len(devices.gpus))))
        self._free = free
        self._given: dict[str, tuple[str, ...]] = {}

    def wants(self, paths: RunPaths) -> bool:
        """Whether a run is to train on GPUs of this machine."""
        return self._devices.wants_gpu(_wish(paths))

    def given(self, paths: RunPaths) -> tuple[str, ...] | None:
        """UUIDs of the GPUs that a run may use; None when there is nothing to say, as on a machine without."""
        return self._given.get(paths.id, None if not self._devices.gpus or self.wants(paths) else ())

    def must_wait(self, paths: RunPaths, running: Sequence[RunPaths], predicted: Predicted) -> Wait | None:
        """Gives a run its GPUs, or says why it must wait.

        A run that would be alone never waits: it would for ever otherwise. One that waits for a GPU lets others pass,
        which want the CPU or another GPU; one that waits for all of them, or for memory, does not.

        Args:
            paths: A queued run that wants GPUs.
            running: Those that run, or are about to.
            predicted: Bytes that a run will need; None when nobody knows.
        """
        self._given = {run.id: self._given[run.id] for run in running if run.id in self._given}
        try:
            options = self._devices.options(_wish(paths))
        except ConfigError:  # a run of another machine, or of this one when it had more: its worker says what is wrong
            return None
        loads = self._loads(running)
        most = 1 if _wish(paths) == ALL else self._shares
        places = [option for option in options if all(len(loads[gpu.uuid]) < most for gpu in option)]
        if not places:
            return _busy(_wish(paths))
        room = self._room(loads, predicted)
        best = max(places, key=lambda option: (-len(loads[option[0].uuid]), sum(room[gpu.uuid] for gpu in option)))
        needed = predicted(paths) if running else None
        if needed is not None and sum(room[gpu.uuid] for gpu in best) < needed:
            best = max(places, key=lambda option: sum(room[gpu.uuid] for gpu in option))
            left = sum(room[gpu.uuid] for gpu in best)
            if left < needed:
                return memory_wait("GPU memory", needed, left)
        self._given[paths.id] = tuple(gpu.uuid for gpu in best)
        return None

    def _loads(self, running: Sequence[RunPaths]) -> dict[str, list[RunPaths]]:
        """The runs on each GPU."""
        loads: dict[str, list[RunPaths]] = {gpu.uuid: [] for gpu in self._devices.gpus}
        for run in running:
            for uuid in self._gpus_of(run):
                if uuid in loads:
                    loads[uuid].append(run)
        return loads

    def _gpus_of(self, run: RunPaths) -> Sequence[str]:
        claimed = (read_json(run.claim) or {}).get("gpus")
        if isinstance(claimed, list):
            return [uuid for uuid in claimed if isinstance(uuid, str)]
        if run.id in self._given or not self.wants(run):
            return self._given.get(run.id, ())
        return [gpu.uuid for gpu in self._devices.gpus[:1]]  # started by hand: CUDA takes the first

    def _room(self, loads: Mapping[str, Sequence[RunPaths]], predicted: Predicted) -> dict[str, float]:
        """Bytes for one more run: what is free, less what its runs are still expected to take."""
        free = self._free()

        def room(gpu: Gpu) -> float:
            taken = sum(predicted(run) or 0 for run in loads[gpu.uuid])
            return min(free.get(gpu.uuid, math.inf), (gpu.memory or math.inf) - taken)

        return {gpu.uuid: room(gpu) for gpu in self._devices.gpus}


def _wish(paths: RunPaths) -> str:
    config = (read_json(paths.config) or {}).get("config")
    wanted = (config.get("resources") or {}) if isinstance(config, dict) else {}
    found = wanted.get("device") if isinstance(wanted, dict) else None
    return found if isinstance(found, str) else str(ResourcesConfig().device)


def _busy(wish: str) -> Wait:
    if wish == ALL:
        return Wait("waits until all GPUs are free")
    which = f"GPU {wish.partition(':')[2]}" if wish.startswith(f"{CUDA}:") else "a free GPU"
    return Wait(f"waits for {which}", holds_up=False)
