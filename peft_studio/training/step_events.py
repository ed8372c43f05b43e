"""What is told of a run's steps: an event for each, validation losses, a check of the loss, and when to end.

The loop calls these plainly: ``StepCallback`` after every step, then each ``StepListener``.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from peft_studio.errors import NonFiniteLossError

Emit = Callable[..., None]


class StepListener(Protocol):
    """Who looks on while a run trains."""

    def on_train_begin(self, optimizer: Optimizer, scheduler: LambdaLR) -> None:
        """Before the first step of this process; may put back what an earlier process has left."""

    def on_step_begin(self, step: int) -> None:
        """Before a step; ``step`` are done."""

    def on_step_end(self, last: bool) -> None:
        """After a step that has been reported; ``last`` if this process does no other."""


def write_note(emit: Emit, message: str) -> None:
    """Says something that does not end the run, in the events and in the log."""
    print(message, flush=True)
    emit("note", message=message)


@dataclass(eq=False)
class StepCallback:
    """Emits one ``step`` event per optimizer step and calls for evaluations.

    Attributes:
        emit: Takes events.
        should_stop: Whether the run is asked to end.
        measure: Measures the validation loss, given steps, tokens and seconds; tells whether training should end,
            or None when it was asked to stop on the way.
        eval_every: Steps from one evaluation to the next.
        loss: Loss of the latest finished step.
        tokens: Tokens seen so far, without padding.
        elapsed: Seconds of training so far, evaluations not counted.
        step: Latest finished step.
        stopped: Whether training ended because it was asked to.
        evaluated: Whether the latest step's validation loss, if one was due, has been measured.
        ended: Whether an evaluation has ended training early.
    """

    emit: Emit
    should_stop: Callable[[], bool]
    measure: Callable[[int, int, float], bool | None]
    eval_every: int
    loss: float = 0.0
    tokens: int = 0
    elapsed: float = 0.0
    step: int = 0
    stopped: bool = False
    evaluated: bool = True
    ended: bool = False
    _resumed: float = 0.0

    def start_clock(self) -> None:
        """Counts seconds of training from now on."""
        self._resumed = time.perf_counter()

    def go_on(self, step: int, tokens: int, elapsed: float) -> None:
        """Counts on from what an earlier process has done."""
        self.step, self.tokens, self.elapsed = step, tokens, elapsed

    def note(self, message: str) -> None:
        """Says something that does not end the run; see ``write_note``."""
        write_note(self.emit, message)

    def on_step_end(self, loss: Tensor, rate: float, grad_norm: Tensor | None, tokens: int, last: bool) -> None:
        """Reports a step, and evaluates when that is due.

        Args:
            loss: Of the step: a scalar.
            rate: The learning rate that it used.
            grad_norm: Norm of its gradient before clipping; None when it was not computed.
            tokens: That it has seen, without padding.
            last: Whether it is the run's last.

        Raises:
            NonFiniteLossError: The loss is NaN or infinite.
        """
        self.loss = float(loss)  # waits for a GPU
        self.step += 1
        self.tokens += tokens
        self.elapsed += time.perf_counter() - self._resumed
        self.emit(
            "step",
            step=self.step,
            loss=self.loss,
            lr=rate,
            grad_norm=None if grad_norm is None else float(grad_norm),
            tokens=self.tokens,
            elapsed=round(self.elapsed, 4),
        )
        if not math.isfinite(self.loss):
            raise NonFiniteLossError(
                f"The loss became {'NaN' if math.isnan(self.loss) else 'infinite'} at step {self.step}, with a "
                f"learning rate of {rate:.3g}. A lower learning rate, more warm-up steps or gradient "
                "clipping (training.max_grad_norm) usually helps."
            )
        if last or self.step % self.eval_every == 0:
            self.evaluate()
        if self.should_stop():
            self.stopped = True
        self.start_clock()

    def evaluate(self) -> None:
        """Measures the validation loss of the latest step, unless the run is asked to stop."""
        enough = None if self.should_stop() else self.measure(self.step, self.tokens, self.elapsed)
        self.evaluated = enough is not None
        self.ended = bool(enough)
