"""The tiny base model with every method on it, changed so that each says something else."""

from pathlib import Path
from typing import Any

import pytest

from peft_studio.methods import METHODS, get_method

DIFFERENT = ("base", "lora", "prefix", "prompt")  # the ways in which methods treat sequences


def make_adapted(folder: Path, name: str) -> tuple[Any, Any]:
    """A tiny model with a method whose trainable parameters are random, in evaluation mode, and the tokenizer."""
    import torch

    from peft_studio.training.load import attach, load_base

    model, tokenizer = load_base(str(folder))
    if name != "base":
        model = attach(model, get_method(name).params(name=name))
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval(), tokenizer


@pytest.fixture(params=("base", *METHODS))
def adapted(request: pytest.FixtureRequest, tiny_model: Path) -> tuple[Any, Any]:
    """The base model and each method in turn, with the tokenizer."""
    return make_adapted(tiny_model, request.param)


@pytest.fixture(params=DIFFERENT)
def different(request: pytest.FixtureRequest, tiny_model: Path) -> tuple[Any, Any]:
    """One model of each way in which methods treat sequences, with the tokenizer."""
    return make_adapted(tiny_model, request.param)
