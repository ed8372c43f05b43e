"""Mixes of adapters: exact where the way is, readable by plain PEFT, refused in words where PEFT cannot."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from peft_studio.errors import ConfigError, InvalidStateError
from peft_studio.methods import get_method
from peft_studio.training.inference.mix import WAYS, Ingredient, mix_adapters
from peft_studio.training.inference.model_pool import ModelPool


def parts_of(saved: dict[str, Path], *pairs: tuple[str, float]) -> list[Ingredient]:
    return [Ingredient(name, get_method(name), saved[name], weight) for name, weight in pairs]


def weights_of(folder: Path, adapter: Path | None) -> dict[str, Any]:
    """The weights that plain PEFT merges an adapter into; the base model's without one."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return {name: value.detach() for name, value in model.named_parameters()}


def test_cat_is_the_weighted_sum(pool: ModelPool, tiny_model: Path, saved: dict[str, Path], tmp_path: Path) -> None:
    base, _ = pool.base(str(tiny_model))
    made = mix_adapters(base, parts_of(saved, ("lora", 0.7), ("pissa", -0.4)), "cat", 1, tmp_path / "mix")
    plain = {
        name: value.detach() for name, value in AutoModelForCausalLM.from_pretrained(tiny_model).named_parameters()
    }
    one, other, mixed = (weights_of(tiny_model, path) for path in (saved["lora"], saved["pissa"], tmp_path / "mix"))
    for name, weight in plain.items():
        expected = weight + 0.7 * (one[name] - weight) - 0.4 * (other[name] - weight)
        torch.testing.assert_close(mixed[name], expected, atol=1e-5, rtol=1e-4)
    assert made["rank"] == 24 and made["parameters"] > 0


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_an_adapter(
    pool: ModelPool, tiny_model: Path, saved: dict[str, Path], tmp_path: Path, way: str
) -> None:
    base, _ = pool.base(str(tiny_model))
    mix_adapters(base, parts_of(saved, ("lora", 0.5), ("lora_plus", 0.5)), way, 0.5, tmp_path / "mix")
    assert all(bool(value.isfinite().all()) for value in weights_of(tiny_model, tmp_path / "mix").values())


def test_ia3_by_linear_only(pool: ModelPool, tiny_model: Path, saved: dict[str, Path], tmp_path: Path) -> None:
    base, _ = pool.base(str(tiny_model))
    made = mix_adapters(base, parts_of(saved, ("ia3", 0.5), ("ia3", 0.5)), "linear", 1, tmp_path / "mix")
    assert made["rank"] is None
    one, mixed = weights_of(tiny_model, saved["ia3"]), weights_of(tiny_model, tmp_path / "mix")
    for name, weight in one.items():
        torch.testing.assert_close(mixed[name], weight)
    with pytest.raises(InvalidStateError, match="by linear only"):
        mix_adapters(base, parts_of(saved, ("ia3", 0.5), ("ia3", 0.5)), "svd", 1, tmp_path / "no")


@pytest.mark.parametrize(
    ("pairs", "way", "words"),
    [
        ([("lora", 1.0), ("houlsby", 1.0)], "linear", "only, and houlsby is of"),
        ([("lora", 1.0), ("dora", 1.0)], "linear", "beside LoRA's matrices"),
        ([("lora", 1.0), ("ia3", 1.0)], "linear", "one kind only"),
        ([("lora", 1.0), ("pissa", 1.0)], "linear", "The ranks differ"),
    ],
)
def test_what_peft_cannot_mix_is_said(
    pool: ModelPool, tiny_model: Path, saved: dict[str, Path], tmp_path: Path, pairs: Any, way: str, words: str
) -> None:
    base, _ = pool.base(str(tiny_model))
    with pytest.raises(InvalidStateError, match=words):
        mix_adapters(base, parts_of(saved, *pairs), way, 1, tmp_path / "no")


@pytest.mark.parametrize(("weight", "way", "density"), [(9.0, "cat", 1), (1.0, "stir", 1), (1.0, "ties", 0)])
def test_bounds(
    pool: ModelPool, tiny_model: Path, saved: dict[str, Path], tmp_path: Path, weight: float, way: str, density: float
) -> None:
    base, _ = pool.base(str(tiny_model))
    with pytest.raises(ConfigError, match="allowed"):
        mix_adapters(base, parts_of(saved, ("lora", weight), ("lora_plus", 1.0)), way, density, tmp_path / "no")
