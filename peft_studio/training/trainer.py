"""One training run from start to end: base model + method + task -> events, adapter, test figures.

The worker calls ``run``; everything it reports goes through ``emit`` into the run's event log.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import torch
import transformers

from peft_studio.config.resolved_run import ResolvedRun
from peft_studio.config.sections import TrainingConfig
from peft_studio.errors import NonFiniteLossError
from peft_studio.runs.paths import RunPaths
from peft_studio.tasks.base import Row, some_rows
from peft_studio.tasks.metrics import tokenizers_for
from peft_studio.training import Model, evaluate, provenance
from peft_studio.training.adapter_files import write_adapter
from peft_studio.training.checkpoints.checkpoint import RunIdentity
from peft_studio.training.checkpoints.checkpointing import Checkpointer
from peft_studio.training.checkpoints.session import ResumableRun, StopRequest
from peft_studio.training.checkpoints.training_state import preserved_rng_state
from peft_studio.training.estimates.param_map import count_parameters
from peft_studio.training.evaluate import BaseFigures, Loss, TestResult
from peft_studio.training.formats.ends import end_ids
from peft_studio.training.formats.formats import format_for
from peft_studio.training.formats.greedy import room_for
from peft_studio.training.formats.rows import dropped_notes, without_marks
from peft_studio.training.formats.target_logits import context_of
from peft_studio.training.inspection.snapshots import SnapshotTaker
from peft_studio.training.load import layout_of, load_base
from peft_studio.training.loop import TrainingLoop
from peft_studio.training.outside_check import CHECK_ROWS, Question, saved_difference
from peft_studio.training.placing import bf16_of, device_for, is_spread
from peft_studio.training.quiet import be_quiet
from peft_studio.training.run_data import RunData
from peft_studio.training.step_events import StepCallback, write_note

Emit = Callable[..., None]
SAMPLE_BATCHES = 8  # that a method may look at before it starts


def run(*, resolved: ResolvedRun, paths: RunPaths, emit: Emit, should_stop: StopRequest, threads: int) -> None:
    """Trains, evaluates and saves one run, from its start or from its checkpoint.

    Args:
        resolved: What to do.
        paths: Where the adapter and the predictions go; the cache is ``../../cache`` from the run's folder.
        emit: Takes a kind of event and its fields (see ``runs.events``).
        should_stop: Asked after every step and before every batch of an evaluation, what the run is asked to do:
            "stop", "pause" or nothing.
        threads: CPU threads for PyTorch.

    Raises:
        StudioError: In words, why the run failed. Other exceptions are faults of ours or of the machine.
    """
    torch.set_num_threads(threads)
    be_quiet()
    device_for(resolved.config.resources.device)  # a device that is not there is told before anything takes time
    transformers.set_seed(resolved.config.training.seed)
    emit = provenance.with_peak_memory(emit)
    emit("stage", name="loading the base model")
    session = _Session(resolved, paths, emit, should_stop)
    emit("stage", name="reading data")
    session.announce(threads)
    callback = session.train()
    resumable = session.resumable
    if not (callback.stopped and resumable.request == "pause"):
        session.save(callback.step)
        if resolved.config.training.answers and not callback.stopped:
            callback.stopped = not session.test()
    end = "finished" if not callback.stopped else "paused" if resumable.request == "pause" else "stopped"
    emit(end, step=callback.step, summary=_summary(callback, resumable.seconds()))


def _summary(callback: StepCallback, total: float) -> dict[str, float]:
    seconds = max(callback.elapsed, 1e-9)
    return {
        "seconds": round(total, 3),
        "training_seconds": round(callback.elapsed, 3),
        "steps_per_second": round(callback.step / seconds, 3),
        "tokens_per_second": round(callback.tokens / seconds, 1),
        "peak_memory_bytes": provenance.peak_memory_bytes(),
    }


class _Session(RunData):
    """The state of a run between its stages."""

    def __init__(self, resolved: ResolvedRun, paths: RunPaths, emit: Emit, should_stop: StopRequest) -> None:
        self._resolved = resolved
        self.config = config = resolved.config
        self.paths = paths
        self.emit = emit
        self._cache = paths.root.parent.parent / "cache"
        self.resumable = ResumableRun(resolved, paths, emit, should_stop)
        self.should_stop = self.resumable.should_stop
        self.task = resolved.task
        self._fresh_base = partial(load_base, config.model.id, labels=self.task.labels, lsg=config.lsg)
        base, self.tokenizer = self._fresh_base()
        self.base_fingerprint = provenance.fingerprint_model(base)
        self.form = format_for(layout_of(base), self.tokenizer, self.task.labels)
        rows = self.task.load("train")
        settings = provenance.fingerprint_settings(config)
        self.identity = RunIdentity(settings, self.base_fingerprint, provenance.fingerprint_rows(rows))
        steps = config.training.steps_for(len(rows))
        self.model = self.resumable.begin(base, self.identity, steps, lambda: self._fresh_base()[0], self._sample)
        self._trained = (0, 0, 0.0)  # steps, tokens, seconds
        self._snapshots = SnapshotTaker(paths, config.resources.snapshots)
        self._tokenizers: dict[str, str] = {}
        self._best: tuple[int, float] | None = None  # step and validation loss of weights that were put back

    def _sample(self, base: Model) -> list[dict[str, Any]]:
        """Training batches for a method that looks at data before it starts; none for others."""
        if not self._resolved.method.looks_at_data:
            return []
        training = self.config.training
        rows = self.task.load("train")
        chosen = random.Random(training.seed).sample(rows, min(len(rows), SAMPLE_BATCHES * training.batch_size))
        examples = self.form.encode(chosen, min(training.max_length, context_of(base.config))).examples
        starts = range(0, len(examples), training.batch_size)
        return [self.form.inputs(examples[start : start + training.batch_size]) for start in starts]

    def announce(self, threads: int) -> None:
        """Emits ``started`` with everything that identifies the run's figures."""
        trainable, total = count_parameters(self.model)
        train, validation = self.training_rows, self.validation_rows.encoded
        training = self.config.training
        tests = min(len(self.task.load("test")), training.eval_rows) if training.answers else 0
        known = bool(self._base_figures(self.validation_rows.rows, max_length=self.max_length).load())
        self.emit(
            "started",
            versions=provenance.versions(),
            device=provenance.device_of(self.model),
            threads=threads,
            precision=self.resumable.precision,
            megabatch=self.resumable.megabatch,
            seed=self.config.training.seed,
            model={
                "id": self.config.model.id,
                "fingerprint": self.base_fingerprint,
                "type": self.model.config.model_type,
                "vocabulary": self._vocabulary,
            },
            data={**self.facts(), "fingerprint": self.identity.data},
            trainable_params=trainable,
            total_params=total,
            max_steps=self.resumable.plan.steps,
            work=evaluate.work_of(validation.examples, tests, self.form.classifies, known),
        )
        self.resumable.announce()
        if slow := bf16_of(self.config.resources.device).warning(self.resumable.precision):
            write_note(self.emit, slow)
        for note in (*self.task.notes, *dropped_notes(train.encoded, validation, self.max_length)):
            self.emit("note", message=note)

    def train(self) -> StepCallback:
        """Runs the optimizer steps; validation losses come on the way."""
        training = self.config.training.model_copy(
            update={"max_steps": self.resumable.plan.steps, "precision": self.resumable.precision}
        )
        callback = StepCallback(self.emit, self.should_stop, self.evaluate, training.eval_every)
        checkpointer = self.resumable.checkpointer(callback)
        self.emit("stage", name="training")
        if self.resumable.has_steps_left(callback):
            self._run_steps(training, callback, checkpointer)
        self._best = self.resumable.early_stopping.restore(self.model)
        self._trained = (callback.step, callback.tokens, round(callback.elapsed, 4))
        return callback

    def _run_steps(self, training: TrainingConfig, callback: StepCallback, checkpointer: Checkpointer) -> None:
        if training.gradient_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        examples, cuts = self.training_rows.encoded.examples, self.resumable.plan.cuts
        try:
            resolved = replace(self._resolved, config=self.config.model_copy(update={"training": training}))
            loop = TrainingLoop(self.model, resolved, examples, self.form, callback, [checkpointer], cuts)
            loop.megabatch = self.resumable.megabatch
            loop.train()
        except NonFiniteLossError as exc:
            self.resumable.keep_last_good(checkpointer, exc, self.save)
        if training.gradient_checkpointing:
            self.model.gradient_checkpointing_disable()

    def evaluate(self, step: int, tokens: int, elapsed: float) -> bool | None:
        """Emits the validation loss, the first time also the base model's, as step 0.

        Returns:
            Whether training should end; None when the run is asked to stop or pause.
        """
        with preserved_rng_state():
            if not self.resumable.base_reported and self.base_loss is not None:
                base = self.base_loss.metrics("base/eval")
                self.emit("eval", step=0, tokens=0, elapsed=0.0, metrics=base, rows=self.measured_on)
                self.resumable.base_reported = True
            found = self._loss(self.model)
            if found is not None:
                self._snapshots.take(self.model, step)
        if found is None:
            return None
        metrics, seconds = found.metrics("eval"), round(elapsed, 4)
        self.emit("eval", step=step, tokens=tokens, elapsed=seconds, metrics=metrics, rows=self.measured_on)
        return self.resumable.early_stopping.update(self.model, step, found.loss)

    @cached_property
    def base_loss(self) -> Loss | None:
        """The base model's validation loss, measured once per cache."""
        if self.form.classifies:
            return evaluate.loss_of_frequencies(self.training_rows.rows, self.validation_rows.rows)
        kept = self._base_figures(self.validation_rows.rows, max_length=self.max_length)
        return kept.of(self.model, self._loss, Loss)

    def _loss(self, model: Model) -> Loss | None:
        return evaluate.measure_loss(model, self.form, self.validation_batches, self.should_stop)

    def _base_figures(self, rows: Sequence[Row], **settings: object) -> BaseFigures:
        return BaseFigures(self._cache, self.base_fingerprint, rows, settings)

    def save(self, step: int) -> None:
        """Saves the adapter, loads it into a fresh base model and compares what the two answer.

        A model that is spread over GPUs has no room for a second one beside it, so it is not compared.
        """
        self.emit("stage", name="saving the adapter")
        self.model.eval()
        write_adapter(self.model, self.paths)
        size = (self.paths.adapter / "adapter_model.safetensors").stat().st_size
        found: dict[str, Any] = {"path": self.paths.adapter.name, "step": step, "bytes": size}
        if self._best:
            found |= {"step": self._best[0], "metrics": Loss(self._best[1], 0).metrics("eval")}
        if not is_spread(self.model):
            found["check"] = {"rows": CHECK_ROWS, "max_difference": self._reload_difference()}
        self.emit("saved", **found)

    def _reload_difference(self) -> float:
        """How far off the saved adapter is on a base that nobody has touched."""
        asked = Question(self.model, self.form, self.training_rows.rows, self.training_rows.encoded.examples)
        found, words = saved_difference(asked, self.paths.adapter, self._resolved, lambda: self._fresh_base()[0])
        if words:
            self.emit("note", message=words)
        return found

    def test(self) -> bool:
        """Answers the test rows, writes the predictions and emits the metrics; False when stopped."""
        self.emit("stage", name="answering the test rows")
        rows = without_marks(some_rows(self.task.load("test"), self.config.training.eval_rows), self.tokenizer)
        self._tokenizers = tokenizers_for([row.references for row in rows])
        # A run on few rows may write as much as one on all: the same question to the same test rows.
        every = self._resolved.whole_task.load("train") if self.config.task.train_rows else self.training_rows.rows
        longest = evaluate.longest_answer(self.tokenizer, every)
        limit = max(1, min(longest, room_for(self.model, 1)))
        found = self._answers(self.model, rows, limit)
        if found is None:
            return False
        self._emit_test("test", found, rows)
        base = self._base_answers(rows, limit)
        evaluate.write_predictions(self.paths.predictions, rows, found.answers, base.answers if base else None)
        if base is None:
            return False
        self._emit_test("base/test", base, rows)
        if not self.form.classifies:
            self.emit("answered", **evaluate.lengths_of_answers(self.tokenizer, rows, limit, found, base))
        return True

    def _answers(self, model: Model, rows: Sequence[Row], limit: int) -> TestResult | None:
        return evaluate.measure_answers(model, self.form, self.task, rows, limit, self.should_stop)

    def _emit_test(self, prefix: str, result: TestResult, rows: Sequence[Row]) -> None:
        metrics = {f"{prefix}/{name}": value for name, value in result.metrics.items()}
        step, tokens, elapsed = self._trained if prefix == "test" else (0, 0, 0.0)
        used = {name: value for name, value in self._tokenizers.items() if name in result.metrics}
        self.emit(
            "eval", step=step, tokens=tokens, elapsed=elapsed, metrics=metrics, tokenizers=used,
            rows=provenance.fingerprint_rows(rows), answers=len(rows),
        )  # fmt: skip

    def _base_answers(self, rows: Sequence[Row], limit: int) -> TestResult | None:
        if self.form.classifies:
            return evaluate.always_most_frequent(self.task, self.training_rows.rows, rows)
        ends = end_ids(self.model, self.tokenizer)
        kept = self._base_figures(rows, task=self.task.name, max_new_tokens=limit, ends=ends)
        found = kept.of(self.model, lambda base: self._answers(base, rows, limit), TestResult)
        # Answers stay what they were; an older version may have scored them otherwise.
        return replace(found, metrics=dict(self.task.score(rows, found.answers))) if found else None
