"""One training run from start to end: base model + method + task -> events, adapter, test figures.

The worker calls ``run``; everything it reports goes through ``emit`` into the run's event log.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

from peft_studio.config import RunConfig
from peft_studio.errors import ModelError, StorageError
from peft_studio.folder import RunFolder
from peft_studio.tasks import get_task
from peft_studio.tasks.base import Row
from peft_studio.training import provenance
from peft_studio.training.callbacks import StepCallback
from peft_studio.training.data import Encoded, encode_rows
from peft_studio.training.decoding import pad_id, room_for
from peft_studio.training.evaluate import (
    BaseFigures,
    Loss,
    TestResult,
    evaluation_batches,
    longest_answer,
    measure_answers,
    measure_loss,
)
from peft_studio.training.load import attach, base_output, load_adapter, load_base
from peft_studio.training.loop import StudioTrainer
from peft_studio.training.loss import context_length, target_logits, virtual_tokens
from peft_studio.training.param_map import count_parameters
from peft_studio.training.quiet import be_quiet

Emit = Callable[..., None]
Stop = Callable[[], bool]
CHECK_ROWS = 4


def run(*, config: RunConfig, paths: RunFolder, emit: Emit, should_stop: Stop, threads: int) -> None:
    """Trains, evaluates and saves one run.

    Args:
        config: What to do.
        paths: Where the adapter and the predictions go; the cache is ``../../cache`` from the run's folder.
        emit: Takes a kind of event and its fields (see ``jobs.events``).
        should_stop: Asked after every step and before every batch of an evaluation.
        threads: CPU threads for PyTorch.

    Raises:
        StudioError: In words, why the run failed. Other exceptions are faults of ours or of the machine.
    """
    begun = time.perf_counter()
    torch.set_num_threads(threads)
    be_quiet()
    transformers.set_seed(config.training.seed)
    emit("stage", name="loading the base model")
    session = _Session(config, paths, emit, should_stop)
    emit("stage", name="reading data")
    session.announce(threads)
    callback = session.train()
    session.save()
    if not callback.stopped:
        callback.stopped = not session.test()
    summary = _summary(callback, begun)
    emit("stopped" if callback.stopped else "finished", step=callback.step, summary=summary)


def _summary(callback: StepCallback, begun: float) -> dict[str, float]:
    seconds = max(callback.elapsed, 1e-9)
    return {
        "seconds": round(time.perf_counter() - begun, 3),
        "training_seconds": round(callback.elapsed, 3),
        "steps_per_second": round(callback.step / seconds, 3),
        "tokens_per_second": round(callback.tokens / seconds, 1),
        "peak_memory_bytes": provenance.peak_memory_bytes(),
    }


@dataclass(frozen=True)
class _Split:
    """Rows of a split with their tokens."""

    rows: list[Row]
    encoded: Encoded


class _Session:
    """The state of a run between its stages."""

    def __init__(self, config: RunConfig, paths: RunFolder, emit: Emit, should_stop: Stop) -> None:
        self.config = config
        self.paths = paths
        self.emit = emit
        self.should_stop = should_stop
        self.task = get_task(config.task.id)
        base, self.tokenizer = load_base(config.model.id)
        self.base_fingerprint = provenance.fingerprint_model(base)
        self.model: Any = attach(base, config.method)
        self.padding = pad_id(self.tokenizer)
        self._trained = (0, 0, 0.0)  # steps, tokens, seconds
        if torch.cuda.is_available():
            self.model.to("cuda")

    @cached_property
    def max_length(self) -> int:
        """Tokens of a row that fit the model beside the method's virtual tokens."""
        room = context_length(self.model) - virtual_tokens(self.model)
        if room < 2:
            raise ModelError(
                f"The method puts {virtual_tokens(self.model)} virtual tokens before the text, and the model reads "
                f"{context_length(self.model)} tokens in all. Fewer virtual tokens are needed."
            )
        return min(self.config.training.max_length, room)

    @cached_property
    def training_rows(self) -> _Split:
        """The training split."""
        return self._split(self.task.load("train"))

    @cached_property
    def validation_rows(self) -> _Split:
        """The validation rows that are used."""
        return self._split(self.task.load("validation")[: self.config.training.eval_rows])

    @cached_property
    def validation_batches(self) -> list[dict[str, Any]]:
        """The validation rows, ready for the model."""
        return evaluation_batches(self.validation_rows.encoded.examples, self.padding)

    def _split(self, rows: list[Row]) -> _Split:
        return _Split(rows, encode_rows(rows, self.tokenizer, self.max_length))

    def announce(self, threads: int) -> None:
        """Emits ``started`` with everything that identifies the run's figures."""
        trainable, total = count_parameters(self.model)
        train = self.training_rows
        self.emit(
            "started",
            versions=provenance.versions(),
            device=provenance.device_of(self.model),
            threads=threads,
            seed=self.config.training.seed,
            model={"id": self.config.model.id, "fingerprint": self.base_fingerprint},
            data={
                "id": self.task.name,
                "fingerprint": provenance.fingerprint_rows(train.rows),
                "rows": len(train.encoded.examples),
                "cut": train.encoded.cut,
                "dropped": train.encoded.dropped,
                "max_length": self.max_length,
            },
            trainable_params=trainable,
            total_params=total,
            max_steps=self.config.training.max_steps,
        )

    def train(self) -> StepCallback:
        """Runs the optimizer steps; validation losses come on the way."""
        training = self.config.training
        callback = StepCallback(self.emit, self.should_stop, self.evaluate, training.eval_every)
        self.emit("stage", name="training")
        with tempfile.TemporaryDirectory(prefix=".trainer-", dir=self.paths.root) as folder:
            trainer = StudioTrainer(
                self.model, training, self.training_rows.encoded.examples, self.padding, folder, callback
            )
            trainer.train()
        self._trained = (callback.step, callback.tokens, round(callback.elapsed, 4))
        return callback

    def evaluate(self, step: int, tokens: int, elapsed: float) -> None:
        """Emits the validation loss; the first time also the base model's, as step 0."""
        if "base_loss" not in self.__dict__:
            base = self.base_loss
            if base is not None:
                self.emit("eval", step=0, tokens=0, elapsed=0.0, metrics=base.metrics("base/eval"))
        found = measure_loss(self.model, self.validation_batches, self.should_stop)
        if found is not None:
            metrics = found.metrics("eval")
            self.emit("eval", step=step, tokens=tokens, elapsed=round(elapsed, 4), metrics=metrics)

    @cached_property
    def base_loss(self) -> Loss | None:
        """The base model's validation loss, measured once per cache."""
        figures = self._base_figures(self.validation_rows.rows, max_length=self.max_length)
        if stored := figures.load():
            return Loss(stored["loss"], stored["tokens"])
        with base_output(self.model) as base:
            found = measure_loss(base, self.validation_batches, self.should_stop)
        if found is not None:
            figures.store({"loss": found.loss, "tokens": found.tokens})
        return found

    def _base_figures(self, rows: Sequence[Row], **settings: Any) -> BaseFigures:
        cache = self.paths.root.parent.parent / "cache"
        return BaseFigures(cache, self.base_fingerprint, rows, settings)

    def save(self) -> None:
        """Saves the adapter, loads it into a fresh base model and compares what the two answer."""
        self.emit("stage", name="saving the adapter")
        self.model.eval()
        self._save_files()
        self.emit(
            "saved",
            path=self.paths.adapter.name,
            bytes=(self.paths.adapter / "adapter_model.safetensors").stat().st_size,
            check={"rows": CHECK_ROWS, "max_difference": self._reload_difference()},
        )

    def _save_files(self) -> None:
        draft = self.paths.root / ".adapter"  # appears under its final name when it is complete
        shutil.rmtree(draft, ignore_errors=True)
        try:
            self.model.save_pretrained(draft, save_embedding_layers=False)
            shutil.rmtree(self.paths.adapter, ignore_errors=True)
            draft.rename(self.paths.adapter)
        except (SafetensorError, OSError) as exc:
            shutil.rmtree(draft, ignore_errors=True)
            raise StorageError(f"The adapter could not be saved in {self.paths.root}: {exc}.") from exc

    def _reload_difference(self) -> float:
        """Largest difference of a logit between this model and the saved one, on a few rows."""
        batch = evaluation_batches(self.training_rows.encoded.examples[:CHECK_ROWS], self.padding)[0]
        base, _ = load_base(self.config.model.id)
        reloaded = load_adapter(base, self.paths.adapter).eval().to(self.model.device)
        ids, labels = batch["input_ids"].to(self.model.device), batch["labels"].to(self.model.device)
        with torch.inference_mode():
            ours, _ = target_logits(self.model, ids, labels)
            theirs, _ = target_logits(reloaded, ids, labels)
        return float((ours - theirs).abs().max())

    def test(self) -> bool:
        """Answers the test rows, writes the predictions and emits the metrics; False when stopped."""
        self.emit("stage", name="answering the test rows")
        rows = self.task.load("test")[: self.config.training.eval_rows]
        limit = longest_answer(self.tokenizer, self.training_rows.rows)
        limit = max(1, min(limit, room_for(self.model, 1)))
        found = measure_answers(self.model, self.tokenizer, self.task, rows, limit, self.should_stop)
        if found is None:
            return False
        self._emit_test("test", found)
        base = self._base_answers(rows, limit)
        self._write_predictions(rows, found.answers, base.answers if base else None)
        if base is None:
            return False
        self._emit_test("base/test", base)
        return True

    def _emit_test(self, prefix: str, result: TestResult) -> None:
        metrics = {f"{prefix}/{name}": value for name, value in result.metrics.items()}
        step, tokens, elapsed = self._trained if prefix == "test" else (0, 0, 0.0)
        self.emit("eval", step=step, tokens=tokens, elapsed=elapsed, metrics=metrics)

    def _base_answers(self, rows: Sequence[Row], limit: int) -> TestResult | None:
        figures = self._base_figures(rows, task=self.task.name, max_new_tokens=limit)
        if stored := figures.load():
            return TestResult(stored["metrics"], stored["answers"])
        with base_output(self.model) as base:
            found = measure_answers(base, self.tokenizer, self.task, rows, limit, self.should_stop)
        if found is not None:
            figures.store({"metrics": found.metrics, "answers": found.answers})
        return found

    def _write_predictions(self, rows: Sequence[Row], answers: Sequence[str], base: Sequence[str] | None) -> None:
        with self.paths.predictions.open("w", encoding="utf-8") as file:
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
