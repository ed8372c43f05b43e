"""PEFT models of every kind that treats sequences differently, on the tiny base model."""

from pathlib import Path
from typing import Any

import pytest

KINDS = ("base", "lora", "ia3", "prefix", "prompt")


def make_adapted(folder: Path, kind: str) -> tuple[Any, Any]:
    """A tiny model with an adapter that changes what it says, in evaluation mode, and the tokenizer."""
    import torch
    from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    configs: dict[str, Any] = {
        "lora": LoraConfig(
            r=4, lora_alpha=1, task_type="CAUSAL_LM", target_modules="all-linear", init_lora_weights=False
        ),
        "ia3": IA3Config(task_type="CAUSAL_LM", init_ia3_weights=False),
        "prefix": PrefixTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM"),
        "prompt": PromptTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM"),
    }
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    torch.manual_seed(1)
    if kind != "base":
        model = get_peft_model(model, configs[kind])
    return model.eval(), AutoTokenizer.from_pretrained(folder)


@pytest.fixture(params=KINDS)
def adapted(request: pytest.FixtureRequest, tiny_model: Path) -> tuple[Any, Any]:
    """Each kind of model in turn, with its tokenizer."""
    return make_adapted(tiny_model, request.param)
