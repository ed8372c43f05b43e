"""What keeps a run safe while it trains: checkpoints now and then, going on from one, and the last good weights."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from peft_studio.errors import StorageError
from peft_studio.training.checkpoints.checkpoint import Checkpoint, CheckpointWriter, Pace
from peft_studio.training.checkpoints.training_state import (
    Changing,
    Plain,
    all_finite,
    load_optimizer,
    optimizer_state,
    random_state,
    set_random_state,
    set_schedule,
)
from peft_studio.training.step_events import StepCallback

CHECKPOINT_SECONDS = 10.0  # from one checkpoint to the next at least
CHECKPOINT_SHARE = 0.02  # of the time, that writing checkpoints may cost
GOOD_SHARE = 0.01  # the same for copies in memory
GOOD_BYTES = 64 << 20  # larger weights are not copied

More = Callable[[], tuple[Plain, dict[str, Tensor]]]


class Keeper(TrainerCallback):
    """Writes checkpoints and goes on from one; stands behind the ``StepCallback`` among those who look on.

    Args:
        model: With its method, at the start or as the checkpoint has it.
        changing: Its tensors that training changes.
        callback: Knows how far the run has come.
        writer: Where checkpoints go.
        more: What else belongs into a checkpoint: plain values and tensors of the run.
        failed: Told when a checkpoint cannot be written; may end the run.
        resumed: The checkpoint to go on from.
    """

    def __init__(
        self,
        model: nn.Module,
        changing: Changing,
        callback: StepCallback,
        writer: CheckpointWriter,
        more: More,
        failed: Callable[[StorageError], None],
        resumed: Checkpoint | None = None,
    ) -> None:
        self._model = model
        self._changing = changing
        self._callback = callback
        self._writer = writer
        self._more = more
        self._failed = failed
        self._resumed = resumed
        self._pace = Pace(CHECKPOINT_SECONDS, CHECKPOINT_SHARE)
        self._good = LastGood(model)
        if resumed is not None:
            callback.go_on(resumed.step, resumed.state["tokens"], resumed.state["elapsed"])

    def on_train_begin(
        self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **kwargs: Any
    ) -> None:
        """Puts optimizer, schedule and step number back."""
        self._pace.wait(time.monotonic())
        if self._resumed is not None:
            plain = self._resumed.state["optimizer"]
            load_optimizer(kwargs["optimizer"], self._model, self._resumed.part("optimizer/"), plain)
            set_schedule(kwargs["lr_scheduler"], self._resumed.step)
            state.global_step = self._resumed.step

    def on_step_begin(self, _args: Any, state: TrainerState, *_rest: Any, **_kwargs: Any) -> None:
        """Puts the random states back before the first step, after all that draws numbers while a loop is set up."""
        if self._resumed is not None:
            set_random_state(self._resumed.part("random/"), self._resumed.state["random"])
            self._resumed = None
        self._good.copy(state.global_step)

    def on_step_end(self, _args: Any, _state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Writes a checkpoint when it is time, and always after the last step of this process."""
        self._good.confirm()
        last = control.should_training_stop
        began = time.monotonic()
        if not last and not self._pace.due(began):
            return
        try:
            self._write(kwargs["optimizer"], kwargs["lr_scheduler"])
        except StorageError as exc:
            self._failed(exc)
        now = time.monotonic()
        self._pace.wait(now, now - began)
        self._callback.start_clock()

    def _write(self, optimizer: Any, scheduler: Any) -> None:
        weights = self._changing.tensors()
        if not all_finite(weights):  # the next loss will end the run, and needs the checkpoint before
            return
        more, tensors = self._more()
        moments, plain = optimizer_state(optimizer, self._model)
        generators, words = random_state()
        callback = self._callback
        state = {
            **more,
            "step": callback.step,
            "tokens": callback.tokens,
            "elapsed": callback.elapsed,
            "evaluated": callback.evaluated,
            "ended": callback.ended,
            "optimizer": plain,
            "learning_rates": list(scheduler.get_last_lr()),
            "random": words,
        }
        self._writer.write(
            state,
            _below("model", weights) | _below("optimizer", moments) | _below("random", generators) | tensors,
        )

    def back_to_good(self) -> int | None:
        """Puts the last weights back whose loss was finite; their step, or None when there is no such copy."""
        return self._good.restore()


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


class LastGood:
    """Copies of the trained weights in memory, for a run whose loss stops being finite; none of large weights.

    A step's loss vouches for the weights that it started from, so a copy counts from the end of the next step on.
    """

    def __init__(self, model: nn.Module) -> None:
        trained = {name: item for name, item in model.named_parameters() if item.requires_grad}
        self._trained = trained if sum(item.nbytes for item in trained.values()) <= GOOD_BYTES else {}
        self._pace = Pace(0.0, GOOD_SHARE)
        self._fresh: tuple[int, list[Tensor]] | None = None
        self._good: tuple[int, list[Tensor]] | None = None

    def copy(self, step: int) -> None:
        """Copies the weights after so many steps, unless the last copy is too recent for its cost."""
        began = time.monotonic()
        if self._trained and self._pace.due(began):
            self._fresh = step, [item.detach().clone() for item in self._trained.values()]
            now = time.monotonic()
            self._pace.wait(now, now - began)

    def confirm(self) -> None:
        """The loss was finite."""
        self._good, self._fresh = self._fresh or self._good, None

    def restore(self) -> int | None:
        """Puts the good weights back; their step, or None when there are none."""
        if self._good is None:
            return None
        step, weights = self._good
        with torch.no_grad():
            for item, value in zip(self._trained.values(), weights, strict=True):
                item.copy_(value)
        return step
