"""Whole runs on the tiny model, in this process: events, files, stopping, and losses that go wrong."""

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import parse_config
from peft_studio.errors import NonFiniteLossError, StorageError
from peft_studio.runs.paths import RunPaths
from peft_studio.training import trainer


class Log:
    """Collects events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def emit(self, kind: str, **fields: Any) -> None:
        """As the worker's."""
        json.dumps(fields)
        self.events.append({"kind": kind, **fields})

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Events of a kind."""
        return [event for event in self.events if event["kind"] == kind]

    def metrics(self) -> dict[str, float]:
        """Latest value of every metric."""
        return {name: value for event in self.of("eval") for name, value in event["metrics"].items()}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for all tests, so that the base model answers once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path, cache: Path) -> Callable[..., tuple[Log, RunPaths]]:
    """Trains a method with some settings in a new run folder."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "cache").symlink_to(cache)

    def train(
        method: str = "lora", stop_at: int | None = None, log: Log | None = None, **training: Any
    ) -> tuple[Log, RunPaths]:
        log = log or Log()
        settings = {"max_steps": 4, "batch_size": 4, "eval_every": 2, "eval_rows": 4, "max_length": 300}
        config = parse_config(
            {"model": {"id": str(tiny_model)}, "method": {"name": method}, "training": settings | training}
        )
        paths = RunPaths(tmp_path / "runs" / f"run-{len(list((tmp_path / 'runs').iterdir()))}")
        paths.root.mkdir()

        def should_stop() -> bool:
            return stop_at is not None and len(log.of("step")) >= stop_at

        trainer.run(resolved=resolve(config), paths=paths, emit=log.emit, should_stop=should_stop, threads=1)
        return log, paths

    return train


def test_events_tell_the_whole_story(run: Callable[..., tuple[Log, RunPaths]]) -> None:
    log, paths = run()
    (started,) = log.of("started")
    assert 0 < started["trainable_params"] < started["total_params"]
    assert started["max_steps"] == 4 and started["seed"] == 0
    assert set(started["versions"]) >= {"torch", "transformers", "peft", "python"}
    steps = log.of("step")
    assert [event["step"] for event in steps] == [1, 2, 3, 4]
    assert all(math.isfinite(event["loss"]) and event["grad_norm"] > 0 for event in steps)
    assert all(a["tokens"] < b["tokens"] and a["elapsed"] < b["elapsed"] for a, b in itertools.pairwise(steps))
    assert [event["step"] for event in log.of("eval")] == [0, 2, 4, 4, 0]
    (saved,) = log.of("saved")
    assert saved["check"]["max_difference"] < 1e-5
    (answered,) = log.of("answered")
    assert answered["rows"] == 4 and 0 <= answered["cut"] <= 4 and answered["end"] == "<eos>"
    assert saved["bytes"] == (paths.adapter / "adapter_model.safetensors").stat().st_size
    assert log.events[-1]["kind"] == "finished"
    summary = log.events[-1]["summary"]
    assert summary["seconds"] > 0 and summary["tokens_per_second"] > 0 and summary["peak_memory_bytes"] > 1e7


def test_what_figures_were_measured_on_is_recorded(run: Callable[..., tuple[Log, RunPaths]]) -> None:
    log, _ = run(max_length=100, eval_rows=40)
    (started,) = log.of("started")
    validation = started["data"]["validation"]
    assert validation["rows"] + validation["dropped"] == 40 and validation["dropped"] > 0
    assert any(
        f"{validation['dropped']} of 40 validation rows do not fit" in event["message"] for event in log.of("note")
    )
    marks = {name: event["rows"] for event in log.of("eval") for name in event["metrics"]}
    assert marks["eval/loss"] == marks["base/eval/loss"] != marks["test/bleu"] == marks["base/test/bleu"]
    whole, _ = run(max_length=300, eval_rows=40)
    others = {name: event["rows"] for event in whole.of("eval") for name in event["metrics"]}
    assert others["eval/loss"] != marks["eval/loss"] and others["test/bleu"] == marks["test/bleu"]


def test_metrics_and_predictions_are_complete(run: Callable[..., tuple[Log, RunPaths]]) -> None:
    log, paths = run()
    metrics = log.metrics()
    for name in ("eval/loss", "eval/perplexity", "test/bleu", "test/chrf", "test/slot_accuracy"):
        assert {name, f"base/{name}"} <= set(metrics)
    assert metrics["eval/perplexity"] == pytest.approx(math.exp(metrics["eval/loss"]))
    rows = [json.loads(line) for line in paths.predictions.read_text().splitlines()]
    assert len(rows) == 4
    assert set(rows[0]) == {"prompt", "target", "references", "prediction", "base"}


def test_base_figures_are_measured_once(
    run: Callable[..., tuple[Log, RunPaths]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = run("lora", eval_rows=3)
    calls: list[Any] = []
    real = trainer.evaluate.measure_answers
    monkeypatch.setattr(trainer.evaluate, "measure_answers", lambda *args: calls.append(args) or real(*args))
    second, _ = run("prompt", eval_rows=3)
    assert len(calls) == 1
    for name, value in first.metrics().items():
        if name.startswith("base/"):
            assert second.metrics()[name] == value


def test_length_of_a_row_leaves_room_for_virtual_tokens(run: Callable[..., tuple[Log, RunPaths]]) -> None:
    log, _ = run("prompt", max_length=8192, max_steps=1)
    (started,) = log.of("started")
    assert started["data"]["max_length"] < 512


def test_stopping_saves_the_adapter(run: Callable[..., tuple[Log, RunPaths]]) -> None:
    log, paths = run(stop_at=2, max_steps=50)
    assert len(log.of("step")) == 2
    assert log.events[-1]["kind"] == "stopped" and log.events[-1]["step"] == 2
    assert (paths.adapter / "adapter_model.safetensors").is_file()
    assert not paths.predictions.exists()


def test_losses_that_are_no_numbers_end_the_run_in_words(run: Callable[..., tuple[Log, RunPaths]]) -> None:
    log = Log()
    with pytest.raises(NonFiniteLossError, match=r"at step \d+, with a learning rate of .* lower learning rate"):
        run("full", log=log, learning_rate=10.0, max_steps=200, warmup_steps=0, max_grad_norm=0, optimizer="sgd")
    assert not math.isfinite(log.of("step")[-1]["loss"])


def test_no_clipping_means_no_norm(run: Callable[..., tuple[Log, RunPaths]]) -> None:
    log, _ = run(max_grad_norm=0, max_steps=1)
    assert log.of("step")[0]["grad_norm"] is None


@pytest.mark.parametrize("scheduler", ["linear", "cosine", "constant"])
def test_learning_rate_follows_its_schedule(run: Callable[..., tuple[Log, RunPaths]], scheduler: str) -> None:
    log, _ = run(scheduler=scheduler, warmup_steps=2, max_steps=4, learning_rate=1e-3, stop_at=4)
    rates = [event["lr"] for event in log.of("step")]
    assert rates[:3] == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3])  # none of them is 0
    assert (rates[3] == 1e-3) == (scheduler == "constant")


def test_a_full_disk_is_told_in_words(
    run: Callable[..., tuple[Log, RunPaths]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import PeftModel

    def full(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PeftModel, "save_pretrained", full)
    log = Log()
    with pytest.raises(StorageError, match=r"adapter could not be saved .* No space left"):
        run(log=log, max_steps=2)
    assert [event["step"] for event in log.of("step")] == [1, 2]
