"""One training run from start to end: base model + method + task -> events, adapter, test figures.

The worker calls ``run``; everything it reports goes through ``emit`` into the run's event log.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import transformers

from peft_studio.config.run_config import RunConfig
from peft_studio.errors import NonFiniteLossError
from peft_studio.methods import get_method
from peft_studio.runs.paths import RunPaths
from peft_studio.tasks import task_of
from peft_studio.tasks.base import Row, some_rows
from peft_studio.training import provenance
from peft_studio.training.adapter_files import write_adapter
from peft_studio.training.checkpoints.checkpoint import Identity
from peft_studio.training.checkpoints.checkpointing import Keeper
from peft_studio.training.checkpoints.session import Course, Request
from peft_studio.training.checkpoints.training_state import same_randomness
from peft_studio.training.estimates.param_map import count_parameters
from peft_studio.training.evaluate import (
    BaseFigures,
    Loss,
    TestResult,
    always_most_frequent,
    longest_answer,
    loss_of_frequencies,
    measure_answers,
    measure_loss,
    reload_difference,
    write_predictions,
)
from peft_studio.training.formats.formats import evaluation_batches, format_for
from peft_studio.training.formats.greedy import room_for
from peft_studio.training.formats.rows import Encoded
from peft_studio.training.formats.target_logits import context_length, row_limit, virtual_tokens
from peft_studio.training.formats.token_cache import encode_once
from peft_studio.training.load import base_output, layout_of, load_base
from peft_studio.training.loop import StudioTrainer
from peft_studio.training.placing import device_for, is_spread
from peft_studio.training.quiet import be_quiet
from peft_studio.training.step_events import StepCallback

Emit = Callable[..., None]
CHECK_ROWS = 4
SAMPLE_BATCHES = 8  # that a method may look at before it starts


def run(*, config: RunConfig, paths: RunPaths, emit: Emit, should_stop: Request, threads: int) -> None:
    """Trains, evaluates and saves one run, from its start or from its checkpoint.

    Args:
        config: What to do.
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
    device_for(config.resources.device)  # a device that is not there is told before anything takes time
    transformers.set_seed(config.training.seed)
    emit = _with_memory(emit)
    emit("stage", name="loading the base model")
    session = _Session(config, paths, emit, should_stop)
    emit("stage", name="reading data")
    session.announce(threads)
    callback = session.train()
    course = session.course
    if not (callback.stopped and course.request == "pause"):
        session.save(callback.step)
        if not callback.stopped:
            callback.stopped = not session.test()
    end = "finished" if not callback.stopped else "paused" if course.request == "pause" else "stopped"
    emit(end, step=callback.step, summary=_summary(callback, course.seconds()))


def _with_memory(emit: Emit) -> Emit:
    """Adds the peak so far to events that come now and then, so that it can be watched, and told by stage."""

    def emit_with_memory(kind: str, **fields: Any) -> None:
        if kind in ("stage", "eval", "saved"):
            fields["peak_memory_bytes"] = provenance.peak_memory_bytes()
        emit(kind, **fields)

    return emit_with_memory


def _summary(callback: StepCallback, total: float) -> dict[str, float]:
    seconds = max(callback.elapsed, 1e-9)
    return {
        "seconds": round(total, 3),
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


# Parts of a config that a checkpoint does not depend on: where a run is placed, and where its rows lay.
ELSEWHERE: dict[str, Any] = {"resources": True, "task": {"train_file", "validation_file", "test_file"}}


class _Session:
    """The state of a run between its stages."""

    def __init__(self, config: RunConfig, paths: RunPaths, emit: Emit, should_stop: Request) -> None:
        self.config = config
        self.paths = paths
        self.emit = emit
        self._cache = paths.root.parent.parent / "cache"
        self.course = Course(config, paths, emit, should_stop)
        self.should_stop = self.course.should_stop
        self.task = task_of(config.task)
        base, self.tokenizer = self._fresh_base()
        self.base_fingerprint = provenance.fingerprint_model(base)
        self.form = format_for(layout_of(base), self.tokenizer, self.task.labels)
        rows = self.task.load("train")
        settings = provenance.fingerprint_of(config.model_dump(mode="json", exclude=ELSEWHERE))
        self.identity = Identity(settings, self.base_fingerprint, provenance.fingerprint_rows(rows))
        steps = config.training.steps_for(len(rows))
        self.model = self.course.begin(base, self.identity, steps, lambda: self._fresh_base()[0], self._sample)
        self._trained = (0, 0, 0.0)  # steps, tokens, seconds

    def _fresh_base(self) -> tuple[Any, Any]:
        return load_base(self.config.model.id, labels=self.task.labels, lsg=self.config.lsg)

    def _sample(self, base: Any) -> list[dict[str, Any]]:
        """Training batches for a method that looks at data before it starts; none for others."""
        if not get_method(self.config.method.name).looks_at_data:
            return []
        training = self.config.training
        rows = self.task.load("train")
        chosen = random.Random(training.seed).sample(rows, min(len(rows), SAMPLE_BATCHES * training.batch_size))
        examples = self.form.encode(chosen, min(training.max_length, context_length(base))).examples
        starts = range(0, len(examples), training.batch_size)
        return [self.form.inputs(examples[start : start + training.batch_size]) for start in starts]

    @cached_property
    def max_length(self) -> int:
        """Tokens of a row that fit the model beside the method's virtual tokens."""
        return row_limit(self.config.training.max_length, context_length(self.model), virtual_tokens(self.model))

    @cached_property
    def training_rows(self) -> _Split:
        """The training split."""
        return self._split(self.task.load("train"))

    @cached_property
    def validation_rows(self) -> _Split:
        """The validation rows that are used."""
        return self._split(some_rows(self.task.load("validation"), self.config.training.eval_rows))

    @cached_property
    def validation_batches(self) -> list[dict[str, Any]]:
        """The validation rows, ready for the model."""
        vocabulary = 0 if self.form.classifies else self.model.config.vocab_size
        return evaluation_batches(self.validation_rows.encoded.examples, self.form, vocabulary)

    def _split(self, rows: list[Row]) -> _Split:
        return _Split(rows, encode_once(self.form, rows, self.max_length, self._cache))

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
                "fingerprint": self.identity.data,
                "rows": len(train.encoded.examples),
                "cut": train.encoded.cut,
                "dropped": train.encoded.dropped,
                "max_length": self.max_length,
            },
            trainable_params=trainable,
            total_params=total,
            max_steps=self.course.plan.steps,
        )
        self.course.announce()

    def train(self) -> StepCallback:
        """Runs the optimizer steps; validation losses come on the way."""
        training = self.config.training.model_copy(update={"max_steps": self.course.plan.steps})
        after_step = get_method(self.config.method.name).after_step
        act = None if after_step is None else lambda step: after_step(self.model, step)
        callback = StepCallback(self.emit, self.should_stop, self.evaluate, training.eval_every, act)
        keeper = self.course.keeper(callback)
        self.emit("stage", name="training")
        if self.course.is_left(callback):
            self._run_steps(self.config.model_copy(update={"training": training}), callback, keeper)
        self.course.best.restore(self.model)
        self._trained = (callback.step, callback.tokens, round(callback.elapsed, 4))
        return callback

    def _run_steps(self, config: RunConfig, callback: StepCallback, keeper: Keeper) -> None:
        if config.training.gradient_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        examples, cuts = self.training_rows.encoded.examples, self.course.plan.cuts
        try:
            StudioTrainer(self.model, config, examples, self.form, callback, [keeper], cuts).train()
        except NonFiniteLossError as exc:
            self.course.keep_last_good(keeper, exc, self.save)
        if config.training.gradient_checkpointing:
            self.model.gradient_checkpointing_disable()

    def evaluate(self, step: int, tokens: int, elapsed: float) -> bool | None:
        """Emits the validation loss, the first time also the base model's, as step 0.

        Returns:
            Whether training should end; None when the run is asked to stop or pause.
        """
        with same_randomness():
            if not self.course.base_told and self.base_loss is not None:
                self.emit("eval", step=0, tokens=0, elapsed=0.0, metrics=self.base_loss.metrics("base/eval"))
                self.course.base_told = True
            found = measure_loss(self.model, self.form, self.validation_batches, self.should_stop)
        if found is None:
            return None
        self.emit("eval", step=step, tokens=tokens, elapsed=round(elapsed, 4), metrics=found.metrics("eval"))
        return self.course.best.seen(self.model, found.loss)

    @cached_property
    def base_loss(self) -> Loss | None:
        """The base model's validation loss, measured once per cache."""
        if self.form.classifies:
            return loss_of_frequencies(self.training_rows.rows, self.validation_rows.rows)
        figures = self._base_figures(self.validation_rows.rows, max_length=self.max_length)
        if stored := figures.load():
            return Loss(stored["loss"], stored["tokens"])
        with base_output(self.model) as base:
            found = measure_loss(base, self.form, self.validation_batches, self.should_stop)
        if found is not None:
            figures.store({"loss": found.loss, "tokens": found.tokens})
        return found

    def _base_figures(self, rows: Sequence[Row], **settings: Any) -> BaseFigures:
        return BaseFigures(self._cache, self.base_fingerprint, rows, settings)

    def save(self, step: int) -> None:
        """Saves the adapter, loads it into a fresh base model and compares what the two answer.

        A model that is spread over GPUs has no room for a second one beside it, so it is not compared.
        """
        self.emit("stage", name="saving the adapter")
        self.model.eval()
        write_adapter(self.model, self.paths)
        size = (self.paths.adapter / "adapter_model.safetensors").stat().st_size
        found = {"path": self.paths.adapter.name, "step": step, "bytes": size}
        if not is_spread(self.model):
            found["check"] = {"rows": CHECK_ROWS, "max_difference": self._reload_difference()}
        self.emit("saved", **found)

    def _reload_difference(self) -> float:
        base, _ = self._fresh_base()
        examples = self.training_rows.encoded.examples[:CHECK_ROWS]
        return reload_difference(self.model, base, self.paths.adapter, self.form, examples)

    def test(self) -> bool:
        """Answers the test rows, writes the predictions and emits the metrics; False when stopped."""
        self.emit("stage", name="answering the test rows")
        rows = some_rows(self.task.load("test"), self.config.training.eval_rows)
        limit = longest_answer(self.tokenizer, self.training_rows.rows)
        limit = max(1, min(limit, room_for(self.model, 1)))
        found = measure_answers(self.model, self.form, self.task, rows, limit, self.should_stop)
        if found is None:
            return False
        self._emit_test("test", found)
        base = self._base_answers(rows, limit)
        write_predictions(self.paths.predictions, rows, found.answers, base.answers if base else None)
        if base is None:
            return False
        self._emit_test("base/test", base)
        return True

    def _emit_test(self, prefix: str, result: TestResult) -> None:
        metrics = {f"{prefix}/{name}": value for name, value in result.metrics.items()}
        step, tokens, elapsed = self._trained if prefix == "test" else (0, 0, 0.0)
        self.emit("eval", step=step, tokens=tokens, elapsed=elapsed, metrics=metrics)

    def _base_answers(self, rows: Sequence[Row], limit: int) -> TestResult | None:
        if self.form.classifies:
            return always_most_frequent(self.task, self.training_rows.rows, rows)
        figures = self._base_figures(rows, task=self.task.name, max_new_tokens=limit)
        if stored := figures.load():
            return TestResult(stored["metrics"], stored["answers"])
        with base_output(self.model) as base:
            found = measure_answers(base, self.form, self.task, rows, limit, self.should_stop)
        if found is not None:
            figures.store({"metrics": found.metrics, "answers": found.answers})
        return found
