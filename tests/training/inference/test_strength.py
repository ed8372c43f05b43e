"""An adapter at strength 0 is the base model and at 1 itself, with every method; between, LoRA's own scaling moves."""

from pathlib import Path
from typing import Any

import pytest
import torch

from peft_studio.methods import METHODS, get_method
from peft_studio.tasks.base import Row
from peft_studio.training.formats.formats import format_for
from peft_studio.training.inference.model_pool import ModelPool
from peft_studio.training.inference.strength import Dial, scaled_layers, what_is_scaled
from peft_studio.training.load import layout_of

ROW = Row("name: Biox Mill | food: Thai =>", " Biox Mill serves Thai food.")


def parts(pool: ModelPool, folder: Path, adapter: Path) -> tuple[Any, Any, Any, dict[str, torch.Tensor]]:
    """Base, adapter, format and a batch of one row."""
    base, tokenizer = pool.base(str(folder))
    form = format_for(layout_of(base), tokenizer, ())
    batch = form.inputs(form.encode([ROW], 100).examples)
    return base, pool.adapter(str(folder), adapter), form, batch


@pytest.mark.parametrize("name", METHODS)
def test_its_ends_are_base_and_adapter(pool: ModelPool, tiny_model: Path, saved: dict[str, Path], name: str) -> None:
    base, model, form, batch = parts(pool, tiny_model, saved[name])
    with torch.inference_mode():
        at = {s: Dial(model, base, s).logits(form, batch)[0] for s in (0, 1e-6, 0.5, 1 - 1e-6, 1, 1.5)}
        plain, own = form.logits(base, batch)[0], form.logits(model, batch)[0]
    assert torch.equal(at[0], plain) and torch.equal(at[1], own) and not torch.equal(plain, own)
    reach = (own - plain).abs().max()
    assert (at[1e-6] - plain).abs().max() <= 1e-3 * reach + 1e-6
    assert (at[1 - 1e-6] - own).abs().max() <= 1e-3 * reach + 1e-6
    assert (at[0.5] - plain).abs().max() > 0 and (at[1.5] - own).abs().max() > 0
    with torch.inference_mode():  # nothing is left of it
        assert torch.equal(form.logits(model, batch)[0], own)
    assert what_is_scaled(get_method(name), model)


def test_between_lora_is_scaled_as_by_its_own_factor(
    pool: ModelPool, tiny_model: Path, saved: dict[str, Path]
) -> None:
    base, model, form, batch = parts(pool, tiny_model, saved["lora"])
    layers = [module for module in model.modules() if hasattr(module, "lora_A")]
    with torch.inference_mode():
        ours = Dial(model, base, 0.3).logits(form, batch)[0]
        for layer in layers:
            layer.scaling["default"] *= 0.3
        theirs = form.logits(model, batch)[0]
        for layer in layers:
            layer.scaling["default"] /= 0.3
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["lora", "prefix", "prompt"])
def test_answers_move_from_the_base_models_to_the_adapters(
    pool: ModelPool, tiny_model: Path, saved: dict[str, Path], name: str
) -> None:
    base, model, form, _ = parts(pool, tiny_model, saved[name])
    texts = {s: Dial(model, base, s).answer(form, ROW.prompt, 12) for s in (0, 1e-9, 1 - 1e-9, 1)}
    assert texts[0] == texts[1e-9] and texts[1] == texts[1 - 1e-9]
    assert texts[0] == form.answers(base, [ROW], 12, lambda: False)[0]  # type: ignore[index]


def test_no_hook_stays(pool: ModelPool, tiny_model: Path, saved: dict[str, Path]) -> None:
    model = pool.adapter(str(tiny_model), saved["lora"])
    with pytest.raises(ValueError, match="stop"), scaled_layers(model, 0.5):
        raise ValueError("stop")
    assert not any(module._forward_hooks for module in model.modules())
