"""Base and adapter as one model: plain transformers loads it and answers alike; what cannot be merged is said."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from peft_studio.config.resolved_run import ResolvedRun, resolve
from peft_studio.config.run_config import parse_config
from peft_studio.errors import InvalidStateError
from peft_studio.training.adapter_files import save_adapter
from peft_studio.training.load import attach, load_base
from peft_studio.training.merging import merge_adapter


def saved(folder: Path, name: str, out: Path, task: dict[str, Any] | None = None, **model: Any) -> ResolvedRun:
    """A run whose adapter, its parameters moved as if trained, is saved."""
    given = {"model": {"id": str(folder), **model}, "method": {"name": name}, "training": {"max_length": 100}}
    resolved = resolve(parse_config({**given, "task": task or {"id": "bistro"}}))
    base, _ = load_base(str(folder), labels=resolved.task.labels)
    torch.manual_seed(0)
    wrapped = attach(base, resolved.method, resolved.config.method)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    save_adapter(wrapped, out)
    return resolved


@pytest.mark.parametrize(("family", "method"), [
    ("llama", "lora"), ("llama", "full"), ("llama", "head"), ("gpt2", "hra"), ("gpt2", "top_layers"), ("t5", "lora"),
])  # fmt: skip
def test_a_merged_model_is_one_of_its_family(
    families: dict[str, Path], tmp_path: Path, family: str, method: str
) -> None:
    """Tied embeddings that trained apart, and GPT-2's transposed layers, included."""
    run = saved(families[family], method, tmp_path / "adapter")
    assert merge_adapter(run, tmp_path / "adapter", tmp_path / "merged") < 1e-3
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["model_type"] == family
    assert {"model.safetensors", "generation_config.json", "tokenizer.json"} <= {
        path.name for path in (tmp_path / "merged").iterdir()
    }
    for path in (tmp_path / "merged").glob("*.json"):
        assert str(tmp_path) not in path.read_text() and str(families[family]) not in path.read_text()


def test_a_merged_classifier_knows_its_labels_and_padding(families: dict[str, Path], tmp_path: Path) -> None:
    run = saved(families["roberta"], "lora", tmp_path / "adapter", {"id": "reviews"})
    merge_adapter(run, tmp_path / "adapter", tmp_path / "merged")
    answers = transformers.pipeline("text-classification", str(tmp_path / "merged"))(["good food", "bad, and far"])
    assert {answer["label"] for answer in answers} <= set(run.task.labels)


@pytest.mark.parametrize(("family", "method", "task", "model", "words"), [
    ("llama", "houlsby", "bistro", {}, "Houlsby adapters cannot be merged"),
    ("llama", "prompt", "bistro", {}, "Prompt tuning cannot be merged"),
    ("roberta", "lora", "reviews", {"attention": "lsg"}, "LSG attention"),
])  # fmt: skip
def test_what_cannot_be_merged(
    families: dict[str, Path], tmp_path: Path, family: str, method: str, task: str, model: dict[str, Any], words: str
) -> None:
    run = saved(families[family], method, tmp_path / "adapter", {"id": task}, **model)
    with pytest.raises(InvalidStateError, match=words):
        merge_adapter(run, tmp_path / "adapter", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
