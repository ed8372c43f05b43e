"""Every method on every architecture family: attach, count, train, save, reload, answer, switch off, merge.

What holds is what the app shows: the outcome must equal ``peft_studio/methods/matrix.json``, which
``UPDATE_MATRIX=1 python -m pytest tests/methods/test_matrix.py`` writes.
"""

import contextlib
import copy
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.utils import ModulesToSaveWrapper

from peft_studio.config.run_config import parse_config
from peft_studio.errors import ConfigError
from peft_studio.methods import METHODS, get_method
from peft_studio.methods.rates import Kind
from peft_studio.models.opening import LINEAR_BASE, opening_of
from peft_studio.tasks.base import Row
from peft_studio.training.adapter_files import save_adapter
from peft_studio.training.estimates.estimate import attach_to_shapes
from peft_studio.training.estimates.param_map import count_parameters
from peft_studio.training.formats.formats import format_for
from peft_studio.training.load import attach, base_output, layout_of, load_base
from peft_studio.training.quiet import known_warnings

MATRIX = Path(__file__).resolve().parents[2] / "peft_studio" / "methods" / "matrix.json"
FAMILIES = ("llama", "qwen3", "gpt2", "gpt_neox", "opt", "bert", "roberta", "distilbert", "modernbert", "t5", "bart")
ENCODERS = ("bert", "roberta", "distilbert", "modernbert")
STEPS = 12
LABELS = ("good", "bad")
TEXTS = [Row(f"name: Biox Mill{number} | food: Thai =>", f" Thai place {number % 2}.") for number in range(6)]
CLASSES = [Row(f"The food is {label}, number {number}.", label) for number in range(3) for label in LABELS]


@pytest.fixture(scope="module")
def outcome() -> Iterator[dict[str, dict[str, str]]]:
    """Collects what was found; at the end it is written when asked for."""
    found: dict[str, dict[str, str]] = {name: {} for name in METHODS}
    yield found
    if os.environ.get("UPDATE_MATRIX"):
        MATRIX.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


class Case:
    """One method on one family."""

    def __init__(self, name: str, folder: Path, family: str) -> None:
        self.method = get_method(name)
        self.params = self.method.params(name=name)
        self.folder, self.labels = folder, LABELS if family in ENCODERS else ()
        self.rows = CLASSES if self.labels else TEXTS
        base, tokenizer = self.load()
        self.form = format_for(layout_of(base), tokenizer, self.labels)
        self.batch = self.form.inputs(self.form.encode(self.rows, 100).examples)
        self.base = copy.deepcopy(base)
        torch.manual_seed(0)
        self.model = attach(base, self.method, self.params, STEPS, [self.batch] * 2)

    def load(self) -> tuple[Any, Any]:
        base, tokenizer = load_base(str(self.folder), labels=self.labels)
        base.config.pad_token_id = 1
        return base, tokenizer

    def opened(self, folder: Path) -> Any:
        """The saved adapter on a base that nobody has touched, by the lines that its exported card prints."""
        config = json.loads((folder / "adapter_config.json").read_text())
        opening = opening_of(config, self.base.config.model_type, self.labels, None)
        scope: dict[str, Any] = {}
        with contextlib.chdir(folder), known_warnings(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")  # an export says True
            if opening.linear:
                shutil.copy2(LINEAR_BASE, folder)
            exec(opening.code(repr(str(self.folder))), scope)
        return scope["model"]

    def logits(self, model: Any) -> torch.Tensor:
        with torch.no_grad():
            return self.form.logits(model, self.batch)[0]

    def train(self) -> tuple[float, float]:
        """First and last loss of a few steps with the method's own optimizer and hooks."""
        self.model.train()
        kind: Kind = "classification" if self.labels else "generation"
        rate = min(3e-3 if self.labels else 1e-2, self.method.rates[kind].rate)
        if self.method.optimizer is not None:
            optimizer = self.method.optimizer(self.model, self.params, rate, 0.0)
        else:
            optimizer = torch.optim.AdamW([part for part in self.model.parameters() if part.requires_grad], rate)
        losses = []
        for step in range(1, STEPS + 1):
            loss = self.form.loss(self.model, self.batch)
            losses.append(loss.item())
            (loss if self.method.penalty is None else loss + self.method.penalty(self.model)).backward()
            optimizer.step()
            if self.method.after_step is not None:
                self.method.after_step(self.model, step)
            optimizer.zero_grad()
        self.model.eval()
        with torch.no_grad():
            return losses[0], float(self.form.loss(self.model, self.batch))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", METHODS)
def test_method_on_architecture(
    name: str, family: str, families: dict[str, Path], outcome: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    try:
        case = Case(name, families[family], family)
    except ConfigError as exc:
        outcome[name][family] = "no"
        assert family in get_method(name).not_for or "nothing to train" in str(exc)
    else:
        outcome[name][family] = check(case, tmp_path)
    if not os.environ.get("UPDATE_MATRIX"):
        assert outcome[name][family] == json.loads(MATRIX.read_text(encoding="utf-8"))[name][family]


def check(case: Case, folder: Path) -> str:
    """Goes through a method's life; returns what the matrix says of it."""
    shapes, _ = attach_to_shapes((str(case.folder), case.labels, None), case.method, case.params, STEPS)
    assert count_parameters(shapes) == count_parameters(case.model)
    first, last = case.train()
    assert last < first
    save_adapter(case.model, folder)
    trained = case.logits(case.model)
    reloaded = case.opened(folder)
    torch.testing.assert_close(case.logits(reloaded), trained, atol=2e-4, rtol=1e-3)
    answers = case.form.answers(reloaded, case.rows, 6, lambda: False)
    assert answers == case.form.answers(case.model, case.rows, 6, lambda: False)
    for model in (case.model, reloaded):
        with base_output(model) as base:
            torch.testing.assert_close(case.logits(base), case.logits(case.base), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(case.logits(case.model), trained)
    if not case.method.mergeable:
        return "yes"
    try:
        merged = merge(reloaded)
    except (ValueError, RuntimeError, NotImplementedError):
        return "yes, not mergeable"
    torch.testing.assert_close(case.logits(merged), trained, atol=1e-3, rtol=1e-3)
    return "yes"


def merge(model: Any) -> Any:
    """Folds an adapter into its base model's weights; the model is used up."""
    for name, module in list(model.named_modules()):  # PEFT trips over heads that are more than one layer
        if isinstance(module, ModulesToSaveWrapper):
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.modules_to_save[module.active_adapters[0]])
    with known_warnings():
        return model.merge_and_unload()


def test_config_uses_the_rate_for_the_models_size(families: dict[str, Path]) -> None:
    for name, method in METHODS.items():
        config = parse_config({"model": {"id": str(families["llama"])}, "method": {"name": name}, "training": {}})
        assert config.training.learning_rate == method.learning_rate
        config = parse_config({"model": {"id": "someone/large"}, "method": {"name": name}, "training": {}})
        assert config.training.learning_rate == method.learning_rate_large
