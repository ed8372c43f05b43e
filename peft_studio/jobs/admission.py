"""Whether a queued run may start now beside those that run: is there room, and does its memory fit?"""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from peft_studio.errors import StudioError
from peft_studio.files import atomic_write, read_json
from peft_studio.jobs.executors.base import Wait, memory_wait
from peft_studio.jobs.executors.gpu_placement import GpuPlaces
from peft_studio.machine.memory import available_memory, resident_memory_of
from peft_studio.runs.paths import RunPaths

Estimate = Callable[[Mapping[str, Any]], Mapping[str, Any]]

PREDICTION_PATIENCE = 10.0  # seconds that a run waits for an estimate of its memory
LOOK_PAUSE = 1.0  # seconds between two looks at the memory


class Predictor:
    """Has the memory of runs estimated, one after the other and in the background, and writes it into their folders.

    Args:
        estimate: Makes an estimate of a config; see `training.estimates.estimate`.
    """

    def __init__(self, estimate: Estimate) -> None:
        self._estimate = estimate
        self._asked: dict[str, float] = {}  # when, monotonic
        self._lock = threading.Lock()

    def predicted(self, paths: RunPaths) -> int | None:
        """Bytes that a run will need at its peak; None when nobody has estimated it."""
        found = (read_json(paths.predicted) or {}).get("memory_bytes")
        return found if isinstance(found, int) and found > 0 else None

    def is_coming(self, paths: RunPaths) -> bool:
        """Whether an estimate is being made and worth waiting for; the first question starts it."""
        began = self._asked.get(paths.id)
        if began is None:
            began = self._asked[paths.id] = time.monotonic()
            threading.Thread(target=self._predict, args=(paths,), name="predictor", daemon=True).start()
        return time.monotonic() - began < PREDICTION_PATIENCE

    def _predict(self, paths: RunPaths) -> None:
        with self._lock:  # one at a time: the engine has one set of cores
            try:
                memory = self._estimate((read_json(paths.config) or {}).get("config") or {}).get("memory")
                if isinstance(memory, Mapping):
                    parts = {str(part): int(size) for part, size in memory.items()}
                    atomic_write(paths.predicted, json.dumps({"memory_bytes": sum(parts.values()), "memory": parts}))
                    return
            except (StudioError, TypeError, ValueError):
                pass  # the run will say itself what is wrong with it
            self._asked[paths.id] = float("-inf")


class Admission:
    """Decides whether one more run may start.

    Args:
        predictor: Knows what runs need.
        free: Bytes of memory that are free now.
        places: The machine's GPUs, whose memory counts for what runs on them; None on a machine without.
    """

    def __init__(
        self, predictor: Predictor, free: Callable[[], int] = available_memory, places: GpuPlaces | None = None
    ) -> None:
        self._predictor = predictor
        self._places = places
        self._free = free
        self._looked = float("-inf")
        self._room = 0
        self._running: tuple[str, ...] = ()

    def must_wait(self, paths: RunPaths, running: Sequence[RunPaths]) -> Wait | None:
        """Why a run must not start beside those that run; None when it may.

        A run that would be alone always may: it would wait for ever otherwise. So may one of which nothing is known.
        """
        on_gpu = self._places is not None and self._places.wants(paths)
        if not running:
            if self._predictor.predicted(paths) is None:
                self._predictor.is_coming(paths)  # to be shown beside what was measured; nobody waits for it
            return self._ask_gpus(paths, running) if on_gpu else None
        unknown = [other for other in (paths, *running) if self._predictor.predicted(other) is None]
        if any([self._predictor.is_coming(other) for other in unknown]):  # a list: all are to be asked for at once
            return Wait("estimating its memory")
        if on_gpu:
            return self._ask_gpus(paths, running)
        running = [other for other in running if self._places is None or not self._places.wants(other)]
        needed = self._predictor.predicted(paths)
        if needed is None or not running:
            return None
        room = self._look(running)
        return None if needed <= room else memory_wait("memory", needed, room)

    def _ask_gpus(self, paths: RunPaths, running: Sequence[RunPaths]) -> Wait | None:
        return self._places.must_wait(paths, running, self._predictor.predicted) if self._places else None

    def _look(self, running: Sequence[RunPaths]) -> int:
        """Free memory less what the running ones have not taken yet; looked up now and then, and for every change."""
        ids = tuple(paths.id for paths in running)
        if ids != self._running or time.monotonic() - self._looked > LOOK_PAUSE:
            self._room = self._free() - sum(self._still_to_take(paths) for paths in running)
            self._running, self._looked = ids, time.monotonic()
        return self._room

    def _still_to_take(self, paths: RunPaths) -> int:
        pid = (read_json(paths.claim) or {}).get("pid")
        taken = resident_memory_of(pid) if isinstance(pid, int) else 0
        return max(0, (self._predictor.predicted(paths) or 0) - taken)
