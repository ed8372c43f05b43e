"""Adapters in one batch say what each says alone, whatever their kinds; those that cannot share are left out."""

from pathlib import Path
from typing import Any

import pytest
import torch

from peft_studio.config.sampling import Sampling
from peft_studio.methods import METHODS
from peft_studio.training.inference.batched_adapters import MixedLayer, batch_adapters, can_share
from peft_studio.training.inference.generate import stream_columns
from peft_studio.training.inference.model_pool import ModelPool, columns_of

PROMPT = "name: Biox Mill | food: Thai =>"
ALONE = ("prompt", "p_tuning", "prefix", "parallel")  # vectors before the text; a network beside several layers
STACKED = ("lora", "lora_plus", "ia3", "houlsby")


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """``(B, T, V)``."""
    with torch.inference_mode():
        return model(input_ids=ids).logits


@pytest.mark.parametrize("name", METHODS)
def test_each_row_is_answered_by_its_own_adapter(
    pool: ModelPool, tiny_model: Path, saved: dict[str, Path], name: str
) -> None:
    base, tokenizer = pool.base(str(tiny_model))
    model, other = (pool.adapter(str(tiny_model), saved[method]) for method in (name, "lora"))
    assert can_share(model, base) is (name not in ALONE)
    if name in ALONE:
        return
    models = [base, model, other, model] if name != "lora" else [base, model]
    shared = batch_adapters(models, base)
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    found = logits(shared, ids.expand(len(models), -1))
    for row, one in zip(found, models, strict=True):
        assert torch.allclose(row, logits(one, ids)[0], atol=2e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_common_kinds_are_computed_for_all_rows_at_once(
    pool: ModelPool, tiny_model: Path, saved: dict[str, Path]
) -> None:
    base, _ = pool.base(str(tiny_model))
    shared = batch_adapters([pool.adapter(str(tiny_model), saved[name]) for name in STACKED], base)
    layers = [module for module in shared.modules() if isinstance(module, MixedLayer)]
    assert layers and not any(layer._alone for layer in layers)


def test_texts_are_those_of_each_alone(pool: ModelPool, tiny_model: Path, saved: dict[str, Path]) -> None:
    model_id = str(tiny_model)
    chosen = [(name, model_id, saved[name]) for name in ("lora", "prefix", "ia3", "full", "houlsby")]
    columns = columns_of(pool, model_id, chosen)
    groups = pool.groups(columns, model_id)
    assert [group.names for group in groups] == [("base", "lora", "ia3", "full", "houlsby"), ("prefix",)]
    tokenizer = pool.base(model_id)[1]
    for sampling in (Sampling(max_new_tokens=40), Sampling(max_new_tokens=40, temperature=1.0, top_k=9, seed=3)):
        *_, states = stream_columns(columns, tokenizer, PROMPT, sampling, groups=groups)
        assert [state["name"] for state in states] == [name for name, _ in columns]
        assert len({state["text"] for state in states}) > 3
        for column, state in zip(columns, states, strict=True):
            *_, (alone,) = stream_columns([column], tokenizer, PROMPT, sampling)
            assert (state["text"], state["tokens"], state["done"]) == (alone["text"], alone["tokens"], True)


def test_the_same_set_is_put_together_once(pool: ModelPool, tiny_model: Path, saved: dict[str, Path]) -> None:
    model_id = str(tiny_model)
    columns = columns_of(pool, model_id, [("a", model_id, saved["lora"]), ("b", model_id, saved["hira"])])
    first, again = (pool.groups(columns, model_id)[0].model for _ in range(2))
    assert first is again
    assert pool.groups(columns[:1], model_id)[0].model is columns[0][1]
