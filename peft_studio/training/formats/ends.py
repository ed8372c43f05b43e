"""Where an answer ends: the tokens with which a model, its tokenizer or its chat template ends a text.

A tokenizer knows one of them. Models that were tuned to talk end a turn with another, and say so in their generation
settings, or only in their chat template.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from peft_studio.training import Model
from peft_studio.training.formats.target_logits import base_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

ANSWER = "An answer, and then?"  # no template has this of its own


def end_ids(model: Model, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """All tokens that end an answer, the tokenizer's first; empty when there are none.

    Args:
        model: A model that writes, with or without an adapter.
        tokenizer: The base model's.
    """
    base = base_of(model)
    told = [*_ids(getattr(base, "generation_config", None)), *_ids(base.config), *_ends_of_turn(tokenizer)]
    known = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    # Where a config says nothing, its class does: a number that stands for a word of this tokenizer as well as not.
    by_default = set(_ids(type(base.config)()))
    ends = [*_ids(tokenizer), *(number for number in told if number in known or number not in by_default)]
    return list(dict.fromkeys(ends))


def _ids(holder: "PreTrainedTokenizerBase | PretrainedConfig | object") -> list[int]:
    """What somebody calls ``eos_token_id``: nothing, a number, or several."""
    found = getattr(holder, "eos_token_id", None)
    several = found if isinstance(found, list | tuple) else [found]
    return [number for number in several if type(number) is int and number >= 0]


def _ends_of_turn(tokenizer: "PreTrainedTokenizerBase") -> Iterator[int]:
    """The token that a chat template writes behind an answer, if it is a single one."""
    if not tokenizer.chat_template:
        return
    turns = [{"role": "user", "content": "A question?"}, {"role": "assistant", "content": ANSWER}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except Exception:  # whatever a template that anybody may have written raises: then it tells of no end
        return
    behind = text.rpartition(ANSWER)[2].lstrip()
    tokens = {str(token): number for number, token in tokenizer.added_tokens_decoder.items()}
    if found := max((token for token in tokens if behind.startswith(token)), key=len, default=""):
        yield tokens[found]
