"""One optimizer step under the microscope: what each token of its batch costs before and after, and what moves.

The step is one of a run's first ones, on the very batches of the run; those before it are taken unseen. It is computed
plainly in float32; losses are told without dropout, gradients and update are those of training.
"""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import set_seed

from peft_studio.config.resolved_run import ResolvedRun
from peft_studio.errors import ConfigError
from peft_studio.tasks.base import Row
from peft_studio.tasks.batching import LengthGroupedBatches
from peft_studio.training.checkpoints.training_state import preserved_rng_state
from peft_studio.training.formats.formats import Format, format_for
from peft_studio.training.formats.rows import IGNORED, Batch, EncodedExample
from peft_studio.training.formats.segments import token_text
from peft_studio.training.formats.target_logits import context_of, row_limit, virtual_tokens
from peft_studio.training.load import attach, layout_of, load_base
from peft_studio.training.loop import megabatch_of, optimizer_of, scheduler_of

MOST_STEPS = 20
SHOWN_ROWS, SHOWN_TOKENS = 16, 400
"""Rows of the batch, and tokens of each, that are told."""
SAMPLE_ROWS = 64
"""Training rows for a method that looks at data before it starts."""


class OneStep:
    """A run up to one of its first steps.

    Args:
        run: What to train; nothing of it is written.
        number: Which step, from 1 to 20.

    Raises:
        ConfigError: There is no such step.
        StudioError: As the run itself would.
    """

    def __init__(self, run: ResolvedRun, number: int = 1) -> None:
        rows, self._run, training = run.task.load("train"), run, run.config.training
        steps = training.steps_for(len(rows))
        most = min(MOST_STEPS, steps)
        if not 1 <= number <= most:
            raise ConfigError(f"The step is {number}; the first {most} steps of this run can be looked at.", "step")
        self._training = training.model_copy(update={"max_steps": steps})
        self._number = number
        set_seed(training.seed)
        base, tokenizer = load_base(run.config.model.id, labels=run.task.labels, lsg=run.config.lsg)
        self.form = format_for(layout_of(base), tokenizer, run.task.labels)
        context = context_of(base.config)
        sample = self._sample(rows, context) if run.method.looks_at_data else []
        self.model = attach(base, run.method, run.config.method, steps, sample)
        limit = row_limit(training.max_length, context, virtual_tokens(self.model))
        self._examples = self.form.encode(rows, limit).examples
        set_seed(training.seed)  # as the loop of training begins
        self.optimizer = optimizer_of(run, self.model, fused=False)
        self._scheduler = scheduler_of(self._training, self.optimizer)

    def _sample(self, rows: Sequence[Row], context: int) -> list[dict[str, Tensor]]:
        chosen = random.Random(self._training.seed).sample(rows, min(len(rows), SAMPLE_ROWS))
        limit, size = min(self._training.max_length, context), self._training.batch_size
        examples = self.form.encode(chosen, limit).examples
        return [self.form.inputs(examples[start : start + size]) for start in range(0, len(examples), size)]

    def look(self) -> dict[str, Any]:
        """Takes the step.

        Returns:
            ``step``, ``rate``; ``loss`` of the batch ``before`` and ``after`` in nats per token; ``gradient_norm`` and
            whether it was ``clipped``; ``rows`` of the batch: ``tokens``, each with ``text`` and, where it carries
            loss, ``before`` and ``after`` in nats, and ``label`` of a classifier's row; ``modules``: of each that
            trains its ``name``, ``parameters``, the norms of ``gradient`` (before clipping), ``update`` and
            ``weight`` (before the step).
        """
        examples = self._batches()
        for before in examples[:-1]:
            self._backward(before)
            self._move()
        batch = examples[-1]
        losses = self._losses(batch)
        self._backward(batch)
        named = {name: part for name, part in self.model.named_parameters() if part.requires_grad}
        gradients = {name: part.grad.detach().clone() for name, part in named.items() if part.grad is not None}
        weights = {name: part.detach().clone() for name, part in named.items()}
        rate = float(self.optimizer.param_groups[0]["lr"])
        norm = self._move()
        after, most = self._losses(batch), self._training.max_grad_norm
        return {
            "step": self._number,
            "rate": rate,
            "loss": {"before": _mean(losses), "after": _mean(after)},
            "gradient_norm": norm,
            "clipped": bool(most and norm > most),
            "rows": [self._row(*row) for row in list(zip(batch, losses, after, strict=True))[:SHOWN_ROWS]],
            "more_rows": max(0, len(batch) - SHOWN_ROWS),
            "modules": _modules(named, gradients, weights),
        }

    def _batches(self) -> list[list[EncodedExample]]:
        """The rows of each step up to this one."""
        training, each = self._training, self._training.gradient_accumulation
        order = LengthGroupedBatches(
            [len(example.ids) for example in self._examples],
            training.batch_size,
            training.max_steps * each,
            training.seed,
            classes=[example.ids[-1] for example in self._examples] if self.form.classifies else (),
            megabatch=megabatch_of(self.model),
        )
        numbers = iter(order)
        return [[self._examples[row] for _ in range(each) for row in next(numbers)] for _ in range(self._number)]

    def _backward(self, examples: Sequence[EncodedExample]) -> None:
        self.model.train()
        batch = self._moved(examples)
        answers = max(1, int((batch["labels"] != IGNORED).sum()))
        loss = self.form.loss(self.model, batch, reduction="sum") / answers
        if self._run.method.penalty is not None:
            loss = loss + self._run.method.penalty(self.model)
        loss.backward()

    def _move(self) -> float:
        """Lets the optimizer step; returns the norm of all gradients before they were clipped."""
        trained = [part for part in self.model.parameters() if part.requires_grad]
        norm = nn.utils.clip_grad_norm_(trained, self._training.max_grad_norm or float("inf"))
        self.optimizer.step()
        if self._run.method.after_step is not None:
            self._run.method.after_step(self.model, self._scheduler.last_epoch + 1)
        self._scheduler.step()
        self.optimizer.zero_grad()
        return float(norm)

    def _losses(self, examples: Sequence[EncodedExample]) -> list[list[float]]:
        """The loss of every token of every row that carries one."""
        self.model.eval()
        with torch.inference_mode():
            logits, targets = self.form.logits(self.model, self._moved(examples))  # (N, V), (N,)
            losses = iter(F.cross_entropy(logits.float(), targets, reduction="none").tolist())
        counts = [1 if self.form.classifies else example.targets for example in examples]
        return [[next(losses) for _ in range(count)] for count in counts]

    def _moved(self, examples: Sequence[EncodedExample]) -> Batch:
        return {name: part.to(self.model.device) for name, part in self.form.inputs(examples).items()}

    def _row(self, example: EncodedExample, before: list[float], after: list[float]) -> dict[str, Any]:
        return _shown(self.form, example, before, after, self._run.task.labels)


def one_step(run: ResolvedRun, number: int = 1) -> dict[str, Any]:
    """Looks at a step of a run; see `OneStep.look`. Random states are afterwards what they were before."""
    with preserved_rng_state():
        return OneStep(run, number).look()


def _shown(
    form: Format, example: EncodedExample, before: list[float], after: list[float], labels: Sequence[str]
) -> dict[str, Any]:
    if form.classifies:
        ids, scored = example.ids[:-1], [IGNORED] * example.prompt_length
    else:
        ids, scored = example.ids, example.labels
    losses, tokens = iter(zip(before, after, strict=True)), []
    for place, label in enumerate(scored):
        token: dict[str, Any] = {"text": token_text(form.tokenizer, ids, place, place + 1)}
        if label != IGNORED:
            token["before"], token["after"] = next(losses)
        tokens.append(token)
    told = {"label": labels[example.ids[-1]], "before": before[0], "after": after[0]} if form.classifies else {}
    return {"tokens": tokens[-SHOWN_TOKENS:], "more": max(0, len(tokens) - SHOWN_TOKENS), **told}


def _modules(
    named: dict[str, nn.Parameter], gradients: dict[str, Tensor], weights: dict[str, Tensor]
) -> list[dict[str, Any]]:
    return [
        {
            "name": name.removeprefix("base_model.model.").replace(".default", ""),
            "parameters": part.numel(),
            "gradient": float(gradients[name].norm()) if name in gradients else 0.0,
            "update": float((part.detach() - weights[name]).norm()),
            "weight": float(weights[name].norm()),
        }
        for name, part in named.items()
    ]


def _mean(losses: Sequence[Sequence[float]]) -> float:
    each = [loss for row in losses for loss in row]
    return sum(each) / len(each)
