"""Checkpoints: what cannot be trusted is not used, and nothing leaves half of one."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_studio.errors import CheckpointError, NonFiniteLossError, StorageError
from peft_studio.runs.paths import RunPaths
from peft_studio.training import trainer
from peft_studio.training.checkpoints import checkpoint, checkpointing
from peft_studio.training.checkpoints.checkpoint import CheckpointWriter, RunIdentity, read_checkpoint
from tests.training.sessions import Log, make_config, train, weights


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


def identity_of(paths: RunPaths) -> RunIdentity:
    """What a checkpoint says that it belongs to."""
    return RunIdentity(**json.loads((paths.checkpoint / "state.json").read_text())["identity"])


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

    identity = RunIdentity("c", "b", "d")
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
        monkeypatch.setattr(checkpointing, "GOOD_BYTES", 0)
        monkeypatch.setattr(checkpointing, "CHECKPOINT_SECONDS", 0.0)
        monkeypatch.setattr(checkpointing, "CHECKPOINT_SHARE", 1e9)
    real = trainer.TrainingLoop._summed

    def summed(self: Any, batch: Any) -> Any:
        loss = real(self, batch)
        return loss * math.nan if self.step == 3 else loss

    monkeypatch.setattr(trainer.TrainingLoop, "_summed", summed)
    log, paths = Log(), folder("run")
    with pytest.raises(NonFiniteLossError, match=r"at step 4, .* adapter of step \d, the last good one, is kept"):
        train(make_config(tiny_model), paths, log)
    assert log.of("saved")[0]["step"] <= 3
    assert all(math.isfinite(value) for value in weights(paths).values())


def test_reading_names_what_is_wrong(tmp_path: Path) -> None:
    identity = RunIdentity("c", "b", "d")
    assert read_checkpoint(tmp_path / "none", identity) is None
    CheckpointWriter(tmp_path / "x", identity, {}).write({"step": 1}, {})
    with pytest.raises(CheckpointError, match="belongs to another data"):
        read_checkpoint(tmp_path / "x", RunIdentity("c", "b", "e"))
