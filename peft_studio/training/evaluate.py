"""Figures of a model on a task: exact losses on target tokens, and scored greedy answers, cached for base models."""

import contextlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from peft_studio import __version__
from peft_studio.tasks.base import Row, Task
from peft_studio.training.data import Example, batches_by_length, collate
from peft_studio.training.decoding import DECODING, greedy_answers
from peft_studio.training.loss import target_loss
from peft_studio.training.provenance import fingerprint_of, fingerprint_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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


def evaluation_batches(examples: Sequence[Example], padding: int) -> list[dict[str, Any]]:
    """Collates all examples once, so that repeated evaluations only run the model."""
    return [collate(batch, padding) for batch in batches_by_length(examples)]


def measure_loss(model: nn.Module, batches: Sequence[dict[str, Any]], should_stop: Stop) -> Loss | None:
    """The exact loss on all rows, token-weighted.

    Args:
        model: With or without an adapter; put into evaluation mode and back.
        batches: From ``evaluation_batches``.
        should_stop: Asked before every batch.

    Returns:
        None when stopped.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    total, tokens = torch.zeros((), dtype=torch.float64, device=device), 0
    try:
        with torch.inference_mode():
            for batch in batches:
                if should_stop():
                    return None
                moved = {"input_ids": batch["input_ids"].to(device), "labels": batch["labels"].to(device)}
                total += target_loss(model, moved, reduction="sum")
                tokens += int((batch["labels"][:, 1:] >= 0).sum())
    finally:
        model.train(was_training)
    return Loss(float(total) / tokens, tokens)


@dataclass(frozen=True)
class TestResult:
    """Answers to the test rows with their metrics (names without prefix, 0 to 100)."""

    metrics: dict[str, float]
    answers: list[str]


def measure_answers(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    task: Task,
    rows: Sequence[Row],
    max_new_tokens: int,
    should_stop: Stop,
) -> TestResult | None:
    """Answers rows greedily and scores the answers with the task's own metrics; None when stopped."""
    was_training = model.training
    model.eval()
    try:
        answers = greedy_answers(model, tokenizer, [row.prompt for row in rows], max_new_tokens, should_stop)
    finally:
        model.train(was_training)
    if answers is None:
        return None
    return TestResult(dict(task.score(rows, answers)), answers)


def longest_answer(tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Row]) -> int:
    """How many new tokens to allow: a quarter more than the longest target of these (training) rows, and the end."""
    targets = tokenizer([row.target for row in rows], add_special_tokens=False, verbose=False)["input_ids"]
    return max(map(len, targets)) * 5 // 4 + 1


class BaseFigures:
    """What the base model itself scores: the same for every run on the same rows, so kept in the cache folder."""

    def __init__(self, cache: Path, model: str, rows: Sequence[Row], settings: dict[str, Any]) -> None:
        """Names the entry.

        Args:
            cache: The cache folder.
            model: Fingerprint of the base model.
            rows: What it is measured on.
            settings: Everything else that changes the figures.
        """
        key = {"model": model, "rows": fingerprint_rows(rows), "decoding": DECODING, "code": __version__, **settings}
        self._path = cache / "base" / f"{fingerprint_of(key)}.json"

    def load(self) -> dict[str, Any] | None:
        """The stored figures; None when there are none or they cannot be read."""
        try:
            value = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def store(self, value: dict[str, Any]) -> None:
        """Stores figures; a cache that cannot be written is no reason to fail a run."""
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
            temporary.replace(self._path)
