"""A run across its interruptions: what it is asked to do, what it goes on from, what it keeps for the next time."""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import transformers
from torch import Tensor

from peft_studio.config.resolved_run import ResolvedRun
from peft_studio.errors import CheckpointError, NonFiniteLossError, StorageError
from peft_studio.runs.paths import RunPaths
from peft_studio.tasks.batching import EARLIER
from peft_studio.training import provenance
from peft_studio.training.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointWriter,
    PlainState,
    RunIdentity,
    prefixed,
    read_checkpoint,
    set_aside,
)
from peft_studio.training.checkpoints.checkpointing import Checkpointer
from peft_studio.training.checkpoints.early_stopping import EarlyStopping
from peft_studio.training.checkpoints.restore import PreparedModel, StepPlan, plan_steps
from peft_studio.training.checkpoints.training_state import load_tensors
from peft_studio.training.formats.rows import Batch
from peft_studio.training.loop import megabatch_of
from peft_studio.training.placing import bf16_of
from peft_studio.training.step_events import Emit, StepCallback, write_note

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

StopRequest = Callable[[], bool | str]  # "stop", "pause" or nothing; True means "stop"
SampleBatches = Callable[["PreTrainedModel"], Sequence[Batch]]


class ResumableRun:
    """What connects the processes that work on one run, one after the other.

    Args:
        run: What to do.
        paths: The run's folder.
        emit: Takes events.
        ask: Tells what the run is asked to do.

    Attributes:
        request: The latest thing asked for; empty when nothing was.
        early_stopping: Keeps the best weights.
        base_reported: Whether the base model's validation loss is among the events.
        resumed: The checkpoint that this process goes on from.
        precision: In which the run computes, ``fp32`` or ``bf16``: what it began with, on whatever machine it goes on.
        megabatch: Batches that are sorted by length together: the order of all rows depends on it.
        plan: How long the run trains.
        model: The base model with its method, after ``begin``.
    """

    resumed: Checkpoint | None
    plan: StepPlan
    precision: str
    megabatch: int
    model: "PeftModel"

    def __init__(self, run: ResolvedRun, paths: RunPaths, emit: Emit, ask: StopRequest) -> None:
        self._begun = time.perf_counter()
        self._run = run
        self._paths = paths
        self._emit = emit
        self._ask = ask
        self.request = ""
        self.early_stopping = EarlyStopping(run.config.training.early_stopping)
        self.base_reported = False

    def begin(
        self,
        base: "PreTrainedModel",
        identity: RunIdentity,
        steps: int,
        fresh_base: "Callable[[], PreTrainedModel]",
        batches: SampleBatches,
    ) -> "PeftModel":
        """Puts the method on a base model, as the checkpoint has it if there is a good one.

        Args:
            base: The base model; changed.
            identity: What a checkpoint must belong to.
            steps: Optimizer steps of the config.
            fresh_base: Loads the base model again, for when the checkpoint turns out not to fit.
            batches: Gives training batches for a base model, see ``PreparedModel``.
        """
        self._identity = identity
        try:
            self._prepare(base, steps, batches, read_checkpoint(self._paths.checkpoint, identity))
        except CheckpointError as exc:
            write_note(self._emit, f"The checkpoint cannot be used, because {exc}. The run starts from the beginning.")
            set_aside(self._paths.checkpoint)
            transformers.set_seed(self._run.config.training.seed)
            self._prepare(fresh_base(), steps, batches, None)
        return self.model

    def _prepare(
        self, base: "PreTrainedModel", steps: int, batches: SampleBatches, resumed: Checkpoint | None
    ) -> None:
        self.resumed = resumed
        self.plan = plan_steps(steps, self._paths.extended, resumed)
        self.precision = self._precision(base, resumed)
        prepared = PreparedModel(base, self._run, self.plan.method_steps, lambda: batches(base), resumed)
        self.model = prepared.model
        self._changed = prepared.changed
        before = resumed and resumed.state.get("megabatch", EARLIER)
        self.megabatch = int(before) if before else megabatch_of(self.model)
        self._writer = CheckpointWriter(self._paths.checkpoint, self._identity, prepared.constants())
        if resumed is not None:
            self.base_reported = resumed.state["base_told"]
            self.early_stopping.load(resumed.state["best"], resumed.part("best/"), self.model.device)
            if self._is_longer():
                self.early_stopping.reset_patience()

    def _precision(self, base: "PreTrainedModel", resumed: Checkpoint | None) -> str:
        config = self._run.config
        if resumed is not None and "precision" in resumed.state:
            return str(resumed.state["precision"])
        return bf16_of(config.resources.device).precision(config.training.precision, base.num_parameters())

    def _is_longer(self) -> bool:
        return self.resumed is not None and self.resumed.state["max_steps"] != self.plan.steps

    def announce(self) -> None:
        """Emits ``resumed`` if this process goes on from a checkpoint."""
        if self.resumed is not None:
            told = {key: self.resumed.state[key] for key in ("step", "tokens", "elapsed")}
            self._emit("resumed", **told, **{"from": self.resumed.step})

    def should_stop(self) -> bool:
        """Whether the run is asked to stop or to pause; remembers which."""
        request = self._ask()
        if request:
            self.request = request if isinstance(request, str) else "stop"
        return bool(request)

    def seconds(self) -> float:
        """What the run took so far, in all its processes."""
        before = self.resumed.state["seconds"] if self.resumed else 0.0
        return float(before) + time.perf_counter() - self._begun

    def has_steps_left(self, callback: StepCallback) -> bool:
        """Whether there are steps to do, after the evaluation that an interruption may have left out."""
        if self.resumed is None:
            return True
        if not self.resumed.state["evaluated"]:
            callback.evaluate()
            callback.stopped = not callback.evaluated
        elif not self._is_longer():
            callback.ended = self.resumed.state["ended"]
        return callback.step < self.plan.steps and not callback.stopped and not callback.ended

    def checkpointer(self, callback: StepCallback) -> Checkpointer:
        """What writes this run's checkpoints and puts the loop back to where it was."""
        return Checkpointer(
            self.model, self._changed, callback, self._writer, self._extra_state, self._on_failure, self.resumed
        )

    def _extra_state(self) -> tuple[PlainState, dict[str, Tensor]]:
        """What a checkpoint holds beside the state of the loop."""
        best, weights = self.early_stopping.state()
        state = self._run.method.state
        own = state(self.model) if state is not None else {}
        plain = {
            "max_steps": self.plan.steps,
            "method_steps": self.plan.method_steps,
            "cuts": list(self.plan.cuts),
            "precision": self.precision,
            "megabatch": self.megabatch,
            "seconds": self.seconds(),
            "base_told": self.base_reported,
            "best": best,
            "versions": provenance.versions(),
        }
        return plain, prefixed("best/", weights) | prefixed("method/", own)

    def _on_failure(self, reason: StorageError) -> None:
        """A checkpoint less is no reason to end a run, unless it is to be paused."""
        if self.request == "pause":
            raise reason
        write_note(self._emit, f"{reason} The run goes on without it.")

    def keep_last_good(
        self, checkpointer: Checkpointer, reason: NonFiniteLossError, save: Callable[[int], None]
    ) -> None:
        """Saves the last weights that were good, and ends the run.

        Raises:
            NonFiniteLossError: Always; it says which step's weights were kept, if any.
        """
        step = checkpointer.good.restore()
        if step is None:
            with contextlib.suppress(CheckpointError):
                found = read_checkpoint(self._paths.checkpoint, self._identity)
                if found is not None:
                    load_tensors(self.model, found.part("model/"))
                    step = found.step
        if step is None:
            raise reason
        save(step)
        raise NonFiniteLossError(f"{reason} The adapter of step {step}, the last good one, is kept.") from reason
