"""Logits at target positions only, for the loss on target tokens.

A language model's head is a large share of a small model's work, and prompts need none of it: the model is asked for
the logits of the positions before a target token (``logits_to_keep`` of transformers). The loss is the same number.
"""

import inspect
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional as F

from peft_studio.errors import ModelError
from peft_studio.training import Model
from peft_studio.training.formats.rows import IGNORED

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def base_of(model: Model) -> "PreTrainedModel":
    """The model of transformers in which a method has changed layers, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def virtual_positions(model: Model) -> int:
    """How many positions a prompt-learning method puts before the text (prefixes live in the cache and add none)."""
    config = getattr(model, "active_peft_config", None)
    if config is None or not config.is_prompt_learning or config.peft_type.value in ("PREFIX_TUNING", "CARTRIDGE"):
        return 0
    return int(config.num_virtual_tokens)


def virtual_tokens(model: Model) -> int:
    """How much of the model's context a method takes up, in tokens."""
    config = getattr(model, "active_peft_config", None)
    return int(config.num_virtual_tokens) if config is not None and config.is_prompt_learning else 0


def has_prefix(model: Model) -> bool:
    """Whether a method puts keys and values into the model's cache."""
    return virtual_tokens(model) > virtual_positions(model)


def target_logits(model: Model, input_ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
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
    inputs, following = input_ids[:, :-1], labels[:, 1:]  # (B, T - 1) both: what is read, and what comes next
    wanted = following != IGNORED  # (B, T - 1)
    targets = following[wanted]  # (N,)
    if _can_choose(model):
        # The library indexes hidden states with what it is given, so a mask does as well as a number of positions.
        keep = F.pad(wanted, (virtual_positions(model), 0))  # (B, P + T - 1), P virtual positions in front
        return model(input_ids=inputs, use_cache=False, logits_to_keep=keep).logits, targets  # (N, V)
    logits = model(input_ids=inputs, use_cache=False).logits  # (B, P + T - 1, V)
    return logits[:, -inputs.shape[1] :][wanted], targets  # (N, V)


def _can_choose(model: Model) -> bool:
    return "logits_to_keep" in inspect.signature(type(base_of(model)).forward).parameters


def row_limit(max_length: int, context: int, virtual: int) -> int:
    """Tokens of the longest row that fits a model beside a method's virtual tokens.

    Raises:
        ModelError: Nothing fits.
    """
    if context - virtual < 2:
        raise ModelError(
            f"The method puts {virtual} virtual tokens before the text, and the model reads {context} tokens in all. "
            "Fewer virtual tokens are needed."
        )
    return min(max_length, context - virtual)


def context_of(config: "PretrainedConfig") -> int:
    """Longest text of a model in tokens, from its transformers config; a very large number without a limit."""
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if not limit:
        return 1 << 30
    # RoBERTa and its kin number positions from behind the padding token's id.
    reserved = config.pad_token_id + 1 if config.model_type in ("roberta", "camembert", "xlm-roberta") else 0
    return int(limit) - reserved
