"""What the doctor looks at: a run's folder as running figures, read once and then only where it grew."""

import json
import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import lt
from statistics import median
from typing import Any

from peft_studio.files import is_there, open_plain, read_json
from peft_studio.runs.event_log import Event, Piece, number, whole
from peft_studio.runs.fold import RunFold
from peft_studio.runs.integrity import damaged_files
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.progress import RunProgress
from peft_studio.runs.status import Status

MAX_BUCKETS = 512  # of a curve: up to so many steps are kept one by one, more share buckets
WINDOWS = 20  # that a curve is judged by
WINDOW_STEPS = 5  # a mean over fewer says little about a loss that jumps from batch to batch
NORMAL_MEDIAN = 1.4826  # standard deviation over median absolute deviation, for normal noise


class StepFigures:
    """Loss and gradient norm over steps in at most ``MAX_BUCKETS`` buckets of equal width.

    Attributes:
        last: Last step of each bucket.
        loss: Mean loss of each bucket.
        norm: Largest gradient norm of each bucket; NaN when none was recorded.
        count: Steps seen.
        lost: First step whose loss was not finite, or None.
    """

    points = 3 * MAX_BUCKETS // 4  # three columns of 8 bytes

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets everything: the log begins again."""
        self.last, self.loss, self.norm = array("q"), array("d"), array("d")
        self.count = 0
        self.lost: int | None = None
        self._width = 1
        self._sum, self._filled, self._norm = 0.0, 0, math.nan
        self._unread = 0

    @property
    def torn(self) -> int:
        """Lines that no event could be read from, beyond those that kills explain."""
        return max(0, self._unread)

    def read(self, piece: Piece) -> None:
        """Takes new lines of the log."""
        self._unread += piece.data.count(b"\n") - len(piece.events)
        for events in piece.stretches:
            if events[0]["kind"] == "started":
                self._unread -= 1  # a worker that is killed may leave half a line
            elif events[0]["kind"] == "step" and not self.add_steps(events):
                for event in events:
                    if (step := whole(event.get("step"))) is not None:
                        self.add(step, _real(event.get("loss")), _real(event.get("grad_norm")))

    def add(self, step: int, loss: float | None, norm: float | None) -> None:
        """Takes the next step; a resumed run may repeat some, whose first try no longer counts."""
        while self.last and self.last[-1] >= step:
            self.count -= self._width
            for column in (self.last, self.loss, self.norm):
                column.pop()
        self.count += 1
        if loss is None or not math.isfinite(loss):
            self.lost = step if self.lost is None else self.lost
            return
        self._fill(step, [loss], [norm])

    def add_steps(self, events: list[Event]) -> bool:
        """Takes many steps at once, four times faster; False, with nothing done, if one is odd or out of order."""
        steps: list[Any] = [event.get("step") for event in events]
        losses: list[Any] = [event.get("loss") for event in events]
        norms: list[Any] = [event.get("grad_norm") for event in events]
        if {*map(type, steps)} != {int} or {*map(type, losses)} != {float} or not {*map(type, norms)} <= {float, int}:
            return False
        if (self.last and self.last[-1] >= steps[0]) or not all(map(lt, steps, steps[1:])):
            return False
        if not math.isfinite(sum(losses) + sum(norms)):
            return False
        self.count += len(steps)
        begin = 0
        while begin < len(steps):
            end = begin + self._width - self._filled
            self._fill(steps[min(end, len(steps)) - 1], losses[begin:end], norms[begin:end])
            begin = end
        return True

    def _fill(self, last: int, losses: Sequence[float], norms: Sequence[float | None]) -> None:
        """Takes the losses of steps that all belong into the bucket that is being filled."""
        self._sum = sum(losses, self._sum)
        self._filled += len(losses)
        norm = max((norm for norm in norms if norm is not None), default=None)
        if norm is not None and not norm <= self._norm:
            self._norm = norm
        if self._filled == self._width:
            self.last.append(last)
            self.loss.append(self._sum / self._width)
            self.norm.append(self._norm)
            self._sum, self._filled, self._norm = 0.0, 0, math.nan
            if len(self.last) == MAX_BUCKETS:
                self._halve()

    def _halve(self) -> None:
        self.last = self.last[1::2]
        self.loss = array("d", ((a + b) / 2 for a, b in zip(self.loss[::2], self.loss[1::2], strict=True)))
        pairs = zip(self.norm[::2], self.norm[1::2], strict=True)
        self.norm = array("d", (b if math.isnan(a) or b > a else a for a, b in pairs))
        self._width *= 2

    def windows(self) -> list["Window"]:
        """The curve as at most ``WINDOWS`` means, each over at least ``WINDOW_STEPS`` steps; the last one is full."""
        size = max(-(-len(self.loss) // WINDOWS), -(-WINDOW_STEPS // self._width))
        noise = self.noise / math.sqrt(size)
        begin = len(self.loss) % size  # the oldest are left out when they do not fill a window
        return [
            Window(self.last[i + size - 1], sum(self.loss[i : i + size]) / size, noise)
            for i in range(begin, len(self.loss), size)
        ]

    @property
    def noise(self) -> float:
        """Standard deviation of a bucket's loss around the curve, from the median difference of neighbours.

        The median, because the jumps of a run in trouble are what is looked for and no noise.
        """
        steps = [abs(b - a) for a, b in zip(self.loss, self.loss[1:], strict=False)]
        return NORMAL_MEDIAN * median(steps) / math.sqrt(2) if steps else 0.0


@dataclass(frozen=True)
class Window:
    """A stretch of a curve.

    Attributes:
        step: Its last step.
        loss: Mean loss.
        noise: Standard error of the mean.
    """

    step: int
    loss: float
    noise: float


@dataclass(frozen=True)
class Evidence:
    """What a run's folder says, as far as the doctor asks.

    Attributes:
        config: The config, as submitted.
        status: ``finished`` and so on, as `Status` has it.
        started: The ``started`` event; empty before.
        failed: The ``failed`` event; empty when there is none.
        reason: Why the run is in this state, in words; empty where the status says it all.
        answered: The ``answered`` event, on the answers to the test rows; empty before.
        signal: The signal that ended the worker, unless somebody had asked it to stop.
        no_memory: Whether the kernel was ending processes for want of memory when it came.
        steps: The training curve.
        evals: Step and validation loss, in order.
        metrics: Latest value of every metric.
        check: ``rows`` and ``max_difference`` of the check after saving; None when there was none.
        truth: How often each label occurs among the test rows; empty unless labels are chosen.
        answers: How often each was answered.
        damage: Which files cannot be read, once the run is over; see `integrity.damaged_files`.
    """

    config: Mapping[str, Any]
    status: str = "running"
    started: Mapping[str, Any] = field(default_factory=dict)
    failed: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    answered: Mapping[str, Any] = field(default_factory=dict)
    signal: int | None = None
    no_memory: bool = False
    steps: StepFigures = field(default_factory=StepFigures)
    evals: tuple[tuple[int, float], ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    check: Mapping[str, Any] | None = None
    truth: Mapping[str, int] = field(default_factory=dict)
    answers: Mapping[str, int] = field(default_factory=dict)
    damage: tuple[str, ...] = ()

    def option(self, name: str) -> Any:
        """A training setting of the config."""
        training = self.config.get("training")
        return training.get(name) if isinstance(training, Mapping) else None

    def fact(self, name: str) -> Any:
        """A figure of the data, as the worker announced it."""
        data = self.started.get("data")
        return number(data.get(name)) if isinstance(data, Mapping) else None

    @property
    def planned(self) -> int:
        """Optimizer steps that the run was to make; 0 when nobody knows."""
        return whole(self.started.get("max_steps")) or whole(self.option("max_steps")) or 0

    @property
    def warmup(self) -> int:
        """Steps over which its learning rate was to rise."""
        asked = number(self.option("warmup_steps")) or 0
        return round(asked * self.planned) if asked < 1 else int(asked)

    @property
    def is_over(self) -> bool:
        """Whether nothing will be added."""
        return Status(self.status).is_final


def read_evidence(fold: RunFold, status: str, reason: str = "") -> Evidence:
    """The evidence as it is now; it must not grow while it is judged, so hold `RunFold.reading` meanwhile."""
    paths = fold.paths
    with fold.reading(StepFigures, RunProgress):  # parsed for the former, a piece costs the latter little
        progress, steps = fold.part(RunProgress), fold.part(StepFigures)
        config = (read_json(paths.config) or {}).get("config")
        exit_info = read_json(paths.exit) or {}
        signal = exit_info.get("signal") if not is_there(paths.stop) else None
        pairs = list(predictions(paths)) if "test/macro_f1" in progress.metrics else []
        damage: tuple[str, ...] = ()
        if Status(status).is_final:
            damage = damaged_files(paths, steps.torn, ended_well=status == Status.FINISHED)
        return Evidence(
            config=config if isinstance(config, dict) else {},
            status=status,
            started=progress.latest.get("started", {}),
            failed=progress.latest.get("failed", {}),
            reason=reason,
            answered=progress.latest.get("answered", {}),
            signal=signal if isinstance(signal, int) else None,
            no_memory=exit_info.get("out_of_memory") is True,
            steps=steps,
            evals=tuple(progress.evals),
            metrics=progress.metrics,
            check=progress.latest.get("saved", {}).get("check"),
            truth=Counter(truth for truth, _ in pairs),
            answers=Counter(answer for _, answer in pairs),
            damage=damage,
        )


def _real(value: Any) -> float | None:
    """`number`, quicker for what it nearly always is."""
    return value if type(value) is float else number(value)


def predictions(paths: RunPaths) -> Iterator[tuple[str, str]]:
    """Truth and answer of each test row; lines that cannot be read are left out."""
    try:
        with open_plain(paths.predictions) as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            row = json.loads(line)
            yield row["target"].strip(), row["prediction"].strip()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
