"""The optimizer steps of a run: schedule, accumulation, clipping, and as little else as possible.

A step does what ``transformers.Trainer`` does with the same settings, on the same batches, and costs less;
``tests/benchmarks/bench_speed.py`` measures how much less, and ``bench_step.py`` compares batch by batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, get_scheduler, set_seed
from transformers.trainer_pt_utils import get_parameter_names

from peft_studio.config.resolved_run import ResolvedRun
from peft_studio.config.sections import TrainingConfig
from peft_studio.tasks.batching import LengthGroupedBatches
from peft_studio.training.fast.frozen_weights import LowPrecision, fused_lora
from peft_studio.training.fast.llama import FastDecoder, Levers
from peft_studio.training.formats.formats import Continuation, Format
from peft_studio.training.formats.rows import IGNORED, Example
from peft_studio.training.step_events import StepCallback

LEVERS = Levers()
NO_DECAY = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
"""Parameters that weight decay leaves alone, as the Trainer of transformers has it."""


def optimizer_of(run: ResolvedRun, model: Any, fused: bool = True) -> Optimizer:
    """The optimizer of a run: the method's own, or the one that the training settings name."""
    training, method = run.config.training, run.method
    rate = training.learning_rate
    if method.optimizer is not None:
        return method.optimizer(model, run.config.method, rate, training.weight_decay)
    decayed = set(get_parameter_names(model, [nn.LayerNorm], NO_DECAY))
    named = [(name, part) for name, part in model.named_parameters() if part.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [part for name, part in named if name in decayed], "weight_decay": training.weight_decay},
        {"params": [part for name, part in named if name not in decayed], "weight_decay": 0.0},
    ]
    if training.optimizer == "adafactor":
        from transformers import Adafactor

        return Adafactor(groups, lr=rate, scale_parameter=False, relative_step=False)
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, rate)
    return torch.optim.AdamW(groups, rate, fused=fused)


def scheduler_of(training: TrainingConfig, optimizer: Optimizer) -> Any:
    """How the learning rate moves over a run's steps."""
    name = training.scheduler if training.scheduler != "constant" else "constant_with_warmup"
    return get_scheduler(name, optimizer, training.warmup_steps, training.max_steps)


class StudioTrainer:
    """Our batches, the loss on target tokens, and those who look on.

    Args:
        model: A PEFT model whose trainable parameters are the method's.
        run: Method and training settings; ``training.max_steps`` counts.
        examples: Training rows.
        form: How rows meet the model.
        callback: Is told loss, gradient norm and tokens of each step; steps that it has counted already are left out.
        others: More callbacks, in their order behind that one.
        cuts: Earlier ends of a run that was made longer, in steps.
        levers: What is done to be fast.

    Attributes:
        optimizer: Steps over what trains.
        scheduler: Moves its learning rate.
        state: ``global_step`` counts finished steps; a resumed run sets it when training begins.
    """

    def __init__(
        self,
        model: nn.Module,
        run: ResolvedRun,
        examples: Sequence[Example],
        form: Format,
        callback: StepCallback,
        others: Sequence[TrainerCallback] = (),
        cuts: Sequence[int] = (),
        levers: Levers | None = None,
    ) -> None:
        levers = LEVERS if levers is None else levers
        training = run.config.training
        set_seed(training.seed)
        self.model = model
        self.optimizer = optimizer_of(run, model, levers.fused_optimizer)
        self.scheduler = scheduler_of(training, self.optimizer)
        self.state = TrainerState(max_steps=training.max_steps)
        self._control = TrainerControl()
        self._training = training
        self._examples = examples
        self._form = form
        self._step_callback = callback
        self._callbacks: list[TrainerCallback] = [callback, *others]
        self._cuts = cuts
        self._levers = levers
        self._penalty = run.method.penalty
        self._trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._device = next(model.parameters()).device
        self._bf16 = training.precision == "bf16"
        self._low = LowPrecision(model) if self._bf16 and levers.cast_once else nullcontext()
        knows = levers.decoder and isinstance(form, Continuation) and FastDecoder.fits(model)
        knows = knows and (levers.cast_once or not self._bf16)
        seen = training.max_steps * training.batch_size * training.gradient_accumulation
        self._fast = FastDecoder(model, levers, repeats=seen > len(examples)) if knows else None

    def train(self) -> None:
        """Takes all steps that are left, or as many as the callback wants.

        Raises:
            NonFiniteLossError: The loss is NaN or infinite.
        """
        batches = self._batches()
        fused = self._levers.lora and self._fast is None
        with fused_lora(self.model) if fused else nullcontext():
            self._tell("on_train_begin")
            while self.state.global_step < self.state.max_steps and not self._control.should_training_stop:
                self._step([next(batches) for _ in range(self._training.gradient_accumulation)])
        self._tell("on_train_end")

    def _step(self, batches: list[dict[str, Any]]) -> None:
        self._tell("on_step_begin")
        # Divided by what all batches of the step predict, so that accumulated batches equal one large batch.
        answers = max(1, sum(int((batch["labels"] != IGNORED).sum()) for batch in batches))
        self.model.train()
        for batch in batches:
            self._step_callback.tokens += batch.pop("tokens")
            self._step_callback.add_loss(self._backward(batch, answers))
        if self._training.max_grad_norm:
            norm = nn.utils.clip_grad_norm_(self._trainable, self._training.max_grad_norm)
            self._step_callback.grad_norm = norm
        self._tell("on_pre_optimizer_step")
        self.optimizer.step()
        self._tell("on_optimizer_step")
        self.scheduler.step()
        self.optimizer.zero_grad()
        self.state.global_step += 1
        self._control.should_training_stop = self.state.global_step >= self.state.max_steps
        self._tell("on_step_end")

    def _backward(self, batch: dict[str, Any], answers: int) -> Tensor:
        """Adds a batch's gradients; returns its share of the step's loss."""
        moved = {name: part.to(self._device) if isinstance(part, Tensor) else part for name, part in batch.items()}
        with self._low:
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
                loss = self._summed(moved) / answers
                if self._penalty is not None:
                    loss = loss + self._penalty(self.model) / self._training.gradient_accumulation
            loss.backward()
        return loss.detach()

    def _summed(self, batch: dict[str, Any]) -> Tensor:
        if self._fast is not None:
            return self._fast.loss(batch)
        batch.pop("rows")
        return self._form.loss(self.model, batch, reduction="sum")

    def _batches(self) -> Iterator[dict[str, Any]]:
        """All batches of the run, from the first step that is left."""
        training, accumulated = self._training, self._training.gradient_accumulation
        lengths = [len(example.ids) for example in self._examples]
        order = LengthGroupedBatches(
            lengths if self._levers.grouping else [0] * len(lengths),
            training.batch_size,
            training.max_steps * accumulated,
            training.seed,
            start=self._step_callback.step * accumulated,
            cuts=[cut * accumulated for cut in self._cuts],
            classes=[example.ids[-1] for example in self._examples] if self._form.classifies else (),
        )
        for rows in order:
            yield {**self._form.collate([self._examples[row] for row in rows]), "rows": rows}

    def _tell(self, event: str) -> None:
        for callback in self._callbacks:
            tell = getattr(callback, event)
            tell(None, self.state, self._control, optimizer=self.optimizer, lr_scheduler=self.scheduler)
