"""What a run would cost, told before it starts: exact counts and file size, an estimated memory ledger, and a map.

Counts come from the very function that training uses to attach a method, run on shapes only (PyTorch's meta device),
so they are exact by construction.
"""

from functools import lru_cache
from typing import Any

import torch

from peft_studio.config import RunConfig, TaskConfig
from peft_studio.errors import ModelError
from peft_studio.methods import get_method
from peft_studio.methods.base import Params
from peft_studio.models.layouts import Layout
from peft_studio.tasks import task_of
from peft_studio.training.load import attach, layout_of, load_meta, load_tokenizer, share_base
from peft_studio.training.param_map import WRAPPER, count_parameters, draw_map
from peft_studio.training.safetensors_size import adapter_file_bytes

BYTES = 4  # float32
ADAM_STATES = 2


def estimate(config: RunConfig) -> dict[str, Any]:
    """Everything the form shows while it is filled in, as plain values.

    Args:
        config: The run that would be started.

    Returns:
        ``trainable_params``, ``total_params``, ``base_params``, ``trainable_share``, ``adapter_bytes`` (all exact),
        ``memory`` (bytes; ``activations`` is an estimate), ``tokens_per_row``, ``map``, ``warnings``, and under
        ``full`` the same figures for full fine-tuning.

    Raises:
        ModelError: The model cannot be read.
        ConfigError: The method does not fit the model.
    """
    figures, attached = _figures(config, config.method)
    base = _meta_base(config.model.id, task_of(config.task).labels, config.lsg_length)
    full, _ = _figures(config, get_method("full").params(name="full"))
    layout = layout_of(base)
    drawn = draw_map(attached, base, layout)
    return {**figures, "full": full, "map": drawn, "warnings": find_warnings(config, figures)}


def find_warnings(config: RunConfig, figures: dict[str, Any]) -> list[str]:
    """What a user should know before starting, as sentences; usually nothing.

    Args:
        config: The run that would be started.
        figures: Its estimate.
    """
    import psutil

    warnings = []
    typical, longest = sum(_typical_lengths(config.model.id, config.task)), config.training.max_length
    if typical > longest:
        warnings.append(f"Rows have about {typical} tokens, so prompts will be cut to fit max_length = {longest}.")
    needed, there = sum(figures["memory"].values()) / 1e9, psutil.virtual_memory().total / 1e9
    if needed > there:
        warnings.append(f"Training needs about {needed:.1f} GB; this machine has {there:.1f} GB of memory.")
    return warnings


def _figures(config: RunConfig, params: Params) -> tuple[dict[str, Any], Any]:
    labels = task_of(config.task).labels
    place = (config.model.id, labels, config.lsg_length)
    model, base = attach_to_shapes(place, params, config.training.max_steps)
    trainable, total = count_parameters(model)
    base_params = sum(parameter.numel() for parameter in base.parameters())
    held = sum(parameter.numel() for parameter in model.parameters())
    prompt, answer = _typical_lengths(config.model.id, config.task)
    rows = config.training.batch_size
    length, answer = min(prompt + answer, config.training.max_length), min(answer, config.training.max_length)
    figures = {
        "trainable_params": trainable,
        "total_params": total,
        "base_params": base_params,
        "trainable_share": trainable / total,
        "adapter_bytes": adapter_file_bytes(model, get_method(params.name).changes_base),
        "memory": {
            "weights": held * BYTES,
            "gradients": trainable * BYTES,
            "optimizer": trainable * BYTES * ADAM_STATES,
            "activations": activation_bytes(model, base, rows * length, rows * answer),
        },
        "tokens_per_row": length,
    }
    return figures, model


def activation_bytes(model: Any, base: Any, tokens: int, answers: int) -> int:
    """Estimated bytes that the forward pass keeps for the backward pass.

    Per token and block: ``10 d + 2 k + 4 f`` numbers (norms, projections, residuals of width ``d``, keys and values of
    width ``k``, feed-forward width ``f``), counted from the lowest block that trains upwards; and three times the
    vocabulary for every answer token. Attention scores are not kept (fused attention); what an adapter itself keeps,
    and the allocator's slack, are left out.

    Args:
        model: The model with its method.
        base: The model without it.
        tokens: Tokens in a batch.
        answers: Tokens in it that carry loss.
    """
    config = base.config
    hidden, heads = config.hidden_size, config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or hidden // heads
    keys = (getattr(config, "num_key_value_heads", None) or heads) * head_dim
    sizes = (getattr(config, name, None) for name in ("intermediate_size", "ffn_dim", "d_ff", "encoder_ffn_dim"))
    inner = next((size for size in sizes if size), 4 * hidden)
    per_block = 10 * hidden + 2 * keys + 4 * inner
    layout = layout_of(base)
    vocabulary = config.vocab_size if layout.purpose == "generation" else 0
    return BYTES * (tokens * trained_blocks(model, base, layout) * per_block + answers * 3 * vocabulary)


def trained_blocks(model: Any, base: Any, layout: Layout) -> int:
    """How many blocks the backward pass goes through: all from the lowest that trains upwards.

    Args:
        model: The model with its method.
        base: The model without it.
        layout: Where its blocks are.
    """
    depths = [len(base.get_submodule(path)) for path in layout.blocks]
    lowest = sum(depths)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            path = name.removeprefix(WRAPPER).removeprefix("base_model.")
            place = layout.block_of(path)
            if place:
                lowest = min(lowest, sum(depths[: place[0]]) + place[1])
            elif not any(word in path for word in ("norm", "head", "ln_f", "score", "classifier")):
                lowest = 0  # the embedding, or vectors in front of the text
    return sum(depths) - lowest


def attach_to_shapes(place: tuple[str, tuple[str, ...], int], params: Params, steps: int) -> tuple[Any, Any]:
    """A model with a method and the same model without, both on the meta device.

    Args:
        place: The base model: catalogue name, folder or Hub id; class names of a classification task; tokens that
            LSG attention reads, or 0.
        params: The method's parameters.
        steps: Optimizer steps of the run.

    Raises:
        ModelError: The model cannot be read.
        ConfigError: The method or the task does not fit the model.
    """
    base = _meta_base(*place)
    with torch.device("meta"):
        return attach(share_base(base), params, steps), base


@lru_cache(maxsize=8)
def _meta_base(model_id: str, labels: tuple[str, ...] = (), lsg_length: int = 0) -> Any:
    return load_meta(model_id, labels, lsg_length)


@lru_cache(maxsize=64)
def _typical_lengths(model_id: str, task: TaskConfig) -> tuple[int, int]:
    """Mean tokens of a row's prompt and of its answer, over a sample; round numbers without a tokenizer to ask."""
    try:
        tokenizer = load_tokenizer(model_id)
    except ModelError:
        return 64, 64
    rows = task_of(task).load("train")[:256]
    prompts = tokenizer([row.prompt for row in rows])["input_ids"]
    answers = tokenizer([row.target for row in rows])["input_ids"]
    answer = sum(len(ids) + 1 for ids in answers) / len(rows)
    prompt = sum(len(ids) for ids in prompts) / len(rows)
    return round(prompt), round(answer)
