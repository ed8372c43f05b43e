"""The loop tells those who look on what happens, in the order in which it happens, and does what a script does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from peft_studio.config.resolved_run import ResolvedRun, resolve
from peft_studio.config.run_config import parse_config
from peft_studio.tasks.base import Row
from peft_studio.tasks.batching import LengthGroupedBatches
from peft_studio.training.formats.formats import Continuation
from peft_studio.training.formats.rows import EncodedExample
from peft_studio.training.load import attach, load_base
from peft_studio.training.loop import TrainingLoop, megabatch_of
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


@pytest.mark.parametrize("name", ["oft", "prefix", "prompt", "parallel"])
def test_losses_are_those_of_a_plain_script(name: str, tiny_model: Path) -> None:
    training = {"max_steps": 8, "batch_size": 2, "warmup_steps": 2, "learning_rate": 3e-3}
    run = resolve(parse_config({"model": {"id": str(tiny_model)}, "method": {"name": name}, "training": training}))
    losses: list[list[float]] = []
    for script in (our_losses, plain_losses):
        torch.manual_seed(0)
        base, tokenizer = load_base(str(tiny_model))
        form = Continuation(tokenizer)
        losses.append(script(attach(base, run.method, steps=8), run, form.encode(ROWS, 64).examples, form))
    ours, plain = losses
    assert plain[-1] != plain[0]
    assert ours == pytest.approx(plain, rel=1e-4)


def our_losses(model: Any, run: ResolvedRun, examples: list[EncodedExample], form: Continuation) -> list[float]:
    """A run's losses, step by step."""
    told: list[float] = []

    def emit(kind: str, **fields: Any) -> None:
        if kind == "step":
            told.append(fields["loss"])

    callback = StepCallback(emit, lambda: False, lambda *_: False, eval_every=99)
    TrainingLoop(model, run, examples, form, callback).train()
    return told


def plain_losses(model: Any, run: ResolvedRun, examples: list[EncodedExample], form: Continuation) -> list[float]:
    """Those of a plain loop over the same batches, with the library's own loss, mask and labels."""
    training = run.config.training
    parts = [part for part in model.parameters() if part.requires_grad]
    optimizer = torch.optim.AdamW(parts, training.learning_rate, weight_decay=0.0)
    scheduler = LambdaLR(optimizer, lambda step: training.rate_factor(step, training.max_steps))
    lengths = [len(example.ids) for example in examples]
    losses, pool = [], megabatch_of(model)
    for rows in LengthGroupedBatches(lengths, training.batch_size, training.max_steps, training.seed, megabatch=pool):
        batch = form.collate([examples[row] for row in rows])
        widths = torch.tensor([lengths[row] for row in rows])
        mask = (torch.arange(batch["input_ids"].shape[1]) < widths[:, None]).long()  # (B, T)
        loss = model.train()(input_ids=batch["input_ids"], attention_mask=mask, labels=batch["labels"]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parts, training.max_grad_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses
