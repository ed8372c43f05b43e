"""Layouts against the module trees of transformers itself, one block each, without weights."""

import re
from dataclasses import fields
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

from peft_studio.errors import ConfigError, ModelError
from peft_studio.models.layouts import LAYOUTS, layout_for

SIZES = {"vocab_size": 64, "num_hidden_layers": 1, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
LAYERS = {"encoder_layers": 1, "decoder_layers": 1, "num_layers": 1, "num_decoder_layers": 1, "n_layers": 1}
EMPTY = {"final_norm", "outer_norms", "inside"}  # fields that may be


def one_block(model_type: str) -> Any:
    config = AutoConfig.for_model(model_type, **SIZES, **LAYERS)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:1]
    loaders = {"encoder": AutoModelForSequenceClassification, "encoder-decoder": AutoModelForSeq2SeqLM}
    with torch.device("meta"):
        return loaders.get(LAYOUTS[model_type].kind, AutoModelForCausalLM).from_config(config)


def layout_at_work(model_type: str) -> Any:
    return layout_for(model_type, "classification" if LAYOUTS[model_type].kind == "encoder" else "generation")


@pytest.mark.parametrize("model_type", LAYOUTS)
def test_layout_names_every_module_with_parameters(model_type: str) -> None:
    model, layout = one_block(model_type), layout_at_work(model_type)
    inside = re.compile(layout.within_blocks((*layout.attention, *layout.mlp, *layout.norms)))
    outside = {layout.final_norm, layout.embedding, layout.head, *layout.outer_norms, *layout.trained_heads}
    owners = {name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))}
    unnamed = {
        name
        for name in owners
        if not inside.fullmatch(name) and not any(name == part or name.startswith(f"{part}.") for part in outside)
    }
    others = (
        "wpe",
        "embed_positions",
        "embed_tokens",
        "position_embeddings",
        "token_type_embeddings",
        "relative_attention_bias",
    )
    allowed = {"bert.pooler.dense", "head.dense"}
    assert {name for name in unnamed if not name.endswith(others)} <= allowed
    assert set(layout.key_value) <= set(layout.attention)
    assert re.compile(layout.linear).fullmatch(f"{layout.blocks[0]}.0.nothing") is None


@pytest.mark.parametrize("model_type", LAYOUTS)
def test_every_named_part_exists(model_type: str) -> None:
    model, layout = one_block(model_type), layout_at_work(model_type)
    names = {name for name, _ in model.named_modules()}
    for path in (*layout.blocks, layout.embedding, *filter(None, (layout.final_norm,)), *layout.outer_norms):
        assert path in names
    found = {place[2] for name in names if (place := layout.block_of(name))}
    alternatives = {"DenseReluDense.wi_0", "DenseReluDense.wi_1", "DenseReluDense.wi"}
    assert {*layout.attention, *layout.mlp, *layout.norms} - found <= alternatives


@pytest.mark.parametrize("model_type", LAYOUTS)
def test_projections_have_the_stated_shape(model_type: str) -> None:
    model, layout = one_block(model_type), layout_at_work(model_type)
    hidden = model.config.hidden_size
    shapes = {
        place[2]: (module.weight.shape if not hasattr(module, "nx") else module.weight.shape[::-1])
        for name, module in model.named_modules()
        if (place := layout.block_of(name)) and hasattr(module, "weight")
    }
    assert any(shapes[name][1] == hidden for name in layout.mlp_input if name in shapes)
    for name in (*layout.attention_output, layout.mlp_output):
        assert shapes[name][0] == hidden


def test_unknown_architecture_names_the_known_ones() -> None:
    with pytest.raises(ModelError, match="Did you mean 'llama'"):
        layout_for("lama")


def test_wrong_task_for_an_architecture_says_which_fit() -> None:
    with pytest.raises(ConfigError, match="encoder: it cannot write text"):
        layout_for("bert", "generation")
    with pytest.raises(ConfigError, match="no classification head here"):
        layout_for("t5", "classification")


def test_layouts_are_complete() -> None:
    for layout in LAYOUTS.values():
        assert all(getattr(layout, field.name) for field in fields(layout) if field.name not in EMPTY)
