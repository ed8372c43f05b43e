"""What is known about a run, read from its folder piece by piece as the folder grows."""

import contextlib
import os
import time
from dataclasses import dataclass, field, fields
from typing import Any

from peft_studio.errors import ConfigError
from peft_studio.files import is_there, read_json
from peft_studio.methods import METHODS
from peft_studio.runs.claims import claimant_lives, nobody_is_left
from peft_studio.runs.event_log import number, whole
from peft_studio.runs.fold import RunFold
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.progress import RunProgress
from peft_studio.runs.redact import redact
from peft_studio.runs.requeue import attempts, checkpoint_step
from peft_studio.runs.status import Lives, RunState, Status, allowed_actions, run_state
from peft_studio.runs.store import read_config

MAX_TEXT = 2000  # characters of a name or a reason; a damaged file may hold millions
UNSETTLED_SECONDS = 30.0  # in which the events of a worker without a supervisor may still arrive


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One run as lists, tables and the API show it. ``None`` means not known (yet), never zero.

    Attributes:
        created: Seconds since the epoch, as ``started``.
        step: Optimizer steps done.
        loss: Training loss of the last step, raw.
        eval_loss: Latest validation loss; that of the saved weights, where early stopping has kept earlier ones.
        metrics: Every metric's value, by names such as ``test/bleu``: the latest, or that of the saved weights.
        measured_on: A fingerprint of the rows behind the metrics of ``eval`` and of ``test``.
        trainable_share: Trainable over total parameters, 0 to 1.
        steps_per_second: Recent speed while running, the run's average afterwards.
        eta_seconds: Estimated time left, evaluations included.
        seconds: Time the run took, up to its latest event while it runs; loading and evaluations included.
        stage: What the worker is doing, in words; empty when it is over.
        learning_rate: The configured peak.
        attempts: How often it was put back into the queue.
        checkpoint_step: Step from which it can go on; None without a checkpoint.
        actions: What may be asked of it now; see `status.allowed_actions`.
        queue_position: 1 for the run that starts next; None when it is not queued, or on hold.
        held: Whether it is queued and held back.
        priority: In the queue, ``high``, ``normal`` or ``low``; empty when it is not queued.
        best_eval_loss: Lowest validation loss, and ``best_step`` is where that was.
        saved_step: Step whose weights the adapter has; None without one.
        tokenizers: What answers were scored with, by metrics such as ``bleu``.
        owner: Id of the visitor whose it is; empty for the owner of the app.
        answer_seconds: For each answer to a test row, by whose they are: ``test``, ``base/test``.
    """

    id: str
    name: str
    title: str
    method: str
    model: str
    task: str
    status: Status
    reason: str
    created: float
    started: float | None
    step: int
    max_steps: int | None
    loss: float | None
    eval_loss: float | None
    metrics: dict[str, float]
    trainable_params: int | None
    total_params: int | None
    trainable_share: float | None
    steps_per_second: float | None
    tokens_per_second: float | None
    eta_seconds: float | None
    seconds: float | None
    peak_memory_bytes: int | None
    adapter_bytes: int | None
    stage: str
    learning_rate: float | None
    config: dict[str, Any]
    attempts: int = 0
    checkpoint_step: int | None = None
    actions: tuple[str, ...] = ()
    queue_position: int | None = None
    held: bool = False
    priority: str = ""
    predicted_memory_bytes: int | None = None
    best_eval_loss: float | None = None
    best_step: int | None = None
    saved_step: int | None = None
    tokenizers: dict[str, str] = field(default_factory=dict)
    measured_on: dict[str, str] = field(default_factory=dict)
    owner: str = ""
    answer_seconds: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; ``config`` and ``metrics`` are shared, not copied."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


class RunReader:
    """Reads one run's folder; every call costs what is new in it. Not thread-safe.

    Args:
        paths: The run.
        lives: Tells whether the process that claimed it lives.
        fold: Its log, perhaps shared with others; a new one when not given.

    Attributes:
        paths: The run.
        created: When it was submitted, in seconds since the epoch.
    """

    def __init__(self, paths: RunPaths, lives: Lives = claimant_lives, fold: RunFold | None = None) -> None:
        self.paths = paths
        self._lives = lives
        record = read_json(paths.config) or {}
        self._damage: str | None = None
        self.config: dict[str, Any] = record["config"] if isinstance(record.get("config"), dict) else {}
        self.created = number(record.get("created")) or max(0.0, changed_at(str(paths.root)) / 1e9)
        self._owner = record["owner"][:64] if isinstance(record.get("owner"), str) else ""
        self._name = record["name"][:MAX_TEXT] if isinstance(record.get("name"), str) else ""
        self._fold = fold or RunFold(paths)
        self._ended: RunState | None = None
        self._final: RunInfo | None = None
        self._foretold: int | None = None
        self._folder = str(paths.root)
        self._folder_changed = 0  # when the folder of an ended run was last changed, in ns

    @property
    def is_over(self) -> bool:
        """Whether the run is known to be over for good, so that nobody need look at its status again."""
        return self._ended is not None

    @property
    def waits_since(self) -> float:
        """When the run was put into the queue, in seconds since the epoch."""
        last = attempts(self.paths)[-1:] if is_there(self.paths.attempts) else []
        return (number(last[0].get("time")) if last else None) or self.created

    @property
    def is_interrupted(self) -> bool:
        """Whether the run is known to have been cut short, and no process of it can be left."""
        return self._ended is not None and self._ended.interrupted

    def recheck(self) -> bool:
        """Forgets that a run is over when files came or went in its folder, perhaps by another process.

        Returns:
            True: this reader stays of use.
        """
        if self._ended is not None and changed_at(self._folder) != self._folder_changed:
            self._ended = self._final = None
        return True

    def state(self) -> RunState:
        """The run's status; a folder that no worker could run is failed, and says why."""
        if self._ended is not None:
            return self._ended
        changed = changed_at(self._folder)  # before the look, so that nothing is missed
        state = run_state(self.paths, self._lives)
        if state.status is Status.QUEUED:
            if self._damage is None:
                self._damage = _damage(self.paths)
            return RunState(Status.FAILED, self._damage) if self._damage else state
        if state.status.is_over and self._is_settled():
            self._ended, self._folder_changed = state, changed
        return state

    def _is_settled(self) -> bool:
        """Whether an ended run will stay as it is.

        Without exit.json a worker may be about to notice that its supervisor has gone; without a claim, a worker
        may be on its way to a run that was stopped in the queue.
        """
        if is_there(self.paths.exit) or nobody_is_left(self.paths):
            return True
        now = time.time()
        signs = (self.paths.stop, self.paths.claim, self.paths.events)
        with contextlib.suppress(OSError):  # deleted this instant
            last = max((path.stat().st_mtime for path in signs if is_there(path)), default=now)
            return abs(now - last) > UNSETTLED_SECONDS  # a file of the future: the clock was set back
        return False

    def info(self) -> RunInfo:
        """Everything known now."""
        if self._final is not None:
            return self._final
        state = self.state()  # before the events: a status must not be newer than the figures shown with it
        with self._fold.reading(RunProgress) as fold:
            info = self._info(state, fold.part(RunProgress))
        if self._ended is not None:
            self._final = info
            self._fold.drop(RunProgress)  # of thousands of runs that are over, only what lists show is kept
        return info

    def _info(self, state: RunState, progress: RunProgress) -> RunInfo:
        facts, summary = progress.facts, progress.summary
        trainable, total = whole(facts.get("trainable_params")), whole(facts.get("total_params"))
        extended = whole((read_json(self.paths.extended) or {}).get("max_steps"))
        max_steps = extended or whole(facts.get("max_steps")) or whole(self._option("training", "max_steps"))
        checkpoint = checkpoint_step(self.paths)
        speed, token_speed = progress.speed()
        running = state.status.is_active
        method = self._text("method", "name")
        best_step, best_loss = progress.best or (None, None)
        return RunInfo(
            id=self.paths.id,
            name=self._name,
            owner=self._owner,
            title=self._name or _title(method, self.config.get("method")),
            method=method,
            model=self._text("model", "id"),
            task=self._text("task", "id"),
            status=state.status,
            reason=redact(state.reason[:MAX_TEXT]),
            created=self.created,
            started=number(facts.get("started")),
            step=progress.step,
            max_steps=max_steps,
            loss=number(facts.get("loss")),
            eval_loss=progress.metrics.get("eval/loss"),
            metrics=dict(progress.metrics),
            best_eval_loss=best_loss,
            best_step=best_step,
            saved_step=whole(progress.latest.get("saved", {}).get("step")),
            tokenizers=dict(progress.tokenizers),
            measured_on=dict(progress.measured_on),
            answer_seconds=progress.answer_seconds(),
            trainable_params=trainable,
            total_params=total,
            trainable_share=trainable / total if trainable is not None and total else None,
            steps_per_second=_first(None if running else summary.get("steps_per_second"), speed),
            tokens_per_second=_first(None if running else summary.get("tokens_per_second"), token_speed),
            eta_seconds=progress.eta(max_steps, whole(self._option("training", "eval_every"))) if running else None,
            seconds=_first(None if running else summary.get("seconds"), progress.seconds()),
            peak_memory_bytes=whole(_first(summary.get("peak_memory_bytes"), facts.get("peak_memory_bytes"))),
            predicted_memory_bytes=self._predicted(),
            adapter_bytes=whole(facts.get("bytes")),
            stage=str(facts.get("stage") or "starting") if running else "",
            learning_rate=number(self._option("training", "learning_rate")),
            config=self.config,
            attempts=len(attempts(self.paths)),
            checkpoint_step=checkpoint,
            actions=allowed_actions(state, checkpoint is not None, is_there(self.paths.claim)),
        )

    def _predicted(self) -> int | None:
        """The estimate of its memory; it comes once, some time after the run was submitted."""
        if self._foretold is None:
            self._foretold = whole((read_json(self.paths.predicted) or {}).get("memory_bytes"))
        return self._foretold

    def _option(self, section: str, key: str) -> Any:
        values = self.config.get(section)
        return values.get(key) if isinstance(values, dict) else None

    def _text(self, section: str, key: str) -> str:
        return value if isinstance(value := self._option(section, key), str) else ""


def _damage(paths: RunPaths) -> str:
    """Why nobody could run this folder; empty when it is fine."""
    try:
        os.listdir(paths.root)  # noqa: PTH208
        read_config(paths.config)
    except OSError as exc:
        return f"The run's folder cannot be read: {exc.strerror}."
    except ConfigError as exc:
        return f"{exc} So the run cannot start; delete it."
    return ""


def changed_at(folder: str) -> int:
    """When files last came or went in a folder, in ns; -1 when it is not there. Asked for thousands of runs."""
    try:
        return os.stat(folder).st_mtime_ns  # noqa: PTH116, which takes a third of a Path's time
    except OSError:
        return -1


def _title(method: str, params: Any) -> str:
    """The method's title with its main parameter: the first number among its parameters."""
    title = METHODS[method].title if method in METHODS else method or "damaged run"
    for key, value in params.items() if isinstance(params, dict) else ():
        if key != "name" and number(value) is not None:
            return f"{title} · {key.replace('_', ' ')} {value}"
    return title


def _first(*values: Any) -> float | None:
    return next((value for value in map(number, values) if value is not None), None)
