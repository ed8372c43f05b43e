"""The tiny base model with every method on it, changed so that each says something else; folders for sessions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_studio.methods import METHODS, get_method
from peft_studio.runs.paths import RunPaths

DIFFERENT = ("base", "lora", "prefix", "prompt")  # the ways in which methods treat sequences


def make_adapted(folder: Path, name: str) -> tuple[Any, Any]:
    """A tiny model with a method whose trainable parameters are random, in evaluation mode, and the tokenizer."""
    import torch

    from peft_studio.training.load import attach, load_base

    model, tokenizer = load_base(str(folder))
    if name != "base":
        model = attach(model, get_method(name))
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


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for all tests, so that the base model answers once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Callable[[str], RunPaths]:
    """Makes run folders."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "cache").symlink_to(cache)

    def make(name: str) -> RunPaths:
        paths = RunPaths(tmp_path / "runs" / name)
        paths.root.mkdir()
        return paths

    return make


@pytest.fixture
def untested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what comes after training, which takes longer than these few steps."""
    from peft_studio.training import trainer

    monkeypatch.setattr(trainer._Session, "test", lambda _self: True)
    from peft_studio.training import trainer

    monkeypatch.setattr(trainer._Session, "_reload_difference", lambda _self: 0.0)
