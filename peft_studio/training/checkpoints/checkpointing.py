"""What keeps a run safe while it trains: checkpoints now and then, going on from one, and the last good weights."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from peft_studio.errors import StorageError
from peft_studio.training.checkpoints.checkpoint import Checkpoint, CheckpointWriter, PlainState, Throttle, prefixed
from peft_studio.training.checkpoints.training_state import (
    ChangedTensors,
    all_finite,
    load_optimizer_state,
    optimizer_state,
    rng_state,
    set_rng_state,
    set_schedule,
)
from peft_studio.training.step_events import StepCallback

CHECKPOINT_SECONDS = 10.0  # from one checkpoint to the next at least
CHECKPOINT_SHARE = 0.02  # of the time, that writing checkpoints may cost
GOOD_SHARE = 0.01  # the same for copies in memory
GOOD_BYTES = 64 << 20  # larger weights are not copied

ExtraState = Callable[[], tuple[PlainState, dict[str, Tensor]]]


@dataclass(eq=False)
class Checkpointer:
    """Writes checkpoints and goes on from one; a ``StepListener``.

    Attributes:
        model: With its method, at the start or as the checkpoint has it.
        changed: Its tensors that training changes.
        callback: Knows how far the run has come.
        writer: Where checkpoints go.
        extra_state: What else belongs into a checkpoint: plain values and tensors of the run.
        on_failure: Told when a checkpoint cannot be written; may end the run.
        resumed: The checkpoint to go on from; None from the first step on.
    """

    model: nn.Module
    changed: ChangedTensors
    callback: StepCallback
    writer: CheckpointWriter
    extra_state: ExtraState
    on_failure: Callable[[StorageError], None]
    resumed: Checkpoint | None = None

    def __post_init__(self) -> None:
        self._throttle = Throttle(CHECKPOINT_SECONDS, CHECKPOINT_SHARE)
        self.good = LastGoodWeights(self.model)
        if self.resumed is not None:
            self.callback.go_on(self.resumed.step, self.resumed.state["tokens"], self.resumed.state["elapsed"])

    def on_train_begin(self, optimizer: Optimizer, scheduler: LambdaLR) -> None:
        """Puts optimizer and schedule back."""
        self._optimizer, self._scheduler = optimizer, scheduler
        self._throttle.wait(time.monotonic())
        if self.resumed is not None:
            moments = self.resumed.part("optimizer/")
            load_optimizer_state(optimizer, self.model, moments, self.resumed.state["optimizer"])
            set_schedule(scheduler, self.resumed.step)

    def on_step_begin(self, step: int) -> None:
        """Puts the random states back before the first step, after all that draws numbers while a loop is set up."""
        if self.resumed is not None:
            set_rng_state(self.resumed.part("random/"), self.resumed.state["random"])
            self.resumed = None
        self.good.copy(step)

    def on_step_end(self, last: bool) -> None:
        """Writes a checkpoint when it is time, and always after the last step of this process."""
        self.good.confirm()
        began = time.monotonic()
        if not last and not self._throttle.due(began):
            return
        try:
            self._write()
        except StorageError as exc:
            self.on_failure(exc)
        now = time.monotonic()
        self._throttle.wait(now, now - began)
        self.callback.start_clock()

    def _write(self) -> None:
        weights = self.changed.tensors()
        if not all_finite(weights):  # the next loss will end the run, and needs the checkpoint before
            return
        extra, tensors = self.extra_state()
        moments, optimizer = optimizer_state(self._optimizer, self.model)
        generators, random = rng_state()
        told = ("step", "tokens", "elapsed", "evaluated", "ended")
        state = {
            **extra,
            **{name: getattr(self.callback, name) for name in told},
            "optimizer": optimizer,
            "learning_rates": list(self._scheduler.get_last_lr()),
            "random": random,
        }
        loop = prefixed("model/", weights) | prefixed("optimizer/", moments) | prefixed("random/", generators)
        self.writer.write(state, loop | tensors)


class LastGoodWeights:
    """Copies of the trained weights in memory, for a run whose loss stops being finite; none of large weights.

    A step's loss vouches for the weights that it started from, so a copy counts from the end of the next step on.
    """

    def __init__(self, model: nn.Module) -> None:
        trained = [item for item in model.parameters() if item.requires_grad]
        self._trained = trained if sum(item.nbytes for item in trained) <= GOOD_BYTES else []
        self._throttle = Throttle(0.0, GOOD_SHARE)
        self._fresh: tuple[int, list[Tensor]] | None = None
        self._good: tuple[int, list[Tensor]] | None = None

    def copy(self, step: int) -> None:
        """Copies the weights after so many steps, unless the last copy is too recent for its cost."""
        began = time.monotonic()
        if self._trained and self._throttle.due(began):
            self._fresh = step, [item.detach().clone() for item in self._trained]
            now = time.monotonic()
            self._throttle.wait(now, now - began)

    def confirm(self) -> None:
        """The loss was finite."""
        self._good, self._fresh = self._fresh or self._good, None

    def restore(self) -> int | None:
        """Puts the good weights back; their step, or None when there are none."""
        if self._good is None:
            return None
        step, weights = self._good
        with torch.no_grad():
            for item, value in zip(self._trained, weights, strict=True):
                item.copy_(value)
        return step
