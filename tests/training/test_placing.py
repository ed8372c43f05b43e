"""Devices are chosen as asked; a model in parts computes what it computes in one piece. There is no GPU here."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from peft_studio.config.preflight import check_run
from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import parse_config
from peft_studio.errors import ConfigError, OutOfMemoryError
from peft_studio.methods import get_method
from peft_studio.runs.paths import RunPaths
from peft_studio.training import placing, trainer
from peft_studio.training.checkpoints import restore as resume
from peft_studio.training.fast.llama import FastDecoder
from peft_studio.training.load import attach, base_output, load_base
from peft_studio.training.placing import balanced_map, device_for, is_spread, memory_of, spread, whole_blocks


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes PyTorch say that it has GPUs, each with so many bytes, all free."""

    def have(*sizes: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(sizes))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(sizes))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (sizes[number], sizes[number]))
        properties = [SimpleNamespace(total_memory=size) for size in sizes]
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: properties[number])

    return have


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes PyTorch say that it has an Apple GPU."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


def test_the_best_device_there_is(gpus: Callable[..., None]) -> None:
    assert device_for() == device_for("cpu") == torch.device("cpu")
    gpus(8, 8)
    assert {str(device_for(wish)) for wish in ("auto", "cuda", "cuda:1", "all")} == {"cuda"}
    assert device_for("cpu").type == "cpu"


def test_an_apple_gpu(apple: None) -> None:
    assert device_for().type == device_for("mps").type == "mps"


@pytest.mark.parametrize("wish", ["cuda", "cuda:0", "all", "mps"])
def test_a_device_that_is_not_there(wish: str) -> None:
    with pytest.raises(ConfigError, match=rf"'{wish}': PyTorch .* finds no such device here. Allowed: auto, cpu\."):
        device_for(wish)


def test_whose_memory_counts(gpus: Callable[..., None]) -> None:
    machine = memory_of()
    assert machine[0] > 0 and machine[1] == "this machine has"
    gpus(5, 7)
    assert memory_of() == (7, "the GPU has") and memory_of("cuda:0") == (5, "the GPU has")
    assert memory_of("all") == (12, "all GPUs together have") and memory_of("cpu") == machine


@pytest.fixture
def model(tiny_model: Path) -> Any:
    """A tiny Llama with LoRA."""
    return attach(load_base(str(tiny_model))[0], get_method("lora"))


@pytest.mark.parametrize(
    ("name", "labels", "method"),
    [("nano-lm", (), "lora"), ("nano-encoder", ("a", "b"), "houlsby"), ("nano-seq2seq", (), "parallel")],
)
def test_gpus_get_about_as_much_and_whole_blocks(
    name: str, labels: tuple[str, ...], method: str, gpus: Callable[..., None]
) -> None:
    """The map that GPUs would get; the parts of the model then talk to each other, all of them on the CPU."""
    model = attach(load_base(name, labels=labels)[0], get_method(method)).eval()
    ids = torch.arange(5, 25).reshape(2, 10)
    batch = {"input_ids": ids, **({} if name != "nano-seq2seq" else {"decoder_input_ids": ids})}
    size = sum(item.nbytes for item in model.parameters())
    gpus(4 * size, 4 * size)
    found = balanced_map(model)
    assert set(found.values()) == {0, 1}
    blocks = [part for part in found if ".layers." in part]
    assert all(part.rpartition(".")[2].isdecimal() for part in blocks)
    gpus(size // 8, size // 8)
    with pytest.raises(OutOfMemoryError, match="the 2 GPUs have room for"):
        balanced_map(model)
    gpus()
    with torch.no_grad():
        whole = model(**batch).logits
        assert torch.equal(spread(model, dict.fromkeys(found, "cpu"))(**batch).logits, whole)


def parts(model: Any) -> dict[str, int | str]:
    """A map with every block by itself, all of it on the CPU."""
    inner = "base_model.model" if hasattr(model, "get_base_model") else ""
    base = model.get_base_model() if inner else model
    names = ["model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"]
    names += [f"model.layers.{number}" for number in range(len(base.model.layers))]
    return {f"{inner}.{name}".strip("."): "cpu" for name in names}


def test_a_spread_model_answers_as_before(model: Any) -> None:
    ids = torch.arange(5, 25).reshape(2, 10)
    model.eval()
    with torch.no_grad():
        whole = model(input_ids=ids).logits
        assert FastDecoder.fits(model)
        spread(model, parts(model))
        assert (
            whole_blocks(model) == ["LlamaDecoderLayer"] and is_spread(model) and not FastDecoder.fits(model)
        )  # which reads a block's parts by itself
        hooked = [name for name, part in model.named_modules() if hasattr(part, "_hf_hook")]
        assert any(name.endswith("layers.0") for name in hooked) and any(
            name.endswith("lora_A.default") for name in hooked
        )
        assert torch.equal(model(input_ids=ids).logits, whole)
        with base_output(model) as base:
            assert torch.isfinite(base(input_ids=ids).logits).all()


def run_of(folder: Path, tiny_model: Path, precision: str, device: str = "auto") -> dict[str, Any]:
    """A short run in this process: losses by step, metrics, and the ``saved`` event."""
    settings = {"max_steps": 4, "batch_size": 4, "eval_every": 2, "eval_rows": 4, "precision": precision}
    values = {"model": {"id": str(tiny_model)}, "method": {"name": "lora"}, "training": settings}
    config = parse_config(values | {"resources": {"device": device}})
    paths = RunPaths(folder / "home" / "runs" / "run")
    paths.root.mkdir(parents=True, exist_ok=True)
    events: list[dict[str, Any]] = []
    trainer.run(
        resolved=resolve(config), paths=paths, threads=1, should_stop=lambda: "",
        emit=lambda kind, **fields: events.append({"kind": kind, **fields}),
    )  # fmt: skip
    metrics = {key: value for event in events for key, value in event.get("metrics", {}).items()}
    losses = [event["loss"] for event in events if event["kind"] == "step"]
    kinds = {event["kind"]: event for event in events}
    resumed = kinds.get("resumed", {}).get("from")
    return {"losses": losses, "metrics": metrics, "saved": kinds["saved"], "resumed": resumed}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_spread_run_has_the_same_losses(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    whole = run_of(tmp_path / "whole", tiny_model, precision)
    monkeypatch.setattr(resume, "place", lambda model, _wish: spread(model, parts(model)))
    divided = run_of(tmp_path / "divided", tiny_model, precision)
    near = 1e-4 if precision == "fp32" else 2e-2  # the plain path rounds elsewhere
    assert divided["losses"] == pytest.approx(whole["losses"], abs=near)
    assert divided["metrics"]["eval/loss"] == pytest.approx(whole["metrics"]["eval/loss"], abs=near)
    assert "check" in whole["saved"] and "check" not in divided["saved"]
    assert divided["saved"]["bytes"] == whole["saved"]["bytes"]


def test_a_checkpoint_fits_whatever_device_a_run_is_moved_to(tmp_path: Path, tiny_model: Path) -> None:
    """Trained in parts, made longer in one piece: it goes on and does not begin again."""
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "place", lambda model, _wish: spread(model, parts(model)))
        run_of(folder, tiny_model, "fp32")
    (folder / "home" / "runs" / "run" / "extended.json").write_text('{"max_steps": 6}')
    longer = run_of(folder, tiny_model, "fp32", device="cpu")
    assert len(longer["losses"]) == 2 and longer["resumed"] == 4


def test_methods_that_keep_a_second_base_are_not_spread(tiny_model: Path) -> None:
    base = load_base(str(tiny_model))[0]
    model = attach(base, get_method("pissa"))
    with pytest.raises(ConfigError, match="cannot be spread"):
        spread(model, parts(model))
    config = {"model": {"id": str(tiny_model)}, "method": {"name": "pissa"}, "resources": {"device": "all"}}
    with pytest.raises(ConfigError, match=r"PiSSA .* cannot be spread over GPUs"):
        check_run(parse_config(config | {"training": {}}))


def test_a_moved_model_takes_its_untouched_base_along(tiny_model: Path) -> None:
    """The meta device stands for a GPU: what stayed behind would be on the CPU."""
    model = attach(load_base(str(tiny_model))[0], get_method("pissa"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placing, "device_for", lambda _wish: torch.device("meta"))
        placing.place(model)
    with base_output(model) as base:
        for owner in (model, base):
            assert {item.device.type for item in (*owner.parameters(), *owner.buffers())} == {"meta"}
