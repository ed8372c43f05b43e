"""Layouts against the module trees of transformers itself, one block each, without weights."""

from dataclasses import fields
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from peft_studio.errors import ModelError
from peft_studio.models.layouts import LAYOUTS, layout_for

SIZES = {"vocab_size": 64, "num_hidden_layers": 1, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


def one_block(model_type: str) -> Any:
    config = AutoConfig.for_model(model_type, **SIZES)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:1]
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("model_type", LAYOUTS)
def test_layout_names_every_module_with_parameters(model_type: str) -> None:
    model, layout = one_block(model_type), layout_for(model_type)
    inside = {*layout.attention, *layout.mlp, *layout.norms}
    named = {f"{layout.blocks}.0.{name}" for name in inside} | {layout.final_norm, layout.embedding, layout.head}
    owners = {name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))}
    positions = {name for name in owners if name.endswith(("wpe", "embed_positions"))}
    assert owners - positions == named
    assert set(layout.key_value) <= set(layout.attention)


@pytest.mark.parametrize("model_type", LAYOUTS)
def test_projections_have_the_stated_shape(model_type: str) -> None:
    model, layout = one_block(model_type), layout_for(model_type)
    block = model.get_submodule(f"{layout.blocks}.0")
    hidden = model.config.hidden_size
    inputs, outputs = (0, 1) if layout.transposed else (1, 0)
    assert block.get_submodule(layout.mlp_input).weight.shape[inputs] == hidden
    for name in (layout.attention_output, layout.mlp_output):
        assert block.get_submodule(name).weight.shape[outputs] == hidden


def test_unknown_architecture_names_the_known_ones() -> None:
    with pytest.raises(ModelError, match="Did you mean 'llama'"):
        layout_for("lama")


def test_layouts_are_complete() -> None:
    for layout in LAYOUTS.values():
        assert all(getattr(layout, field.name) for field in fields(layout) if field.name != "transposed")
