"""How far a run has come: what its events add up to, as the list, the details, the doctor and the export need it."""

import math
import time
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any

from peft_studio.runs.event_log import Event, Piece, number, parse_events, whole

ODD_PAUSE = 3600.0  # seconds without a step after which the clock is doubted, not the run
MARK = 64  # characters of a fingerprint; a damaged file may hold millions
MAX_NOTES = 20
MAX_NOTE = 4000  # characters of one
MAX_METRICS = 400  # names of metrics, of which a run has a dozen; tables and plots have a row for each
MAX_NAME = 120  # characters of one
MAX_KINDS = 40  # of events
RECENT_STEPS = 64  # steps that the current speed is taken from
BACKWARD = 2.0  # what a token costs in training over what it costs in an evaluation, until one was measured
TEST = ("test", "base/test")
AFTER_TRAINING = ("saving the adapter", "answering the test rows")  # stages


class RunProgress:
    """Adds up a run's events as they arrive, those of all processes that worked on it one after the other.

    Attributes:
        facts: The latest value of single things: ``loss``, ``started`` (seconds since the epoch), ``max_steps``,
            ``trainable_params``, ``total_params``, ``stage``, ``bytes``, ``peak_memory_bytes``; as the log has them.
        metrics: The latest value of every metric.
        measured_on: A fingerprint of the rows that the metrics of ``eval`` and of ``test`` were measured on.
        evals: Step and validation loss of every evaluation, in order.
        notes: What it had to say that did not end it, at most ``MAX_NOTES``.
        tokenizers: What texts were scored with, by metrics such as ``bleu``.
        answering: Rows and seconds of the answers to the test rows, by ``test`` and ``base/test``; rows may be 0.
        latest: The latest event of each kind that is no step, evaluation or stage; of these, the last one comes last.
        summary: What the worker summed up at the end; empty again when another one goes on.
        step: Optimizer steps done. Steps that come again after an interruption do not set it back.
    """

    points = 512  # about 16 kB, most of it for the recent steps and the ``started`` event

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets everything: the log begins again."""
        self.facts: dict[str, Any] = {}
        self.metrics: dict[str, float] = {}
        self.measured_on: dict[str, str] = {}
        self.evals: list[tuple[int, float]] = []
        self.tokenizers: dict[str, str] = {}
        self.answering: dict[str, tuple[int, float]] = {}
        self.notes: list[str] = []
        self.latest: dict[str, Event] = {}
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
        self._eval_seconds: float | None = None  # that the process's latest evaluation took
        self._answered: set[str] = set()  # whose answers to the test rows it has: "test", "base/test"
        self._recent: deque[bytes | Event] = deque(maxlen=RECENT_STEPS)  # steps of that process

    def read(self, piece: Piece) -> None:
        """Takes new lines of the log; of steps that follow each other only the first and the latest are parsed."""
        for stretch in piece.outline:
            if not isinstance(stretch[0], bytes) and stretch[0]["kind"] != "step":
                self._take(stretch[0])
                continue
            first = _parsed_step(stretch) if self._first_step is None else []
            for step in (*first, *_parsed_step(reversed(stretch))):
                self._take(step)
            self._recent.extend(stretch[-RECENT_STEPS:])

    def _take(self, event: Event) -> None:
        time_, before = number(event.get("t")), self._latest_time
        self._take_time(event["kind"], time_)
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
                self._take_metrics(whole(event.get("step")), event["metrics"], event.get("rows"))
                self._take_duration(event, (time_ or 0.0) - before)
            case "note" if len(self.notes) < MAX_NOTES:
                self.notes.append(str(event.get("message", ""))[:MAX_NOTE])
            case "saved":
                self.facts["bytes"] = event.get("bytes")
                self._take_metrics(None, event.get("metrics"))  # of weights that are not the latest
            case "finished" | "stopped" | "paused" if isinstance(event.get("summary"), dict):
                self.summary = event["summary"]
        known = event["kind"] in self.latest or len(self.latest) < MAX_KINDS
        if event["kind"] not in ("step", "eval", "stage") and known:
            self.latest.pop(event["kind"], None)
            self.latest[event["kind"]] = event

    def _take_time(self, kind: str, time_: float | None) -> None:
        if time_ is None:
            return
        self._first_time = min(self._first_time, time_)
        self._latest_time = max(self._latest_time, time_)
        if kind not in ("stage", "started"):
            self._last_work = max(self._last_work, time_)
        elif kind == "stage" and self._first_stage < self._last_work:
            self._first_stage = time_

    def _take_metrics(self, step: int | None, metrics: object, rows: object = None) -> None:
        items = metrics.items() if isinstance(metrics, dict) else ()
        values = {}
        for name, value in items:
            if (found := number(value)) is not None and self._has_room(name):
                values[name] = self.metrics[name] = found
        if isinstance(rows, str):
            parts = {name.partition("/")[0] for name in values}
            self.measured_on |= dict.fromkeys(parts - {"base"}, rows[:MARK])
        if step is not None and "eval/loss" in values:
            self.evals.append((step, values["eval/loss"]))

    def _take_duration(self, event: Event, seconds: float) -> None:
        if "eval/loss" in event["metrics"] and 0 < seconds < ODD_PAUSE:
            self._eval_seconds = seconds
        answered = {prefix for name in event["metrics"] if (prefix := name.rpartition("/")[0]) in TEST}
        self._answered |= answered
        if seconds > 0:
            self.answering |= dict.fromkeys(answered, (whole(event.get("answers")) or 0, seconds))
        used = event.get("tokenizers")
        if isinstance(used, dict):
            named = islice(used.items(), MAX_METRICS)
            self.tokenizers |= {str(name)[:MAX_NAME]: str(value)[:MAX_NAME] for name, value in named}

    def _has_room(self, name: str) -> bool:
        """Whether a metric can be kept: imported logs may name thousands."""
        return name in self.metrics or (len(self.metrics) < MAX_METRICS and len(name) <= MAX_NAME)

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and loss of the evaluation with the lowest validation loss."""
        return min(self.evals, key=lambda item: item[1], default=None)

    def _start(self, event: Event, time_: float) -> None:
        """A process begins, perhaps where another one has ended."""
        self.facts |= {key: event.get(key) for key in ("trainable_params", "total_params", "max_steps")}
        self.facts.setdefault("started", time_ or None)
        if self._last_work:
            begun = self._first_stage if self._first_stage >= self._last_work else time_
            self._idle += max(0.0, begun - self._last_work)
        self._last_work = max(self._last_work, time_)
        self.summary = {}
        self._at, self._first_step = 0, None
        self._eval_seconds, self._answered = None, set()
        self._recent.clear()

    def _take_step(self, event: Event, time_: float) -> None:
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

    def seconds(self) -> float | None:
        """From the first event to the latest, without the time in which no process worked on the run."""
        return max(0.0, self._latest_time - self._first_time - self._idle) if self._latest_time else None

    def answer_seconds(self) -> dict[str, float]:
        """Seconds for each answer to a test row, by ``test`` and ``base/test``, which is missing if it was known."""
        told = self.latest.get("answered", {}).get("rows")  # older logs have no number of answers beside the figures
        work = self.latest.get("started", {}).get("work")
        known = isinstance(work, dict) and not work.get("base/test")  # then nobody waited for them
        found = {
            name: seconds / rows for name, (count, seconds) in self.answering.items() if (rows := count or whole(told))
        }
        return {name: seconds for name, seconds in found.items() if name == "test" or not known}

    def speed(self) -> tuple[float | None, float | None]:
        """Recent steps and tokens per second of training, evaluations not counted."""
        ends = [*_parsed_step(self._recent), *_parsed_step(reversed(self._recent))]
        if not ends:
            return None, None
        (elapsed_0, step_0, tokens_0), (elapsed_1, step_1, tokens_1) = map(_counts, ends)
        if elapsed_1 <= elapsed_0 or step_1 <= step_0:
            return None, None
        span = elapsed_1 - elapsed_0
        return (step_1 - step_0) / span, (tokens_1 - tokens_0) / span

    def eta(self, max_steps: int | None, eval_every: int | None = None) -> float | None:
        """Seconds until the run is over, which makes so many steps and an evaluation now and then; None if unknown.

        Steps go on at the run's average pace, in which evaluations have their share once there was one. Answering the
        test rows is counted in evaluations: the worker has told how much work either is.
        """
        if max_steps is None or self._first_step is None or self._at <= self._first_step[1]:
            return None
        steps = 0 if self.facts.get("stage") in AFTER_TRAINING else max(0, max_steps - self._at)
        left = steps * self._pace() + self._work_beside(math.ceil(steps / (eval_every or 1)))
        since = time.time() - (self._last_step_time if steps else self._latest_time)
        left -= since if 0 < since < ODD_PAUSE else 0.0
        return left if left > 0 else None

    def _pace(self) -> float:
        """Seconds for a step."""
        first_time, first_step = self._first_step or (0.0, 0)
        wall = self._last_step_time - first_time
        trained = self._elapsed - self._first_elapsed
        if not 0.5 * trained <= wall <= 100 * trained + ODD_PAUSE:  # the clock was set meanwhile
            wall = trained
        return wall / max(1, self._at - first_step)

    def _work_beside(self, evaluations: int) -> float:
        """Seconds for evaluations, if no pace tells of them yet, and for the answers that are still to come."""
        told = self.latest.get("started", {}).get("work")
        work = {name: number(size) or 0.0 for name, size in told.items()} if isinstance(told, dict) else {}
        validation, speed = work.get("validation", 0.0), self.speed()[1]
        if self._eval_seconds is not None and validation:
            each = self._eval_seconds / validation
        elif speed:
            each = 1 / (BACKWARD * speed)
        else:
            return 0.0
        ahead = 0 if self._eval_seconds is not None else evaluations
        answers = sum(work.get(name, 0.0) for name in TEST if name not in self._answered)
        return each * (ahead * validation + answers)


def _parsed_step(steps: Iterable[bytes | Event]) -> list[Event]:
    """The first of some steps, parsed or not, that is neither torn nor odd; if there is one."""
    found = (event for step in steps for event in (parse_events([step]) if isinstance(step, bytes) else [step]))
    return list(islice((event for event in found if whole(event.get("step")) is not None), 1))


def _counts(step: Event) -> tuple[float, int, int]:
    """Seconds of training, steps and tokens so far."""
    return number(step.get("elapsed")) or 0.0, whole(step.get("step")) or 0, whole(step.get("tokens")) or 0
