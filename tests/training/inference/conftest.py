"""Saved adapters of all methods on the tiny model, and a pool of models, once for this folder."""

from pathlib import Path

import pytest
import torch

from peft_studio.methods import METHODS, get_method
from peft_studio.training.adapter_files import save_adapter
from peft_studio.training.inference.model_pool import ModelPool
from peft_studio.training.load import attach, load_base


@pytest.fixture(scope="package")
def saved(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An adapter of every method with random weights, by method."""
    home = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(METHODS):
        model = attach(load_base(str(tiny_model))[0], get_method(name))
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.05)
        save_adapter(model, home / name)
    return {name: home / name for name in METHODS}


@pytest.fixture(scope="package")
def pool() -> ModelPool:
    """All models of this folder."""
    return ModelPool(adapters=2 * len(METHODS))
