"""How far a run has come: what its events add up to."""

import math
import time
from collections import deque
from typing import Any

from peft_studio.runs.event_log import STARTED_PREFIX, STEP_PREFIX, number, parse_events, whole

ODD_PAUSE = 3600.0  # seconds without a step after which the clock is doubted, not the run
RECENT_STEPS = 64  # steps that the current speed is taken from


class Progress:
    """Adds up a run's events as they arrive, those of all processes that worked on it one after the other.

    Attributes:
        facts: The latest value of single things: ``loss``, ``started`` (seconds since the epoch), ``max_steps``,
            ``trainable_params``, ``total_params``, ``stage``, ``bytes``, ``peak_memory_bytes``; as the log has them.
        metrics: The latest value of every metric.
        summary: What the worker summed up at the end; empty again when another one goes on.
        step: Optimizer steps done. Steps that come again after an interruption do not set it back.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.metrics: dict[str, float] = {}
        self.summary: dict[str, Any] = {}
        self.step = 0
        self._at = 0  # latest step of the process at work
        self._first_step: tuple[float, int] | None = None  # its time and number, of that process
        self._last_step_time = 0.0
        self._elapsed = self._first_elapsed = 0.0  # seconds of training, by a clock that nobody sets
        self._first_time, self._latest_time = math.inf, 0.0  # of any event
        self._idle = 0.0  # seconds in which no process worked on the run
        self._last_work = 0.0  # time of the latest event that is not a stage
        self._first_stage = -math.inf  # time of the first stage since then; before it, of none
        self._recent: deque[tuple[float, int, int]] = deque(maxlen=RECENT_STEPS)  # elapsed, step, tokens

    def read(self, lines: list[bytes]) -> None:
        """Takes new lines of the log; of a process's steps only the first and the latest are parsed."""
        starts = [place for place, line in enumerate(lines) if line.startswith(STARTED_PREFIX)]
        for begin, end in zip([0, *starts], [*starts, len(lines)], strict=True):
            self._read_process(lines[begin:end])

    def _read_process(self, lines: list[bytes]) -> None:
        steps = [line for line in lines if line.startswith(STEP_PREFIX)]
        others = [line for line in lines if not line.startswith(STEP_PREFIX)]
        first = steps[:1] if self._first_step is None else []
        if lines and lines[0].startswith(STARTED_PREFIX):
            first, others = [lines[0], *steps[:1]], others[1:]
        for event in parse_events(first + steps[-RECENT_STEPS:] + others):
            self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        time_ = number(event.get("t"))
        if time_ is not None:
            self._first_time = min(self._first_time, time_)
            self._latest_time = max(self._latest_time, time_)
            if event["kind"] not in ("stage", "started"):
                self._last_work = max(self._last_work, time_)
            elif event["kind"] == "stage" and self._first_stage < self._last_work:
                self._first_stage = time_
        if "peak_memory_bytes" in event:
            self.facts["peak_memory_bytes"] = event["peak_memory_bytes"]
        match event["kind"]:
            case "step":
                self._take_step(event, time_ or 0.0)
            case "started":
                self._start(event, time_ or 0.0)
            case "stage":
                self.facts["stage"] = event.get("name")
            case "eval" if isinstance(event.get("metrics"), dict):
                values = {name: number(value) for name, value in event["metrics"].items()}
                self.metrics |= {name: value for name, value in values.items() if value is not None}
            case "saved":
                self.facts["bytes"] = event.get("bytes")
            case "finished" | "stopped" | "paused" if isinstance(event.get("summary"), dict):
                self.summary = event["summary"]

    def _start(self, event: dict[str, Any], time_: float) -> None:
        """A process begins, perhaps where another one has ended."""
        self.facts |= {key: event.get(key) for key in ("trainable_params", "total_params", "max_steps")}
        self.facts.setdefault("started", time_ or None)
        if self._last_work:
            begun = self._first_stage if self._first_stage >= self._last_work else time_
            self._idle += max(0.0, begun - self._last_work)
        self._last_work = max(self._last_work, time_)
        self.summary = {}
        self._at, self._first_step = 0, None
        self._recent.clear()

    def _take_step(self, event: dict[str, Any], time_: float) -> None:
        step = whole(event.get("step"))
        if step is None:
            return
        self._at = step
        self.step = max(self.step, self._at)
        self.facts["loss"] = event.get("loss")
        self._elapsed = number(event.get("elapsed")) or 0.0
        if self._first_step is None:
            self._first_step, self._first_elapsed = (time_, self._at), self._elapsed
        self._last_step_time = time_
        self._recent.append((self._elapsed, self._at, whole(event.get("tokens")) or 0))

    def seconds(self) -> float | None:
        """From the first event to the latest, without the time in which no process worked on the run."""
        return max(0.0, self._latest_time - self._first_time - self._idle) if self._latest_time else None

    def speed(self) -> tuple[float | None, float | None]:
        """Recent steps and tokens per second of training, evaluations not counted."""
        if len(self._recent) < 2:
            return None, None
        (elapsed_0, step_0, tokens_0), (elapsed_1, step_1, tokens_1) = self._recent[0], self._recent[-1]
        if elapsed_1 <= elapsed_0 or step_1 <= step_0:
            return None, None
        span = elapsed_1 - elapsed_0
        return (step_1 - step_0) / span, (tokens_1 - tokens_0) / span

    def eta(self, max_steps: int | None) -> float | None:
        """Seconds to the last step at the run's average pace, in which its evaluations have their share."""
        if max_steps is None or self._first_step is None or self._at <= self._first_step[1]:
            return None
        wall = self._last_step_time - self._first_step[0]
        trained = self._elapsed - self._first_elapsed
        if not 0.5 * trained <= wall <= 100 * trained + ODD_PAUSE:  # the clock was set meanwhile
            wall = trained
        pace = wall / (self._at - self._first_step[1])
        since = time.time() - self._last_step_time
        return max(0.0, (max_steps - self._at) * pace - (since if 0 < since < ODD_PAUSE else 0.0))
