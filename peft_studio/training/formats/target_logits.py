"""Logits at target positions only, for the loss on target tokens.

A language model's head is a large share of a small model's work, and prompts need none of it: the model is asked for
the logits of the positions before a target token (``logits_to_keep`` of transformers). The loss is the same number.
"""

import inspect
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from peft_studio.errors import ModelError
from peft_studio.training.formats.rows import IGNORED


def virtual_positions(model: nn.Module) -> int:
    """How many positions a prompt-learning method puts before the text (prefixes live in the cache and add none)."""
    config = getattr(model, "active_peft_config", None)
    if config is None or not config.is_prompt_learning or config.peft_type.value in ("PREFIX_TUNING", "CARTRIDGE"):
        return 0
    return int(config.num_virtual_tokens)


def virtual_tokens(model: nn.Module) -> int:
    """How much of the model's context a method takes up, in tokens."""
    config = getattr(model, "active_peft_config", None)
    return int(config.num_virtual_tokens) if config is not None and config.is_prompt_learning else 0


def has_prefix(model: nn.Module) -> bool:
    """Whether a method puts keys and values into the model's cache."""
    return virtual_tokens(model) > virtual_positions(model)


def target_logits(model: nn.Module, input_ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits where a target token follows.

    Rows are padded on the right, which a causal model never looks back from; so no attention mask is needed, and
    attention takes its fastest path.

    Args:
        model: A causal language model, with or without an adapter.
        input_ids: ``(B, T)``.
        labels: ``(B, T)``, ``IGNORED`` where nothing is to be predicted.

    Returns:
        Logits ``(N, V)`` and the ``N`` target ids, row by row.
    """
    inputs, following = input_ids[:, :-1], labels[:, 1:]
    wanted = following != IGNORED  # (B, T - 1)
    targets = following[wanted]
    if _can_choose(model):
        keep = F.pad(wanted, (virtual_positions(model), 0))
        return model(input_ids=inputs, use_cache=False, logits_to_keep=keep).logits, targets
    logits = model(input_ids=inputs, use_cache=False).logits
    return logits[:, -inputs.shape[1] :][wanted], targets


def _can_choose(model: nn.Module) -> bool:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(type(base).forward).parameters


def context_length(model: nn.Module, default: int = 1 << 30) -> int:
    """Longest text of a model in tokens, or ``default`` when its config names no limit."""
    return context_of(model.config, default)


def row_limit(max_length: int, context: int, virtual: int) -> int:
    """Tokens of the longest row that a model is given.

    Args:
        max_length: What the config allows.
        context: What the model reads.
        virtual: How much of that a method takes up, see `virtual_tokens`.

    Raises:
        ModelError: Nothing fits.
    """
    if context - virtual < 2:
        raise ModelError(
            f"The method puts {virtual} virtual tokens before the text, and the model reads {context} tokens in all. "
            "Fewer virtual tokens are needed."
        )
    return min(max_length, context - virtual)


def context_of(config: Any, default: int = 1 << 30) -> int:
    """The same, of a model's transformers config."""
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if not limit:
        return default
    # RoBERTa and its kin number positions from behind the padding token's id.
    reserved = config.pad_token_id + 1 if config.model_type in ("roberta", "camembert", "xlm-roberta") else 0
    return int(limit) - reserved
