"""Every method shows at least one thing that is true of it, equal to a direct computation."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import parse_config
from peft_studio.methods import METHODS, get_method
from peft_studio.training.adapter_files import save_adapter
from peft_studio.training.inspection.views import Subject, inspect_adapter
from peft_studio.training.load import attach, load_adapter, load_base, share_base
from peft_studio.training.merging import unloaded

OTHER_VIEW = {
    "prefix": "attention", "prompt": "prompt", "p_tuning": "prompt", "houlsby": "bottlenecks",
    "pfeiffer": "bottlenecks", "parallel": "bottlenecks", "beft": "biases",
}  # fmt: skip
"""What is shown of methods that change no weight."""


def trained(base: Any, name: str, folder: Path) -> Path:
    """An adapter of a method whose parameters moved as if trained."""
    method = get_method(name)
    torch.manual_seed(3)
    wrapped = attach(share_base(base) if not method.changes_base else load_base(base.name_or_path)[0], method)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    save_adapter(wrapped, folder)
    return folder


def subject_of(folder: Path, name: str, adapter: Path, other: Path | None = None, task: str = "bistro") -> Subject:
    """The subject of an adapter on a model of a folder."""
    given = {"model": {"id": str(folder)}, "method": {"name": name}, "training": {"max_length": 100}}
    run = resolve(parse_config({**given, "task": {"id": task}}))
    base, tokenizer = load_base(str(folder), labels=run.task.labels)
    return Subject(run, base, tokenizer, adapter, other)


def views_of(folder: Path, name: str, tmp: Path) -> tuple[Subject, dict[str, Any]]:
    """An adapter of a method, and what is shown of it."""
    base, _ = load_base(str(folder))
    subject = subject_of(folder, name, trained(base, name, tmp / "adapter"))
    return subject, inspect_adapter(subject)["views"]


@pytest.mark.parametrize("name", METHODS)
def test_each_method_has_a_true_view(tiny_model: Path, tmp_path: Path, name: str) -> None:
    """The change map is what plain merging changes; other methods have a view of their own."""
    subject, views = views_of(tiny_model, name, tmp_path)
    if not get_method(name).mergeable:
        assert views["matrices"] is None and views[OTHER_VIEW[name]]
        return
    merged = unloaded(load_adapter(load_base(str(tiny_model))[0], subject.adapter))
    told = {f"{one['name']}.{one['parameter']}": one for one in [*views["matrices"], *views["vectors"]]}
    assert set(told) == {parameter for parameter, _ in merged.named_parameters()}
    for parameter, after in merged.named_parameters():
        before = subject.base.get_parameter(parameter)
        change = float((after.double() - before.double()).norm())
        assert told[parameter]["change"] == pytest.approx(change, rel=1e-6, abs=1e-9)
        assert told[parameter]["relative"] == pytest.approx(change / float(before.double().norm()), rel=1e-6, abs=1e-9)
    assert any(one["change"] > 0 for one in told.values())


def test_nearest_tokens_and_attention_of_a_soft_prompt(tiny_model: Path, tmp_path: Path) -> None:
    """A vector that is a token's embedding points to it; the shares are those of the attention itself."""
    base, tokenizer = load_base(str(tiny_model))
    adapter = trained(base, "prompt", tmp_path / "adapter")
    weights = load_file(adapter / "adapter_model.safetensors")
    weights["prompt_embeddings"][3] = 2 * base.get_input_embeddings().weight[77].detach()
    save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    subject = subject_of(tiny_model, "prompt", adapter)
    views = inspect_adapter(subject)["views"]
    nearest = views["prompt"][3]["tokens"][0]
    assert nearest == {"text": tokenizer.decode([77]), "cosine": pytest.approx(1.0, abs=1e-5)}
    shares = [one["to_virtual"] for layer in views["attention"] for one in layer]
    assert len(shares) == 2 * 4 and all(0 < share < 1 for share in shares)


def test_a_prefix_alone_cannot_change_attention_among_the_text(tiny_model: Path, tmp_path: Path) -> None:
    """Petrov et al.: nothing reaches the first layer but the text, whose attention keeps its proportions."""
    _, views = views_of(tiny_model, "prefix", tmp_path)
    first, second = views["attention"]
    assert all(one["moved"] < 1e-5 < one["to_virtual"] for one in first)
    assert any(one["moved"] > 1e-4 for one in second)


def test_scales_and_biases_are_the_adapters_own(tiny_model: Path, tmp_path: Path) -> None:
    subject, views = views_of(tiny_model, "ia3", tmp_path / "scales")
    saved = {name: value.flatten() for name, value in load_file(subject.adapter / "adapter_model.safetensors").items()}
    for one in views["scales"]:
        factors = saved[f"base_model.model.{one['name']}.ia3_l"]
        assert (one["least"], one["most"]) == (float(factors.min()), float(factors.max()))
        assert one["moved"] == int(((factors - 1).abs() > 0.1).sum())
    subject, views = views_of(tiny_model, "beft", tmp_path / "bias")
    saved = load_file(subject.adapter / "adapter_model.safetensors")
    for one in views["biases"]:
        assert one["added"] == pytest.approx(
            float(saved[f"base_model.model.{one['name']}.beft_bias"].norm()), rel=1e-5
        )


@pytest.mark.parametrize("name", ["houlsby", "parallel"])
def test_what_a_small_network_adds(tiny_model: Path, tmp_path: Path, name: str) -> None:
    """Taking a network's factor away makes its ratio zero; doubling it doubles the last block's."""
    subject, views = views_of(tiny_model, name, tmp_path)
    ratios = {one["name"]: one["ratio"] for one in views["bottlenecks"]}
    assert all(0 < ratio < 10 for ratio in ratios.values())
    config = json.loads((subject.adapter / "adapter_config.json").read_text())
    for factor in (0.0, 2.0):
        changed = {**config, "scaling": factor * config["scaling"]}
        (subject.adapter / "adapter_config.json").write_text(json.dumps(changed))
        first = inspect_adapter(subject)["views"]["bottlenecks"][0]
        assert first["ratio"] == pytest.approx(factor * ratios[first["name"]], rel=1e-4)


def test_overlap_with_another_run_and_with_itself(tiny_model: Path, tmp_path: Path) -> None:
    base, _ = load_base(str(tiny_model))
    adapter = trained(base, "lora", tmp_path / "adapter")
    views = inspect_adapter(subject_of(tiny_model, "lora", adapter, adapter))["views"]
    same = [one["overlap"]["similarity"] for one in views["matrices"] if one["change"]]
    assert same and all(value == pytest.approx(1, abs=1e-6) for value in same)


def test_a_classifier_is_looked_into(families: dict[str, Path], tmp_path: Path) -> None:
    """Its new head is among the weights, and rows are read with its labels."""
    subject = subject_of(families["bert"], "lora", tmp_path / "adapter", task="reviews")
    wrapped = attach(share_base(subject.base), get_method("lora"))
    with torch.no_grad():
        wrapped.base_model.model.classifier.modules_to_save["default"].weight.add_(0.1)
    save_adapter(wrapped, subject.adapter)
    told = {one["name"]: one for one in inspect_adapter(subject)["views"]["matrices"]}
    weight = subject.base.classifier.weight
    assert told["classifier"]["change"] == pytest.approx(0.1 * weight.numel() ** 0.5, rel=1e-4)
