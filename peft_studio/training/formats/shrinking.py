"""Greedy decoding in which rows that have ended leave the batch, so that nobody computes for them any more.

``generate`` of transformers goes on with all rows until the last has ended, and copies the keys and values of all of
them in every step; among a hundred answers a few are twice as long as most.
"""

import inspect
from collections.abc import Collection
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from peft_studio.training import Model
from peft_studio.training.formats.target_logits import base_of, virtual_tokens

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SHARE = 0.15  # of the rows that must have ended before the others are copied to be by themselves
NEEDED = {"position_ids", "logits_to_keep", "attention_mask", "past_key_values"}
"""What a decoder must take, so that it can be asked as ``generate`` asks it."""
OTHER_RULES = (
    "bad_words_ids", "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "sequence_bias",
    "suppress_tokens", "exponential_decay_length_penalty", "guidance_scale", "encoder_repetition_penalty",
)  # fmt: skip
"""Settings with which ``generate`` does not simply take the likeliest token."""


def can_shrink(model: Model) -> bool:
    """Whether a model is a plain decoder, whose cache is keys and values of all that it has read."""
    base = base_of(model)
    rules = getattr(base, "generation_config", None)
    plain = not any(getattr(rules, name, None) for name in OTHER_RULES)
    whole = (
        plain and not base.config.is_encoder_decoder and virtual_tokens(model) == 0 and _sees_everything(base.config)
    )
    return whole and not base._is_stateful and set(inspect.signature(type(base).forward).parameters) >= NEEDED


def _sees_everything(config: "PretrainedConfig") -> bool:
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return kinds == {"full_attention"} and getattr(config, "attention_chunk_size", None) is None


def decode_shrinking(
    model: Model, ids: Tensor, mask: Tensor, max_new_tokens: int, ends: Collection[int]
) -> list[list[int]]:
    """The likeliest continuation of each row, token by token.

    Args:
        model: In evaluation mode.
        ids: Prompts ``(B, T)``, padded on the left.
        mask: What of them is no padding, ``(B, T)``.
        max_new_tokens: Most tokens of an answer.
        ends: Tokens that end one.

    Returns:
        New tokens of each row, the end not among them.
    """
    from transformers import DynamicCache

    found: list[list[int]] = [[] for _ in ids]
    going = list(range(len(found)))  # the row of each place in the batch; ended ones stay until enough have ended
    ended: set[int] = set()
    ids, mask = ids.to(model.device), mask.to(model.device)
    places = (mask.cumsum(1) - 1).clamp(min=0)  # (B, T): padding does not count
    cache = DynamicCache(config=base_of(model).config)
    with torch.inference_mode():
        for _ in range(max_new_tokens):
            logits = model(
                input_ids=ids, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True,
                logits_to_keep=1,
            ).logits  # fmt: skip
            chosen = logits[:, -1].float().argmax(-1)  # (B, 1, V) -> (B,)
            for row, token in zip(going, chosen.tolist(), strict=True):
                if token in ends:
                    ended.add(row)
                elif row not in ended:
                    found[row].append(token)
            left = [place for place, row in enumerate(going) if row not in ended]
            if not left:
                break
            ids, places = chosen[:, None], places[:, -1:] + 1  # (B, 1) both
            if len(left) <= (1 - SHARE) * len(going):
                kept = torch.tensor(left, device=ids.device)
                cache.batch_select_indices(kept)
                ids, places, mask = ids[kept], places[kept], mask[kept]
                going = [going[place] for place in left]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)  # (B, T + 1)
    return found
