"""Adding a method is one file and one line: a new entry works everywhere without another change."""

import importlib.util
from pathlib import Path

import pytest

from peft_studio import methods
from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import parse_config
from peft_studio.training.estimates.estimate import estimate
from peft_studio.training.load import attach, load_base
from peft_studio.ui.form import controls

NEW_FILE = '''
"""Key-only LoRA: a low-rank update of the key projections alone."""

from typing import Literal

from pydantic import Field

from peft_studio.methods.base import Method, Paper, Params, wrap
from peft_studio.methods.rates import chosen


class KeyLoraParams(Params):
    """Parameters of key-only LoRA."""

    name: Literal["key_lora"] = "key_lora"
    rank: int = Field(4, ge=1, le=16, description="Width of the two small matrices.")


def _attach(model, params, site):
    targets = site.layout.within_blocks(site.layout.key_value[:1])
    return wrap(model, site, "LoraConfig", r=params.rank, target_modules=targets)


KEY_LORA = Method(
    name="key_lora",
    title="Key-only LoRA",
    summary="A low-rank update of the key projections alone.",
    idea="Only what the text is looked up by changes.",
    formula=r"K = (W_k + B A)\\, x",
    count="r (n + m) per layer.",
    paper=Paper("LoRA", "Hu et al.", 2021, "https://arxiv.org/abs/2106.09685"),
    params=KeyLoraParams,
    rates=chosen(1e-2),
    attach=_attach,
)
'''


def test_one_file_and_one_line_add_a_method(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key_lora.py"
    file.write_text(NEW_FILE, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("key_lora", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(methods.METHODS, "key_lora", module.KEY_LORA)  # the one line

    run = resolve(parse_config({"model": {"id": str(tiny_model)}, "method": {"name": "key_lora"}, "training": {}}))
    assert run.config.training.learning_rate == 1e-2
    model = attach(load_base(str(tiny_model))[0], run.method)
    figures = estimate(run)
    assert figures["trainable_params"] == model.get_nb_trainable_parameters()[0] == 2 * 4 * (32 + 32)
    assert list(controls(module.KeyLoraParams, ["rank"])) == ["rank"]
