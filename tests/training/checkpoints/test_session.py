"""A run that was interrupted goes on as if it had not been, and a finished one trains longer."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_studio.errors import ConfigError
from peft_studio.machine import precision
from peft_studio.runs.paths import RunPaths
from peft_studio.training.checkpoints import checkpointing
from peft_studio.training.checkpoints.checkpoint import CheckpointWriter
from tests.training.sessions import Log, folder_of, make_config, train, weights

CASES: dict[str, dict[str, Any]] = {
    "lora with dropout": {"method": {"name": "lora", "dropout": 0.3}},
    "accumulated": {"method": {"name": "lora", "dropout": 0.3}, "gradient_accumulation": 3, "batch_size": 2},
    "adalora": {"method": {"name": "adalora", "initial_rank": 4, "target_rank": 2}, "max_steps": 20},
    "prefix": {"method": "prefix"},
    "pissa": {"method": "pissa"},
    "olora": {"method": "olora"},
    "corda": {"method": "corda"},
    "lora_ga": {"method": "lora_ga"},
    "eva": {"method": "eva"},
    "lora_plus": {"method": "lora_plus", "weight_decay": 0.1},
    "lora_fa": {"method": "lora_fa"},
    "vera": {"method": "vera"},
    "full": {"method": "full", "learning_rate": 1e-3},
    "houlsby": {"method": "houlsby"},
    "adafactor": {"method": "lora", "optimizer": "adafactor"},
    "sgd": {"method": "lora", "optimizer": "sgd", "scheduler": "cosine"},
    "early stopping": {"method": "lora", "early_stopping": 2, "eval_every": 1, "learning_rate": 0.05, "max_steps": 12},
    "checkpointed": {"method": {"name": "lora", "dropout": 0.3}, "gradient_checkpointing": True},
}


@pytest.mark.usefixtures("untested")
@pytest.mark.parametrize("case", CASES)
def test_interrupted_and_whole_runs_have_the_same_losses(
    case: str, tiny_model: Path, folder: Callable[[str], RunPaths]
) -> None:
    config = make_config(tiny_model, **CASES[case])
    whole = train(config, folder("whole"))
    steps = max(whole.curve())
    at = random.Random(case).randrange(1, steps)
    paths = folder("parts")
    first = train(config, paths, Log(at))
    assert first.events[-1]["kind"] == "paused" and first.events[-1]["step"] == at
    assert not paths.adapter.exists()
    second = train(config, paths)
    kinds = [event["kind"] for event in second.events]
    assert kinds.index("resumed") == kinds.index("started") + 1
    (resumed,) = second.of("resumed")
    assert resumed["step"] == resumed["from"] == at and resumed["tokens"] == first.of("step")[-1]["tokens"]
    assert list(second.curve()) == list(range(at + 1, steps + 1))
    for step, values in (first.curve() | second.curve()).items():
        assert values == pytest.approx(whole.curve()[step], abs=1e-6), f"step {step} after a pause at {at}"
    assert first.evals() | second.evals() == pytest.approx(whole.evals(), abs=1e-6)
    bases = [event for log in (first, second) for event in log.of("eval") if event["step"] == 0]
    assert len(bases) == 1
    assert weights(paths) == pytest.approx(weights(folder_of(paths, "whole")), abs=1e-6)


@pytest.mark.usefixtures("untested")
def test_a_classification_run_goes_on(families: dict[str, Path], folder: Callable[[str], RunPaths]) -> None:
    config = make_config(families["bert"], "lora", task="reviews", max_length=64, max_steps=5)
    whole = train(config, folder("whole"))
    paths = folder("parts")
    first, second = train(config, paths, Log(3)), train(config, paths)
    joined = first.curve() | second.curve()
    assert joined == {step: pytest.approx(values, abs=1e-6) for step, values in whole.curve().items()}


@pytest.mark.usefixtures("untested")
def test_steps_after_the_checkpoint_come_again_with_the_same_numbers(
    tiny_model: Path, folder: Callable[[str], RunPaths], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointing, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(checkpointing, "CHECKPOINT_SHARE", 1e9)
    config, paths = make_config(tiny_model), folder("run")
    real = CheckpointWriter.write

    def write(self: CheckpointWriter, state: Any, tensors: Any) -> None:
        if state["step"] <= 4:
            real(self, state, tensors)
        elif state["step"] == 6:
            raise KeyboardInterrupt  # as if killed

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointWriter, "write", write)
        first = Log()
        with pytest.raises(KeyboardInterrupt):
            train(config, paths, first)
    second = train(config, paths)
    assert list(first.curve()) == [1, 2, 3, 4, 5, 6] and list(second.curve()) == [5, 6, 7, 8]
    assert {step: first.curve()[step] for step in (5, 6)} == {step: second.curve()[step] for step in (5, 6)}


@pytest.mark.usefixtures("untested")
def test_an_evaluation_that_was_left_out_is_made_up_for(tiny_model: Path, folder: Callable[[str], RunPaths]) -> None:
    config, paths = make_config(tiny_model), folder("run")
    first = train(config, paths, Log(3))
    assert first.evals() == {}  # due at step 3, when the run was asked to pause
    second = train(config, paths)
    assert list(second.evals()) == [3, 6, 8]


def test_a_finished_run_trains_longer(tiny_model: Path, folder: Callable[[str], RunPaths]) -> None:
    config, paths = make_config(tiny_model, max_steps=4), folder("run")
    first = train(config, paths)
    assert first.events[-1]["kind"] == "finished"
    paths.extended.write_text('{"max_steps": 7}')
    second = train(config, paths)
    assert second.of("resumed")[0]["step"] == 4 and second.of("started")[0]["max_steps"] == 7
    assert list(second.curve()) == [5, 6, 7]
    rates = [event["lr"] for event in second.of("step")]
    peak = config.training.learning_rate
    assert rates == pytest.approx([peak * (7 - step) / 5 for step in (4, 5, 6)])  # two steps of warm-up
    assert second.events[-1]["kind"] == "finished" and second.events[-1]["step"] == 7
    assert second.of("saved")[0]["step"] == 7
    assert "test/bleu" in second.of("eval")[-2]["metrics"]
    state = json.loads((paths.checkpoint / "state.json").read_text())
    assert (state["step"], state["max_steps"], state["cuts"]) == (7, 7, [4])
    third = train(config, paths)  # nothing is left but to save and test
    assert third.curve() == {} and third.events[-1]["kind"] == "finished"


@pytest.mark.usefixtures("untested")
def test_early_stopping_holds_until_the_run_is_made_longer(
    tiny_model: Path, folder: Callable[[str], RunPaths]
) -> None:
    config = make_config(tiny_model, learning_rate=1.0, warmup_steps=0, eval_every=1, early_stopping=1, max_steps=30)
    paths = folder("run")
    first = train(config, paths)
    end = max(first.curve())
    assert end < 30
    assert train(config, paths).curve() == {}
    paths.extended.write_text('{"max_steps": 40}')
    assert min(train(config, paths).curve()) == end + 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"max_steps": true}', '{"max_steps": 0}', '{"max_steps": "9"}'])
def test_a_damaged_extension_is_told_in_words(tiny_model: Path, folder: Callable[[str], RunPaths], text: str) -> None:
    paths = folder("run")
    paths.extended.write_text(text)
    with pytest.raises(ConfigError, match="max_steps"):
        train(make_config(tiny_model), paths)


@pytest.mark.usefixtures("untested")
def test_stopping_leaves_a_checkpoint_and_an_adapter(tiny_model: Path, folder: Callable[[str], RunPaths]) -> None:
    config, paths = make_config(tiny_model), folder("run")
    assert train(config, paths, Log(2, "stop")).events[-1]["kind"] == "stopped"
    assert (paths.adapter / "adapter_model.safetensors").is_file()
    assert min(train(config, paths).curve()) == 3


@pytest.mark.usefixtures("untested")
def test_a_run_keeps_the_precision_that_it_began_with(
    tiny_model: Path, folder: Callable[[str], RunPaths], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "processor_bf16", lambda: ("AMX",))
    monkeypatch.setitem(precision.FAST_FROM, "cpu", 1)
    config, paths = make_config(tiny_model), folder("parts")
    first = train(config, paths, Log(3))
    monkeypatch.setattr(precision, "processor_bf16", lambda: ())  # it goes on where bf16 is slow
    second = train(config, paths)
    assert [log.of("started")[0]["precision"] for log in (first, second)] == ["bf16", "bf16"]
    assert "crawl" in second.of("note")[0]["message"] and not first.of("note")
    assert train(config, folder("elsewhere")).of("started")[0]["precision"] == "fp32"
