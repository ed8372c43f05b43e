"""The check of the fast path on the first batch: it costs a run nothing but time, and a broken path is left."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import parse_config
from peft_studio.tasks.base import Row
from peft_studio.training.fast import compare, kernels
from peft_studio.training.fast.compare import describe_difference, rows_to_check
from peft_studio.training.fast.levers import Levers
from peft_studio.training.fast.llama import FastDecoder
from peft_studio.training.formats.formats import format_for
from peft_studio.training.load import attach, layout_of, load_base
from peft_studio.training.loop import TrainingLoop
from peft_studio.training.step_events import StepCallback

ROWS = [Row(f"food: Thai, area {number} =>", f" A Thai place by river {number}.") for number in range(6)]
LIBRARY = Levers(decoder=False, lora=False, cast_once=False)


def train(model: Path, levers: Levers | None = None, dropout: float = 0.0, **training: Any) -> Any:
    """A few steps: losses of the steps, and what was said on the way."""
    settings = {"max_steps": 3, "batch_size": 4, "warmup_steps": 0, "learning_rate": 1e-2} | training
    method = {"name": "lora", "dropout": dropout}
    run = resolve(parse_config({"model": {"id": str(model)}, "method": method, "training": settings}))
    torch.manual_seed(0)
    base, tokenizer = load_base(str(model))
    adapted = attach(base, run.method, run.config.method)
    form = format_for(layout_of(base), tokenizer)
    events: list[dict[str, Any]] = []
    callback = StepCallback(lambda kind, **more: events.append({"kind": kind, **more}), lambda: False,
                            lambda *_: False, 10**6)  # fmt: skip
    loop = TrainingLoop(adapted, run, form.encode(ROWS, 256).examples, form, callback, levers=levers)
    loop.train()
    return [e["loss"] for e in events if e["kind"] == "step"], [e["message"] for e in events if e["kind"] == "note"]


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.3}, {"precision": "bf16"}, {"gradient_accumulation": 2}])
def test_a_run_that_was_checked_has_the_losses_of_one_that_was_not(
    settings: dict[str, Any], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, notes = train(tiny_model, **settings)
    monkeypatch.setattr(TrainingLoop, "_check", lambda *_: None)
    unchecked, _ = train(tiny_model, **settings)
    assert checked == unchecked and notes == [] and len(checked) == 3  # to the last bit


def test_the_fast_path_goes_on_after_the_check(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    real = FastDecoder.loss

    def loss(self: FastDecoder, batch: Any) -> torch.Tensor:
        rows.append(len(batch["input_ids"]))
        return real(self, batch)

    monkeypatch.setattr(FastDecoder, "loss", loss)
    train(tiny_model)
    assert rows == [2, 4, 4, 4]  # two rows of the first batch, and the steps


def break_loss(patch: pytest.MonkeyPatch) -> None:
    """A forward pass that is a little off."""
    real = FastDecoder.loss
    patch.setattr(FastDecoder, "loss", lambda self, batch: real(self, batch) * 1.01)


def break_gradient(patch: pytest.MonkeyPatch) -> None:
    """A backward pass that is off in one direction, behind the right loss."""
    real = kernels.LoraLinears.backward

    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Any, ...]:
        first, *rest = real(ctx, *grads)
        return first, *(None if part is None else part * 1.1 for part in rest)

    patch.setattr(kernels.LoraLinears, "backward", staticmethod(backward))


def break_numbers(patch: pytest.MonkeyPatch) -> None:
    """A forward pass that gives no number."""
    real = FastDecoder.loss
    patch.setattr(FastDecoder, "loss", lambda self, batch: real(self, batch) * math.nan)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("broken", [break_loss, break_gradient, break_numbers])
def test_a_broken_fast_path_is_left_and_told(
    broken: Callable[[pytest.MonkeyPatch], None], precision: str, tiny_model: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    expected, _ = train(tiny_model, LIBRARY, precision=precision)
    broken(monkeypatch)
    found, (note,) = train(tiny_model, precision=precision)
    assert found == expected  # to the last bit: nothing of the check is left behind
    assert "The run goes on the library's way" in note and note in capsys.readouterr().out


def test_what_only_16_bits_break_is_found(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = FastDecoder.loss

    def loss(self: FastDecoder, batch: Any) -> torch.Tensor:
        return real(self, batch) * (1.1 if torch.is_autocast_enabled("cpu") else 1)

    monkeypatch.setattr(FastDecoder, "loss", loss)
    assert train(tiny_model)[1] == [] and len(train(tiny_model, precision="bf16")[1]) == 1


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_lora_layers_of_other_models_are_checked(
    family: str, families: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = train(families[family], LIBRARY, dropout=0.0)
    fused, notes = train(families[family])
    assert fused == pytest.approx(expected, rel=1e-4) and notes == []
    break_gradient(monkeypatch)
    found, notes = train(families[family])
    assert found == expected and len(notes) == 1


def test_without_a_fast_path_nothing_is_computed_twice(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peft_studio.training.loop.loss_and_gradients", lambda *_: pytest.fail("nothing to check"))
    assert train(tiny_model, LIBRARY)[1] == []
    assert train(tiny_model, replace(Levers(), decoder=False), dropout=0.3)[1] == []  # no layer can be fused


def test_a_run_that_fits_is_not_ended_by_the_check(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = train(tiny_model)

    def full(*_args: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(TrainingLoop, "_plain_loss", full)
    found, (note,) = train(tiny_model)
    assert found == expected and "was not checked" in note


def test_differences_are_told_in_words() -> None:
    exact = (2.0, (torch.tensor([3.0, 4.0]), torch.zeros(2)))
    assert describe_difference(exact, exact, torch.float32) == ""
    assert describe_difference((2.1, exact[1]), exact, torch.float32) == "its loss is 2.1 instead of 2"
    turned = (2.0, (torch.tensor([-3.0, -4.0]), torch.zeros(2)))
    for dtype in compare.TOLERANCES:
        assert describe_difference(turned, exact, dtype).startswith("1 of 2 gradients differ")
        assert "nan" in describe_difference((math.nan, exact[1]), exact, dtype)
        assert describe_difference(exact, (math.inf, exact[1]), dtype) == ""  # the run itself will say so
    nothing = (2.0, (torch.tensor([3.0, 4.0]), torch.full((2,), math.nan)))
    assert describe_difference(nothing, exact, torch.float32)


def test_a_share_of_the_first_batch_is_looked_at() -> None:
    batch = {"input_ids": torch.arange(18).view(9, 2), "labels": torch.zeros(9), "tokens": 18, "rows": [*range(9)]}
    few = rows_to_check(batch)
    assert few["input_ids"].tolist() == [[0, 1], [2, 3]] and set(few) == {"input_ids", "labels"}
    assert len(rows_to_check({"labels": torch.zeros(1, 4)})["labels"]) == 1
