"""Greedy answers to many prompts at once, exactly as each prompt alone would be answered."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, takewhile
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from peft_studio.tasks.base import Row
from peft_studio.training import Model
from peft_studio.training.formats.ends import end_ids
from peft_studio.training.formats.rows import encode_prompts, pad_rows, text_of
from peft_studio.training.formats.seam import completion_text, seam_of
from peft_studio.training.formats.shrinking import can_shrink, decode_shrinking
from peft_studio.training.formats.target_logits import context_of, virtual_tokens

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

BATCH_ROWS = 150  # rows decoded together: a step costs hardly more than one row's
CACHE_BYTES = 400_000_000  # keys and values that are kept at one time; a large model decodes fewer rows together
FEWEST_ROWS = 8
DECODING = {
    "do_sample": False,
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "early_stopping": False,
    "length_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0,
    "num_return_sequences": 1,
    "use_cache": True,
    **dict.fromkeys(
        (
            "assistant_early_exit", "bad_words_ids", "begin_suppress_tokens", "cache_implementation", "constraints",
            "dola_layers", "exponential_decay_length_penalty", "force_words_ids", "forced_eos_token_id",
            "guidance_scale", "max_time", "min_new_tokens", "penalty_alpha", "prompt_lookup_num_tokens",
            "sequence_bias", "stop_strings", "suppress_tokens", "watermarking_config",
        )
    ),
    **dict.fromkeys(
        (
            "output_attentions", "output_hidden_states", "output_logits", "output_scores", "remove_invalid_values",
            "renormalize_logits", "return_dict_in_generate", "token_healing",
        ),
        False,
    ),
}  # fmt: skip
"""Plain greedy decoding, whatever a model's own generation settings say beside the tokens that end a text."""


class Answers(list[str]):
    """Texts that a model has written, one for each prompt.

    Attributes:
        cut: How many of them were still going on when they had as many tokens as were allowed.
    """

    cut = 0


def pad_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Token for padding; any will do, because padding is never looked at."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0)


def room_for(model: Model, prompt_tokens: int) -> int:
    """Tokens that fit into the model's context after a prompt and the method's virtual tokens."""
    return context_of(model.config) - virtual_tokens(model) - prompt_tokens


def greedy_answers(
    model: Model,
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str | Row],
    max_new_tokens: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> Answers | None:
    """Answers prompts, or those of rows, greedily, by a model in evaluation mode.

    ``should_stop`` is asked before every batch. Prompts longer than the context less ``max_new_tokens`` are cut on the
    left. An answer ends with any of the tokens of ``ends.end_ids``.

    Returns:
        One answer for each prompt, in order; None when stopped.
    """
    writes_apart = is_encoder_decoder(model)
    encoded = prompt_ids(model, tokenizer, prompts, max_new_tokens)
    answers, ends = Answers([""] * len(prompts)), end_ids(model, tokenizer)
    # Padding would stand between a decoder's virtual tokens and the text, where it shifts positions.
    equal, each = virtual_tokens(model) > 0 and not writes_apart, cache_bytes(model.config)
    for rows in _groups(encoded, equal, lambda length: rows_together(each, length + max_new_tokens)):
        if should_stop():
            return None
        batch = [encoded[row] for row in rows]
        tokens = _decode_batch(model, tokenizer, batch, max_new_tokens, ends)
        for row, new in zip(rows, tokens, strict=True):
            answers.cut += len(new) == max_new_tokens  # no end among them, which is not kept
            answers[row] = completion_text(tokenizer, [] if writes_apart else encoded[row], new)
    return answers


def is_encoder_decoder(model: Model) -> bool:
    """Whether the model reads with an encoder and writes with a decoder of its own."""
    return bool(getattr(model.config, "is_encoder_decoder", False))


def prompt_ids(
    model: Model, tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str | Row], max_new_tokens: int
) -> list[list[int]]:
    """Token ids of prompts as the model reads them, cut to what it can: on the left, or an encoder's on the right."""
    if not is_encoder_decoder(model):
        room = max(1, room_for(model, max_new_tokens))
        return [ids[-room:] for ids in encode_prompts(prompts, tokenizer)]
    room = max(2, room_for(model, 0))
    return [cut_right(ids, room) for ids in seam_of(tokenizer).whole([text_of(prompt) for prompt in prompts])]


def cut_right(ids: list[int], length: int) -> list[int]:
    """The first ids, with the text's own last one (an end mark) kept."""
    return ids if len(ids) <= length else [*ids[: length - 1], ids[-1]]


def cache_bytes(config: "PretrainedConfig") -> int:
    """Bytes of keys and values that a model keeps for each token while it writes, in float32."""
    config = getattr(config, "get_text_config", lambda: config)()
    heads = next((found for name in _HEADS if (found := getattr(config, name, None))), 1)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers = getattr(config, "decoder_layers", None) or getattr(config, "num_decoder_layers", None)
    sides = 4 if getattr(config, "is_encoder_decoder", False) else 2  # the source's keys and values, too
    return int(4 * sides * heads * width * (layers or config.num_hidden_layers))


_HEADS = ("num_key_value_heads", "decoder_attention_heads", "num_attention_heads")


def rows_together(token_bytes: int, length: int) -> int:
    """How many rows are decoded together, from ``cache_bytes`` and the tokens of the longest, answer included."""
    return max(FEWEST_ROWS, min(BATCH_ROWS, CACHE_BYTES // max(1, token_bytes * length)))


def _groups(
    encoded: Sequence[Sequence[int]], equal_lengths: bool, together: Callable[[int], int]
) -> Iterator[list[int]]:
    order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]))  # similar lengths need little padding
    runs = groupby(order, key=lambda row: len(encoded[row])) if equal_lengths else [(0, iter(order))]
    for _, rows in runs:
        batch = list(rows)
        size = together(len(encoded[batch[-1]]))
        for start in range(0, len(batch), size):
            yield batch[start : start + size]


def _decode_batch(
    model: Model,
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    ends: Sequence[int],
) -> list[list[int]]:
    writes_apart, padding = is_encoder_decoder(model), pad_id(tokenizer)
    # A decoder goes on at the right end of every row, so its padding stands on the left.
    ids, mask = pad_rows(prompts, padding, left=not writes_apart)  # (B, T)
    if can_shrink(model):
        return decode_shrinking(model, ids, mask, max_new_tokens, list(ends))
    with torch.inference_mode():
        output: Tensor = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=max_new_tokens,
            eos_token_id=list(ends) or None,
            pad_token_id=padding,
            **DECODING,
        )
    given = 1 if writes_apart else ids.shape[1]  # the decoder's start, or the prompt
    return [_until(row, ends) for row in output[:, given:].tolist()]  # (B, given + new tokens) -> rows of new ones


def _until(tokens: list[int], ends: Sequence[int]) -> list[int]:
    return list(takewhile(lambda token: token not in ends, tokens))
