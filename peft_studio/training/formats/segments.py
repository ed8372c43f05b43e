"""The text of single tokens, as they stand in a row."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def token_text(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], start: int, end: int) -> str:
    """What some tokens add to the one before them, which decides whether they begin with a space."""
    before = tokenizer.decode(ids[start - 1 : start]) if start else ""
    both = tokenizer.decode(ids[max(start - 1, 0) : end])
    return both[len(before) :] if both.startswith(before) else tokenizer.decode(ids[start:end])
