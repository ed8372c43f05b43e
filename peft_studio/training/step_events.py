"""What happens around optimizer steps: an event for each, validation losses, stopping, and a check of the loss."""

import math
import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from peft_studio.errors import NonFiniteLossError


class StepCallback(TrainerCallback):
    """Emits one ``step`` event per optimizer step and calls for evaluations.

    Attributes:
        loss: Loss of the latest finished step.
        grad_norm: Set by the trainer: norm of the gradient before clipping; None when it was not computed.
        tokens: Set by the trainer: tokens seen so far, without padding.
        elapsed: Seconds of training so far, evaluations not counted.
        step: Latest finished step.
        stopped: Whether training ended because it was asked to.
        evaluated: Whether the latest step's validation loss, if one was due, has been measured.
        ended: Whether an evaluation has ended training early.
    """

    def __init__(
        self,
        emit: Callable[..., None],
        should_stop: Callable[[], bool],
        evaluate: Callable[[int, int, float], bool | None],
        eval_every: int,
        after_step: Callable[[int], None] | None = None,
    ) -> None:
        self.loss = 0.0
        self.grad_norm: Any = None
        self.tokens = 0
        self.elapsed = 0.0
        self.step = 0
        self.stopped = False
        self.evaluated = True
        self.ended = False
        self._emit = emit
        self._should_stop = should_stop
        self._evaluate = evaluate
        self._eval_every = eval_every
        self._after_step = after_step
        self._resumed = 0.0
        self._shares: Any = None
        self._learning_rate = 0.0

    def on_train_begin(self, *_args: Any, **_kwargs: Any) -> None:
        """Starts the clock."""
        self.start_clock()

    def start_clock(self) -> None:
        """Counts seconds of training from now on."""
        self._resumed = time.perf_counter()

    def go_on(self, step: int, tokens: int, elapsed: float) -> None:
        """Counts on from what an earlier process has done."""
        self.step, self.tokens, self.elapsed = step, tokens, elapsed

    def on_pre_optimizer_step(self, *_args: Any, **kwargs: Any) -> None:
        """Remembers the learning rate that this step uses; the scheduler moves on before the step ends."""
        self._learning_rate = kwargs["optimizer"].param_groups[0]["lr"]

    def on_optimizer_step(self, _args: TrainingArguments, state: TrainerState, *_rest: Any, **_kwargs: Any) -> None:
        """Lets the method act on the step while its gradients are still there."""
        if self._after_step is not None:
            self._after_step(state.global_step + 1)

    def add_loss(self, share: Any) -> None:
        """Adds one batch's share to the loss of the step."""
        self._shares = share if self._shares is None else self._shares + share

    def on_step_end(
        self, _args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any
    ) -> None:
        """Reports the step.

        Raises:
            NonFiniteLossError: The loss is NaN or infinite.
        """
        loss, self._shares = float(self._shares), None
        self.loss = loss
        self.step = state.global_step
        now = time.perf_counter()
        self.elapsed += now - self._resumed
        self._emit(
            "step",
            step=state.global_step,
            loss=loss,
            lr=self._learning_rate,
            grad_norm=None if self.grad_norm is None else float(self.grad_norm),
            tokens=self.tokens,
            elapsed=round(self.elapsed, 4),
        )
        if not math.isfinite(loss):
            raise NonFiniteLossError(
                f"The loss became {'NaN' if math.isnan(loss) else 'infinite'} at step {state.global_step}, with a "
                f"learning rate of {self._learning_rate:.3g}. A lower learning rate, more warm-up steps or gradient "
                "clipping (training.max_grad_norm) usually helps."
            )
        due = state.global_step % self._eval_every == 0 or state.global_step == state.max_steps
        if due:
            self.evaluate()
            control.should_training_stop = control.should_training_stop or self.ended
        if self._should_stop():
            self.stopped = control.should_training_stop = True
        self.start_clock()

    def evaluate(self) -> None:
        """Measures the validation loss of the latest step, unless the run is asked to stop."""
        enough = None if self._should_stop() else self._evaluate(self.step, self.tokens, self.elapsed)
        self.evaluated = enough is not None
        self.ended = bool(enough)
