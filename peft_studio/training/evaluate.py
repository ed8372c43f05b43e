"""Figures of a model on a task: exact losses on target tokens, and scored greedy answers, cached for base models."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peft_studio import __version__
from peft_studio.files import cache_write, read_json
from peft_studio.tasks.base import Row, Task
from peft_studio.training import Model
from peft_studio.training.formats.formats import Format
from peft_studio.training.formats.greedy import DECODING
from peft_studio.training.formats.rows import EncodedExample
from peft_studio.training.load import base_output, load_adapter
from peft_studio.training.provenance import fingerprint_of, fingerprint_rows

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Stop = Callable[[], bool]


@dataclass(frozen=True)
class Loss:
    """Mean negative log-likelihood of target tokens in nats, each token counting the same."""

    loss: float
    tokens: int

    def metrics(self, prefix: str) -> dict[str, float]:
        """As metrics, such as ``eval/loss`` and ``eval/perplexity``; a perplexity beyond floats is left out."""
        found = {f"{prefix}/loss": self.loss}
        if self.loss < 700:
            found[f"{prefix}/perplexity"] = math.exp(self.loss)
        return found


def measure_loss(model: nn.Module, form: Format, batches: Sequence[dict[str, Any]], should_stop: Stop) -> Loss | None:
    """The exact loss on all rows, each target token (or label) counting the same; None when stopped.

    The model is put into evaluation mode and back; ``should_stop`` is asked before every batch.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    wide = torch.float32 if device.type == "mps" else torch.float64  # which Apple's GPUs do not have
    total, tokens = torch.zeros((), dtype=wide, device=device), 0
    try:
        with torch.inference_mode():
            for batch in batches:
                if should_stop():
                    return None
                moved = {name: part.to(device) for name, part in batch.items() if isinstance(part, Tensor)}
                logits, targets = form.logits(model, moved)  # (N, V), (N,)
                total += F.cross_entropy(logits.float(), targets, reduction="sum")
                tokens += len(targets)
    finally:
        model.train(was_training)
    return Loss(float(total) / tokens, tokens)


@dataclass(frozen=True)
class TestResult:
    """Answers to the test rows.

    Attributes:
        metrics: Names without prefix, values from 0 to 100.
        answers: In order.
        cut: How many ran into the limit of tokens; None when that was not counted.
    """

    metrics: dict[str, float]
    answers: list[str]
    cut: int | None = None


def measure_answers(
    model: nn.Module, form: Format, task: Task, rows: Sequence[Row], max_new_tokens: int, should_stop: Stop
) -> TestResult | None:
    """Answers rows and scores the answers with the task's own metrics; None when stopped."""
    was_training = model.training
    model.eval()
    try:
        answers = form.answers(model, rows, max_new_tokens, should_stop)
    finally:
        model.train(was_training)
    if answers is None:
        return None
    return TestResult(dict(task.score(rows, answers)), answers, answers.cut)


WRITING = 4  # what a token costs that is written, one step for each, over one that is read


def work_of(examples: Sequence[EncodedExample], rows: int, classifies: bool, base_is_known: bool) -> dict[str, int]:
    """About how much work evaluations and answers are, in tokens that a model reads.

    Args:
        examples: The validation rows.
        rows: Test rows to answer, about as long as those.
        classifies: Whether an answer takes no more than reading.
        base_is_known: Whether the base model's answers need not be made.
    """
    read = sum(len(example.ids) for example in examples)
    written = 0 if classifies else WRITING * max(example.targets for example in examples) * len(examples)
    answers = (read + written) * rows // len(examples)
    return {"validation": read, "test": answers, "base/test": 0 if base_is_known or classifies else answers}


def longest_answer(tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Row]) -> int:
    """How many new tokens to allow: a quarter more than the longest target of these (training) rows, and the end."""
    targets = tokenizer([row.target for row in rows], add_special_tokens=False, verbose=False)["input_ids"]
    return max(map(len, targets)) * 5 // 4 + 1


def lengths_of_answers(
    tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Row], limit: int, ours: TestResult, base: TestResult
) -> dict[str, Any]:
    """How many answers, ours, the base model's and right ones, have ``limit`` tokens; the ``answered`` event."""
    targets = tokenizer([row.target for row in rows], add_special_tokens=False, verbose=False)["input_ids"]
    long = sum(len(ids) >= limit for ids in targets)
    found = {"rows": len(rows), "limit": limit, "cut": ours.cut, "base_cut": base.cut, "long": long}
    return {**found, "end": tokenizer.eos_token}


def always_most_frequent(task: Task, train: Sequence[Row], rows: Sequence[Row]) -> TestResult:
    """What answering with the most frequent training label scores: a classifier's base has no head to compare with."""
    (label, _), *_ = Counter(row.target for row in train).most_common(1)
    answers = [label] * len(rows)
    return TestResult(dict(task.score(rows, answers)), answers)


def loss_of_frequencies(train: Sequence[Row], rows: Sequence[Row]) -> Loss:
    """The loss of guessing labels by their share in the training rows."""
    counts = Counter(row.target for row in train)
    total = sum(-math.log(counts[row.target] / len(train)) for row in rows)
    return Loss(total / len(rows), len(rows))


def reload_difference(
    model: "PeftModel", base: "PreTrainedModel", adapter: Path, form: Format, examples: Sequence[EncodedExample]
) -> float:
    """Largest difference of a logit between a model and what was saved of it, put on a fresh base model."""
    batch = form.inputs(examples)
    reloaded = load_adapter(base, adapter).eval().to(model.device)
    moved = {name: part.to(model.device) for name, part in batch.items()}
    with torch.inference_mode():
        ours, _ = form.logits(model, moved)  # (N, V) of all N target tokens; (B, classes) of a classifier
        theirs, _ = form.logits(reloaded, moved)
    return float((ours - theirs).abs().max())


def write_predictions(path: Path, rows: Sequence[Row], answers: Sequence[str], base: Sequence[str] | None) -> None:
    """Writes ``predictions.jsonl``: what every reported test figure can be computed from again."""
    with path.open("w", encoding="utf-8") as file:
        for number, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            record: dict[str, Any] = {
                "prompt": row.prompt,
                "target": row.target,
                "references": list(row.references),
                "prediction": answer,
            }
            if base is not None:
                record["base"] = base[number]
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


Result = TypeVar("Result", Loss, TestResult)


class BaseFigures:
    """What the base model itself scores: the same for every run on the same rows, so kept in the cache folder."""

    def __init__(self, cache: Path, model: str, rows: Sequence[Row], settings: dict[str, object]) -> None:
        """Names the entry by the model's fingerprint, the rows, and everything else that changes the figures."""
        key = {"model": model, "rows": fingerprint_rows(rows), "decoding": DECODING, "code": __version__, **settings}
        self._path = cache / "base" / f"{fingerprint_of(key)}.json"

    def of(self, model: Model, measure: Callable[[Model], Result | None], kind: type[Result]) -> Result | None:
        """The figures of the base model below an adapter, measured if they are not kept; None when stopped."""
        if stored := self.load():
            return kind(**stored)
        with base_output(model) as base:
            found = measure(base)
        if found is not None:
            self.store(vars(found))
        return found

    def load(self) -> dict[str, Any] | None:
        """The stored figures; None when there are none or they cannot be read."""
        value = read_json(self._path) or {}
        return value if value.pop("digest", None) == fingerprint_of(value) else None

    def store(self, value: dict[str, Any]) -> None:
        """Stores figures; a cache that cannot be written is no reason to fail a run."""
        cache_write(self._path, json.dumps({"digest": fingerprint_of(value), **value}))
