"""The estimate: exact where it says so, quick, and sensible where it estimates."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import parse_config
from peft_studio.errors import ConfigError
from peft_studio.machine import precision
from peft_studio.methods import METHODS
from peft_studio.models.catalog import MODELS
from peft_studio.models.fit import RUNTIME_BYTES
from peft_studio.training import placing
from peft_studio.training.estimates import memory
from peft_studio.training.estimates.estimate import estimate
from peft_studio.training.estimates.safetensors_size import safetensors_bytes
from peft_studio.training.fast.llama import MEMORY_BYTES
from peft_studio.training.shapes import shapes_only


def figures(method: str = "lora", model: str | Path = "nano-lm", params: dict | None = None, **training: Any) -> Any:
    data = {"model": {"id": str(model)}, "method": {"name": method, **(params or {})}, "training": training}
    return estimate(resolve(parse_config(data)))


@pytest.mark.parametrize("count", [1, 7, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_file_size_is_what_safetensors_writes(count: int, dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {f"läyer.{number}.weight": torch.zeros(number + 1, 3, dtype=dtype) for number in range(count)}
    tensors["wide"] = torch.zeros(5)
    file = tmp_path / "x.safetensors"
    save_file(tensors, file, {"format": "pt"})
    assert safetensors_bytes(tensors) == file.stat().st_size


def test_full_fine_tuning_trains_what_the_card_says() -> None:
    found = figures("full")
    assert found["trainable_params"] == found["total_params"] == found["base_params"] == MODELS["nano-lm"].params
    assert found["trainable_share"] == 1
    same = ("trainable_params", "trainable_share", "adapter_bytes", "memory")
    assert all(found[key] == found["full"][key] for key in same)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_estimate_is_plain_and_smaller_than_full(method: str) -> None:
    found = figures(method)
    assert json.loads(json.dumps(found)) == found
    for key in ("gradients", "optimizer"):
        assert 0 < found["memory"][key] <= found["full"]["memory"][key]
    assert found["memory"]["optimizer"] == 2 * found["memory"]["gradients"] == 8 * found["trainable_params"]
    if method not in ("p_tuning", "prefix"):  # which save their vectors, not the network that makes them
        assert found["adapter_bytes"] > 4 * found["trainable_params"]
    assert found["warnings"] == []


def test_dora_and_rank_change_the_count() -> None:
    plain, doubled = figures(params={"rank": 8}), figures(params={"rank": 16})
    assert doubled["trainable_params"] == 2 * plain["trainable_params"]
    assert figures(params={"dora": True})["trainable_params"] > plain["trainable_params"]


def test_activations_grow_with_the_batch_and_shrink_with_the_depth_trained() -> None:
    def activations(**options: Any) -> int:
        return figures(max_steps=10, **options)["memory"]["activations"]  # no row comes twice

    assert activations(batch_size=32) > 1.7 * activations(batch_size=16)
    top = activations(method="top_layers", params={"layers": 1})
    assert top < activations(method="top_layers", params={"layers": 3}) < activations(method="full")


def test_top_layers_show_on_the_map() -> None:
    drawn = figures("top_layers", params={"layers": 2, "final_norm": False})["map"]
    blocks = [entry for entry in drawn if entry["kind"] == "block"]
    assert [block["trainable"] == block["params"] for block in blocks] == [False] * (len(blocks) - 2) + [True] * 2
    assert all(entry["trainable"] == entry["added"] == 0 for entry in drawn if entry["kind"] != "block")


def test_rows_that_do_not_fit_are_told() -> None:
    cut, train, validation = figures(max_length=16)["warnings"]
    assert "prompts will be cut to fit max_length = 16" in cut
    assert "of 256 train rows of a sample do not fit max_length = 16" in train
    assert "validation rows" in validation and "compare only" in validation
    assert figures(max_length=512)["warnings"] == []


def test_too_many_layers_are_refused(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match=r"method\.layers = 3: this model has 2 layers"):
        figures("top_layers", tiny_model, {"layers": 3})


def test_estimate_is_quick_once_warm() -> None:
    figures("lora")
    seconds = []
    for method in METHODS:
        begun = time.thread_time()  # this machine may be busy; what counts is the work
        figures(method)
        seconds.append(time.thread_time() - begun)
    assert max(seconds) < 0.8, dict(zip(METHODS, seconds, strict=True))


def test_the_ledger_knows_what_settings_cost() -> None:
    def ledger(method: str = "lora", **options: Any) -> dict[str, int]:
        return dict(figures(method, **options)["memory"])

    plain, full = ledger(), ledger("full")
    assert list(plain) == ["runtime", "weights", "gradients", "optimizer", "activations", "evaluation"]
    assert plain["runtime"] == full["runtime"] == RUNTIME_BYTES
    assert all(size >= 0 for size in plain.values())
    low = ledger(precision="bf16")
    assert low["weights"] > plain["weights"] and low["activations"] < plain["activations"]
    assert ledger(optimizer="sgd")["optimizer"] == 0 < plain["optimizer"]
    assert ledger(gradient_checkpointing=True)["activations"] < plain["activations"] / 2
    assert ledger(batch_size=1)["evaluation"] > plain["evaluation"]  # a validation's batch is larger then
    assert ledger(batch_size=64)["evaluation"] == 0


def test_what_frozen_blocks_give_counts_where_rows_come_again() -> None:
    once, often = (figures("top_layers", max_steps=steps)["memory"]["activations"] for steps in (10, 1000))
    assert once < often < once + 1.5 * MEMORY_BYTES
    assert figures("lora", max_steps=10)["memory"] == figures("lora", max_steps=1000)["memory"]


def test_the_check_of_the_fast_path_counts_where_it_is_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluation(**options: Any) -> int:
        return int(figures("full", **options)["memory"]["evaluation"])

    lone = {"batch_size": 1, "optimizer": "sgd", "eval_rows": 1}  # SGD keeps nothing beside the gradients
    peak, others = evaluation(**lone), [{}, {**lone, "gradient_checkpointing": True}]
    found = [evaluation(**options) for options in others]
    monkeypatch.setattr(memory, "check_bytes", lambda *_: 0)
    assert peak > evaluation(**lone) and found == [evaluation(**options) for options in others]


def test_a_run_that_is_larger_than_the_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = sum(figures()["memory"].values())
    monkeypatch.setattr(placing, "memory_limit", lambda: needed - 1)
    assert any("Training needs about" in warning for warning in figures()["warnings"])
    monkeypatch.setattr(placing, "memory_limit", lambda: needed)
    assert figures()["warnings"] == []


@pytest.mark.parametrize("options", [(4, 4, 1), (4, 4), (5, 3, -1), (3, 5, 2), (3, 3, 9), (3, 3, -9)])
@pytest.mark.parametrize("make", [torch.triu_indices, torch.tril_indices])
def test_triangles_have_as_many_indices(make, options: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    with shapes_only():
        shape = make(*options)
    real = make(*options)
    assert (shape.shape, shape.dtype, shape.is_meta) == (real.shape, real.dtype, True)


def test_layers_are_made_without_numbers_in_this_thread_only() -> None:
    elsewhere = []
    with shapes_only():
        layer = nn.Linear(3, 5)
        assert nn.init.ones_(layer.bias) is layer.bias
        other = threading.Thread(target=lambda: elsewhere.append(nn.init.ones_(nn.Linear(3, 5).bias)))
        other.start()
        other.join()
    assert layer.weight.is_meta and layer.weight.shape == (5, 3)
    assert torch.equal(elsewhere[0], torch.ones(5))
    assert nn.Linear(3, 5).weight.abs().sum() > 0


def test_the_precision_is_said_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "processor_bf16", lambda: ("AMX",))
    small = figures()
    assert small["precision"]["value"] == "fp32" and "million" in small["precision"]["why"]
    monkeypatch.setitem(precision.FAST_FROM, "cpu", 1000)
    large = figures()
    assert large["precision"]["value"] == "bf16" and "AMX" in large["precision"]["why"] and not large["warnings"]
    assert large["memory"] == figures(precision="bf16")["memory"] != small["memory"]
    monkeypatch.setattr(precision, "processor_bf16", lambda: ())
    assert figures()["precision"]["value"] == "fp32" and figures()["warnings"] == []
    (warning,) = figures(precision="bf16")["warnings"]
    assert "crawl" in warning
