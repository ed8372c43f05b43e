"""The loop tells those who look on what happens, in the order in which it happens."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import parse_config
from peft_studio.tasks.base import Row
from peft_studio.training.formats.formats import Continuation
from peft_studio.training.load import attach, load_base
from peft_studio.training.loop import TrainingLoop
from peft_studio.training.step_events import StepCallback

ROWS = [Row(f"food: Thai, area {number} =>", f" A Thai place by river {number}.") for number in range(6)]


class Diary:
    """A listener that writes down what it is told."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def on_train_begin(self, optimizer: Optimizer, scheduler: LambdaLR) -> None:
        """Notes the learning rate to begin with."""
        assert scheduler.optimizer is optimizer
        self.lines.append("begin")

    def on_step_begin(self, step: int) -> None:
        """Notes how many steps are done."""
        self.lines.append(f"before step {step + 1}")

    def on_step_end(self, last: bool) -> None:
        """Notes whether more will come."""
        self.lines.append("last" if last else "more")


@pytest.mark.parametrize("end", ["steps", "stop", "evaluation"])
def test_listeners_are_told_in_order(end: str, tiny_model: Path) -> None:
    training = {"max_steps": 2 if end == "steps" else 9, "batch_size": 2, "warmup_steps": 0}
    run = resolve(parse_config({"model": {"id": str(tiny_model)}, "method": {"name": "lora"}, "training": training}))
    torch.manual_seed(0)
    base, tokenizer = load_base(str(tiny_model))
    form = Continuation(tokenizer)
    diary = Diary()

    def evaluate(step: int, _tokens: int, _elapsed: float) -> bool:
        diary.lines.append(f"evaluation {step}")
        return end == "evaluation"

    callback = StepCallback(
        lambda kind, **fields: diary.lines.append(f"{kind} {fields['step']}"),
        lambda: end == "stop" and callback.step == 2,
        evaluate,
        eval_every=2,
    )
    model = attach(base, run.method, run.config.method)
    loop = TrainingLoop(model, run, form.encode(ROWS, 256).examples, form, callback, [diary])
    loop.train()
    asked_too_late = [] if end == "stop" else ["evaluation 2"]  # who is asked to stop does not evaluate any more
    assert diary.lines == [
        "begin", "before step 1", "step 1", "more", "before step 2", "step 2", *asked_too_late, "last",
    ]  # fmt: skip
    assert (loop.step, callback.stopped, callback.ended) == (2, end == "stop", end == "evaluation")
