"""Checkpoints: a run that was interrupted goes on as if it had not been, and what cannot be trusted is not used."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_studio.config import parse_config
from peft_studio.errors import CheckpointError, ConfigError, NonFiniteLossError, StorageError
from peft_studio.jobs.store import RunPaths
from peft_studio.training import checkpoint, keeper, trainer
from peft_studio.training.checkpoint import CheckpointWriter, Identity, read_checkpoint

STEPS = 8
BASE = {"max_steps": STEPS, "batch_size": 4, "eval_every": 3, "eval_rows": 4, "max_length": 300, "warmup_steps": 2}


class Log:
    """Collects events, and asks for something after a number of steps."""

    def __init__(self, at: int | None = None, request: str = "pause") -> None:
        self.events: list[dict[str, Any]] = []
        self._at, self._request = at, request

    def emit(self, kind: str, **fields: Any) -> None:
        """As the worker's."""
        json.dumps(fields)
        self.events.append({"kind": kind, **fields})

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Events of a kind."""
        return [event for event in self.events if event["kind"] == kind]

    def ask(self) -> str:
        """As the worker's ``should_stop``."""
        return self._request if self._at is not None and len(self.of("step")) >= self._at else ""

    def curve(self) -> dict[int, tuple[float, ...]]:
        """Loss, learning rate and tokens by step."""
        return {event["step"]: (event["loss"], event["lr"], event["tokens"]) for event in self.of("step")}

    def evals(self) -> dict[int, float]:
        """Validation loss by step."""
        return {e["step"]: e["metrics"]["eval/loss"] for e in self.of("eval") if "eval/loss" in e["metrics"]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for all tests, so that the base model answers once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Callable[[str], RunPaths]:
    """Makes run folders."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "cache").symlink_to(cache)

    def make(name: str) -> RunPaths:
        paths = RunPaths(tmp_path / "runs" / name)
        paths.root.mkdir()
        return paths

    return make


@pytest.fixture
def untested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what comes after training, which takes longer than these few steps."""
    monkeypatch.setattr(trainer._Session, "test", lambda _self: True)
    monkeypatch.setattr(trainer._Session, "_reload_difference", lambda _self: 0.0)


def make_config(model: Path, method: str | dict[str, Any] = "lora", task: str = "bistro", **training: Any) -> Any:
    """A config for a few steps on a tiny model."""
    params = {"name": method} if isinstance(method, str) else method
    return parse_config(
        {"model": {"id": str(model)}, "task": {"id": task}, "method": params, "training": BASE | training}
    )


def train(config: Any, paths: RunPaths, log: Log | None = None) -> Log:
    """One process's share of a run."""
    log = log or Log()
    trainer.run(config=config, paths=paths, emit=log.emit, should_stop=log.ask, threads=1)
    return log


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


def weights(paths: RunPaths) -> dict[str, float]:
    """Sums of the values of a saved adapter's tensors."""
    from safetensors.torch import load_file

    return {name: float(item.sum()) for name, item in load_file(paths.adapter / "adapter_model.safetensors").items()}


def folder_of(paths: RunPaths, name: str) -> RunPaths:
    """Another run beside this one."""
    return RunPaths(paths.root.parent / name)


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
    monkeypatch.setattr(keeper, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(keeper, "CHECKPOINT_SHARE", 1e9)
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


def damage_nothing(_folder: Path) -> None:
    """Leaves a good checkpoint."""


def cut_tensors(folder: Path) -> None:
    """A file that is too short."""
    path = next(folder.glob("step-*"))
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(folder: Path) -> None:
    """A file of the right length with one wrong bit."""
    path = next(folder.glob("step-*"))
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def lose_tensors(folder: Path) -> None:
    """A file that is not there."""
    next(folder.glob("step-*")).unlink()


def lose_state(folder: Path) -> None:
    """A folder without its JSON."""
    (folder / "state.json").unlink()


def tear_state(folder: Path) -> None:
    """Half a JSON."""
    path = folder / "state.json"
    path.write_text(path.read_text()[:200])


def change_state(folder: Path) -> None:
    """Another step than was written."""
    path = folder / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"step": 3}))


def another_format(folder: Path) -> None:
    """As a later version might write it."""
    rewrite(folder, {"format": 99})


def another_config(folder: Path) -> None:
    """As a run with other settings writes it."""
    state = json.loads((folder / "state.json").read_text())
    rewrite(folder, {"identity": state["identity"] | {"config": "0" * 16}})


def rewrite(folder: Path, changes: dict[str, Any]) -> None:
    """Changes a state and its digest."""
    path = folder / "state.json"
    state = json.loads(path.read_text()) | changes
    state.pop("digest")
    path.write_text(json.dumps({"digest": checkpoint.fingerprint_of(state), **state}))


DAMAGE = (
    cut_tensors, flip_a_bit, lose_tensors, lose_state, tear_state, change_state, another_format, another_config,
)  # fmt: skip


@pytest.mark.usefixtures("untested")
@pytest.mark.parametrize("damage", [damage_nothing, *DAMAGE])
def test_a_checkpoint_that_cannot_be_trusted_is_not_used(
    damage: Callable[[Path], None], tiny_model: Path, folder: Callable[[str], RunPaths]
) -> None:
    config, paths = make_config(tiny_model, "pissa", max_steps=3), folder("run")
    first = train(config, paths, Log(2))
    damage(paths.checkpoint)
    second = train(config, paths)
    if damage is damage_nothing:
        assert list(second.curve()) == [3] and not second.of("note")
        return
    (note,) = second.of("note")
    assert "cannot be used, because" in note["message"] and "from the beginning" in note["message"]
    assert not second.of("resumed") and list(second.curve()) == [1, 2, 3]
    assert {step: second.curve()[step] for step in (1, 2)} == first.curve()
    assert read_checkpoint(paths.checkpoint, identity_of(paths)) is not None


def identity_of(paths: RunPaths) -> Identity:
    """What a checkpoint says that it belongs to."""
    return Identity(**json.loads((paths.checkpoint / "state.json").read_text())["identity"])


@pytest.mark.usefixtures("untested")
def test_a_checkpoint_of_another_model_starts_over(
    tiny_model: Path, folder: Callable[[str], RunPaths], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, paths = make_config(tiny_model, max_steps=3), folder("run")
    train(config, paths, Log(2))
    monkeypatch.setattr("peft_studio.training.provenance.fingerprint_model", lambda _model: "another")
    second = train(config, paths)
    assert "it belongs to another base" in second.of("note")[0]["message"] and list(second.curve()) == [1, 2, 3]


@pytest.mark.usefixtures("untested")
def test_tensors_that_do_not_fit_start_over(tiny_model: Path, folder: Callable[[str], RunPaths]) -> None:
    config, paths = make_config(tiny_model, max_steps=3), folder("run")
    first = train(config, paths, Log(2))
    other = folder("other")
    train(make_config(tiny_model, {"name": "lora", "rank": 3}, max_steps=3), other, Log(2))
    identity = json.loads((paths.checkpoint / "state.json").read_text())["identity"]
    other.checkpoint.rename(paths.root / "theirs")
    paths.checkpoint.rename(paths.root / "ours")
    (paths.root / "theirs").rename(paths.checkpoint)
    rewrite(paths.checkpoint, {"identity": identity})
    second = train(config, paths)
    assert "of shape" in second.of("note")[0]["message"]
    assert {step: second.curve()[step] for step in (1, 2)} == first.curve()


def test_a_writer_killed_at_any_instant_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    identity = Identity("c", "b", "d")
    calls = 0

    class Killed(BaseException):
        """Nothing catches it, as nothing catches a kill."""

    def trap(real: Callable[..., Any], at: int) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                raise Killed
            return real(*args, **kwargs)

        return call

    seen = set()
    for at in range(1, 40):
        target = tmp_path / f"checkpoint-{at}"
        writer = CheckpointWriter(target, identity, {"own/x": torch.ones(2)})
        calls = 0
        done = 0
        with monkeypatch.context() as patch, pytest.raises((Killed, StopIteration)):
            for owner, name in ((checkpoint, "save_file"), (checkpoint.os, "fsync"), (Path, "replace"),
                                (Path, "rename"), (Path, "unlink"), (Path, "chmod"), (Path, "mkdir")):  # fmt: skip
                patch.setattr(owner, name, trap(getattr(owner, name), at))
            for step in (1, 2, 3):
                writer.write({"step": step}, {"model/x": torch.full((3,), float(step))})
                done = step
            raise StopIteration
        found = read_checkpoint(target, identity)
        if found is None:
            assert done == 0
            continue
        assert found.step in (done, done + 1) and found.tensors["model/x"].tolist() == [found.step] * 3
        assert found.constants["own/x"].tolist() == [1, 1]
        CheckpointWriter(target, identity, {}).write({"step": 9}, {})  # whoever comes next tidies up
        assert len(list(target.iterdir())) == 2
        seen.add((done, found.step))
    assert {(0, 1), (1, 1), (1, 2), (2, 2), (3, 3)} <= seen


def test_checkpoints_hold_no_pickles(tiny_model: Path, folder: Callable[[str], RunPaths], untested: None) -> None:
    paths = folder("run")
    train(make_config(tiny_model, "pissa", max_steps=1), paths)
    assert {path.suffix for path in paths.checkpoint.iterdir()} == {".safetensors", ".json"}
    assert not list(paths.root.glob(".checkpoint*"))


@pytest.mark.usefixtures("untested")
def test_a_full_disk_costs_a_checkpoint_but_not_the_run(
    tiny_model: Path, folder: Callable[[str], RunPaths], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    config, paths = make_config(tiny_model, max_steps=3), folder("run")
    monkeypatch.setattr(checkpoint, "save_file", full)
    log = train(config, paths)
    assert log.events[-1]["kind"] == "finished" and "No space left" in log.of("note")[0]["message"]
    assert not paths.checkpoint.exists()
    with pytest.raises(StorageError, match="No space left"):
        train(config, paths, Log(2))


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.usefixtures("untested")
def test_the_last_good_adapter_outlives_a_loss_that_is_no_number(
    copies: bool, tiny_model: Path, folder: Callable[[str], RunPaths], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not copies:
        monkeypatch.setattr(keeper, "GOOD_BYTES", 0)
        monkeypatch.setattr(keeper, "CHECKPOINT_SECONDS", 0.0)
        monkeypatch.setattr(keeper, "CHECKPOINT_SHARE", 1e9)
    real = trainer.StudioTrainer._summed

    def summed(self: Any, batch: Any) -> Any:
        loss = real(self, batch)
        return loss * math.nan if self.state.global_step == 3 else loss

    monkeypatch.setattr(trainer.StudioTrainer, "_summed", summed)
    log, paths = Log(), folder("run")
    with pytest.raises(NonFiniteLossError, match=r"at step 4, .* adapter of step \d, the last good one, is kept"):
        train(make_config(tiny_model), paths, log)
    assert log.of("saved")[0]["step"] <= 3
    assert all(math.isfinite(value) for value in weights(paths).values())


def test_reading_names_what_is_wrong(tmp_path: Path) -> None:
    identity = Identity("c", "b", "d")
    assert read_checkpoint(tmp_path / "none", identity) is None
    CheckpointWriter(tmp_path / "x", identity, {}).write({"step": 1}, {})
    with pytest.raises(CheckpointError, match="belongs to another data"):
        read_checkpoint(tmp_path / "x", Identity("c", "b", "e"))
