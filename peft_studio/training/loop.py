"""The optimizer steps of a run: schedule, accumulation, clipping, and as little else as possible.

A step does what ``transformers.Trainer`` does with the same settings, on the same batches, and costs less;
``tests/benchmarks/bench_speed.py`` measures how much less, and ``bench_step.py`` compares batch by batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from itertools import chain
from operator import add
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import set_seed
from transformers.trainer_pt_utils import get_parameter_names

from peft_studio.config.resolved_run import ResolvedRun
from peft_studio.config.sections import TrainingConfig
from peft_studio.tasks.batching import MEGABATCH, LengthGroupedBatches
from peft_studio.training import Model
from peft_studio.training.checkpoints.training_state import preserved_rng_state
from peft_studio.training.fast.attention_plans import without_attention_plans
from peft_studio.training.fast.compare import Measured, describe_difference, loss_and_gradients, rows_to_check
from peft_studio.training.fast.frozen_weights import LowPrecision, fused_lora, fusible_layers
from peft_studio.training.fast.levers import Levers
from peft_studio.training.fast.llama import FastDecoder
from peft_studio.training.formats.formats import Continuation, Format
from peft_studio.training.formats.rows import IGNORED, Batch, EncodedExample
from peft_studio.training.step_events import StepCallback, StepListener

LEVERS = Levers()
NO_DECAY = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
"""Parameters that weight decay leaves alone, as the Trainer of transformers has it."""


def optimizer_of(run: ResolvedRun, model: Model, fused: bool = True) -> Optimizer:
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


def scheduler_of(training: TrainingConfig, optimizer: Optimizer) -> LambdaLR:
    """How the learning rate moves over a run's steps."""
    return LambdaLR(optimizer, lambda step: training.rate_factor(step, training.max_steps))


def megabatch_of(model: Model) -> int:
    """How many batches are sorted by length together: one where padding costs nothing, so that rows stay mixed.

    Never a matter of the machine: the order of rows must be the same on any, also where a model is spread over GPUs.
    """
    return 1 if FastDecoder.is_of_family(model) else MEGABATCH


class TrainingLoop:
    """Takes the steps of a run on our batches and tells those who look on.

    Args:
        model: A PEFT model whose trainable parameters are the method's.
        run: Method and training settings; ``training.max_steps`` counts.
        examples: Training rows.
        form: How rows meet the model.
        callback: Is told loss, gradient norm and tokens of each step; steps that it has counted already are left out.
        listeners: Look on as well, in their order behind that one.
        cuts: Earlier ends of a run that was made longer, in steps.
        levers: What is done to be fast.

    Attributes:
        optimizer: Steps over what trains.
        scheduler: Moves its learning rate.
        megabatch: Batches that are sorted by length together.
    """

    def __init__(
        self,
        model: Model,
        run: ResolvedRun,
        examples: Sequence[EncodedExample],
        form: Format,
        callback: StepCallback,
        listeners: Sequence[StepListener] = (),
        cuts: Sequence[int] = (),
        levers: Levers | None = None,
    ) -> None:
        levers = LEVERS if levers is None else levers
        training = run.config.training
        set_seed(training.seed)
        self.model = model
        self.optimizer = optimizer_of(run, model, levers.fused_optimizer)
        self.scheduler = scheduler_of(training, self.optimizer)
        self._training = training
        self._examples = examples
        self._form = form
        self._callback = callback
        self._listeners = listeners
        self._cuts = cuts
        self._levers = levers
        self._method = run.method
        self._trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._device = next(model.parameters()).device
        self._bf16 = training.precision == "bf16"
        self._low = LowPrecision(model) if self._bf16 and levers.cast_once else None
        self.megabatch = megabatch_of(model)
        knows = levers.decoder and isinstance(form, Continuation) and FastDecoder.fits(model)
        knows = knows and (levers.cast_once or not self._bf16)
        seen = training.max_steps * training.batch_size * training.gradient_accumulation
        self._decoder = FastDecoder(model, levers, repeats=seen > len(examples)) if knows else None
        self._fuses = levers.lora and not knows and bool(fusible_layers(model))

    @property
    def step(self) -> int:
        """Finished steps, those of earlier processes included."""
        return self._callback.step

    def train(self) -> None:
        """Takes all steps that are left, or as many as the callback wants.

        Raises:
            NonFiniteLossError: The loss is NaN or infinite.
        """
        batches = self._batches()
        for listener in self._listeners:
            listener.on_train_begin(self.optimizer, self.scheduler)
        if (first := next(batches, None)) is not None:
            self._check(first)
            batches = chain([first], batches)
        self._callback.start_clock()  # of training alone, as between evaluations and checkpoints
        with self._fused(), without_attention_plans():
            while self.step < self._training.max_steps and not (self._callback.stopped or self._callback.ended):
                self._step([next(batches) for _ in range(self._training.gradient_accumulation)])

    def _step(self, batches: list[Batch]) -> None:
        for listener in self._listeners:
            listener.on_step_begin(self.step)
        # Divided by what all batches of the step predict, so that accumulated batches equal one large batch.
        answers = max(1, sum(int((batch["labels"] != IGNORED).sum()) for batch in batches))
        self.model.train()
        loss = reduce(add, [self._backward(batch, answers) for batch in batches])
        norm = None
        if self._training.max_grad_norm:
            norm = nn.utils.clip_grad_norm_(self._trainable, self._training.max_grad_norm)
        rate = self.optimizer.param_groups[0]["lr"]  # the scheduler moves on before the step is reported
        self.optimizer.step()
        if self._method.after_step is not None:  # while the gradients are still there
            self._method.after_step(self.model, self.step + 1)
        self.scheduler.step()
        self.optimizer.zero_grad()
        tokens, last = sum(batch["tokens"] for batch in batches), self.step + 1 >= self._training.max_steps
        self._callback.on_step_end(loss, rate, norm, tokens, last)
        for listener in self._listeners:
            listener.on_step_end(last or self._callback.stopped or self._callback.ended)

    def _backward(self, batch: Batch, answers: int) -> Tensor:
        """Adds a batch's gradients; returns its share of the step's loss."""
        with self._low or nullcontext():
            with self._autocast(self._bf16):
                loss = self._summed(batch) / answers
                if self._method.penalty is not None:
                    loss = loss + self._method.penalty(self.model) / self._training.gradient_accumulation
            loss.backward()
        return loss.detach()

    def _summed(self, batch: Batch) -> Tensor:
        """Cross entropy of all that a batch predicts, in nats, by the fastest way there is: a scalar."""
        return self._plain_loss(batch) if self._decoder is None else self._decoder.loss(batch)

    def _plain_loss(self, batch: Batch) -> Tensor:
        return self._form.loss(self.model, self._moved(batch), reduction="sum")

    def _check(self, batch: Batch) -> None:
        """Computes rows of the first batch both ways; where they differ, the run goes on the library's way.

        All random states are afterwards what they were before.
        """
        if self._decoder is None and not self._fuses:
            return
        try:
            difference = self._difference(batch)
        except torch.OutOfMemoryError:  # the library may need more than our steps, and no run ends for that
            self._callback.note("The fast path was not checked, because the library's way does not fit into memory.")
            return
        if difference:
            self._decoder, self._low, self._fuses = None, None, False
            self._callback.note(
                f"The fast path does not give what the library gives: {difference}. "
                "The run goes on the library's way, which is slower."
            )

    def _difference(self, batch: Batch) -> str:
        # Our decoder draws other random numbers for dropout than the library; fused layers draw the same.
        self.model.train(self._decoder is None)
        rows = rows_to_check(batch)
        exact = self._measured(rows, fast=False)
        difference = describe_difference(self._measured(rows), exact, torch.float32)
        if self._bf16 and not difference:
            difference = describe_difference(self._measured(rows, bf16=True), exact, torch.bfloat16)
        return difference

    def _measured(self, rows: Batch, fast: bool = True, bf16: bool = False) -> Measured:
        fused, low = self._fused() if fast else nullcontext(), (self._low if bf16 else None) or nullcontext()
        with preserved_rng_state(), fused, low:
            with self._autocast(bf16):
                loss = self._summed(rows) if fast else self._plain_loss(rows)
            return loss_and_gradients(loss, self._trainable)

    def _autocast(self, bf16: bool) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=bf16)

    def _fused(self) -> AbstractContextManager[None]:
        """A context in which LoRA layers of models that ``FastDecoder`` does not know compute in fewer passes."""
        return fused_lora(self.model) if self._fuses else nullcontext()

    def _moved(self, batch: Batch) -> Batch:
        # Without waiting for a GPU to be done with what it was given before.
        return {
            name: part.to(self._device, non_blocking=True) if isinstance(part, Tensor) else part
            for name, part in batch.items()
        }

    def _batches(self) -> Iterator[Batch]:
        """All batches of the run, from the first step that is left; with the numbers of their ``rows``."""
        training, accumulated = self._training, self._training.gradient_accumulation
        lengths = [len(example.ids) for example in self._examples]
        order = LengthGroupedBatches(
            lengths if self._levers.grouping else [0] * len(lengths),
            training.batch_size,
            training.max_steps * accumulated,
            training.seed,
            start=self.step * accumulated,
            cuts=[cut * accumulated for cut in self._cuts],
            classes=[example.ids[-1] for example in self._examples] if self._form.classifies else (),
            megabatch=self.megabatch,
        )
        for rows in order:
            yield {**self._form.collate([self._examples[row] for row in rows]), "rows": rows}
