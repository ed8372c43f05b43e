"""Rows of a task -> token ids -> padded batches. First stage of a training run, and of every evaluation.

Rows of similar length share a batch, so that little is padding; the order is a pure function of the seed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from peft_studio.errors import DataError, ModelError
from peft_studio.tasks.base import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Batch = dict[str, Any]
"""What a format makes of rows: tensors such as ``input_ids`` ``(B, T)``, and ``tokens``, how many are no padding."""
IGNORED = -100  # label of positions that do not count, as PyTorch's cross entropy knows it


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """One tokenized row.

    Attributes:
        ids: Prompt, target and end-of-text token.
        prompt_length: How many of ``ids`` are the prompt; the loss is taken on the others.
    """

    ids: list[int]
    prompt_length: int

    @property
    def targets(self) -> int:
        """Tokens that count for the loss."""
        return len(self.ids) - self.prompt_length


@dataclass(frozen=True)
class EncodedRows:
    """Tokenized rows, with what had to be given up.

    Attributes:
        examples: The usable rows, in order.
        cut: Rows whose prompt was shortened on the left.
        dropped: Rows whose target alone does not fit.
    """

    examples: list[EncodedExample]
    cut: int
    dropped: int

    def checked(self, why: str) -> "EncodedRows":
        """These rows, or the reason why there are none.

        Raises:
            DataError: No row can be used.
        """
        if not self.examples:
            raise DataError(f"None of the {self.dropped} rows can be used: {why}.")
        return self


def require_rows(rows: Sequence[Row]) -> None:
    """Refuses a task without rows.

    Raises:
        DataError: There are none.
    """
    if not rows:
        raise DataError("The task has no rows.")


def end_of_text(tokenizer: "PreTrainedTokenizerBase") -> int:
    """The id of the token that ends an answer.

    Raises:
        ModelError: The tokenizer has none.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError("The model's tokenizer has no end-of-text token, so the end of an answer cannot be learnt.")
    return int(tokenizer.eos_token_id)


def shortest_needs(tokens: Iterable[int], max_length: int) -> str:
    """Why no row fits: how long they are at least, and how long they may be."""
    return f"the shortest needs {min(tokens, default=0)} tokens, and at most {max_length} are allowed"


def encode_prompts(prompts: Sequence[str], tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
    """Tokenizes prompts as the model expects a text to begin, never with an end-of-text token behind them.

    Returns:
        Ids of each prompt; at least one each, because a model needs something to continue.
    """
    eos, bos = tokenizer.eos_token_id, tokenizer.bos_token_id
    start = bos if bos is not None else eos
    encoded = tokenizer(list(prompts), verbose=False)["input_ids"]
    trimmed = [ids[:-1] if len(ids) > 1 and ids[-1] == eos else ids for ids in encoded]
    return [ids or [start] for ids in trimmed]


def encode_rows(rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase", max_length: int) -> EncodedRows:
    """Tokenizes rows for training or for a loss.

    Prompt and target are tokenized apart, so that the boundary is the same as in generation.

    Args:
        rows: The rows.
        tokenizer: The base model's.
        max_length: Longest row in tokens, end-of-text included; longer prompts are cut on the left.

    Raises:
        ModelError: The tokenizer has no end-of-text token.
        DataError: No row can be used.
    """
    eos = end_of_text(tokenizer)
    require_rows(rows)
    prompts = encode_prompts([row.prompt for row in rows], tokenizer)
    # Without special tokens: a beginning-of-text token must not stand in the middle of prompt and target.
    targets = tokenizer([row.target for row in rows], add_special_tokens=False, verbose=False)["input_ids"]
    examples, cut, dropped = [], 0, 0
    for prompt, target in zip(prompts, targets, strict=True):
        room = max_length - len(target) - 1  # for the prompt, beside the end-of-text token
        if room < 1 or not target:
            dropped += 1
            continue
        cut += len(prompt) > room
        kept = prompt[-room:]  # what stands just before the answer matters most
        examples.append(EncodedExample([*kept, *target, eos], len(kept)))
    # One token more on either side: the end, and a prompt of at least one.
    why = shortest_needs((len(target) + 2 for target in targets), max_length)
    return EncodedRows(examples, cut, dropped).checked(why)


def collate(examples: Sequence[EncodedExample], pad_id: int) -> Batch:
    """Pads examples on the right to the longest of them.

    Returns:
        ``input_ids`` and ``labels``, both ``(B, T)`` int64, labels being ``IGNORED`` on prompt and padding; and
        ``tokens``, how many of the positions are not padding.
    """
    # A label is the token at its own position; who computes a loss compares it with the logits one position before.
    labels = [[IGNORED] * example.prompt_length + example.ids[example.prompt_length :] for example in examples]
    return {
        "input_ids": pad_rows([example.ids for example in examples], pad_id)[0],  # (B, T)
        "labels": pad_rows(labels, IGNORED)[0],  # (B, T)
        "tokens": sum(len(example.ids) for example in examples),
    }


def pad_rows(rows: Sequence[Sequence[int]], padding: int, left: bool = False) -> tuple[Tensor, Tensor]:
    """Pads rows to the longest, on the right or on the left.

    Returns:
        The rows, and a mask of what is no padding: both ``(B, T)`` int64.
    """
    width = max(map(len, rows))  # T
    ids, mask = [], []
    for row in rows:
        fill = width - len(row)
        ids.append([padding] * fill + [*row] if left else [*row] + [padding] * fill)
        mask.append([0] * fill + [1] * len(row) if left else [1] * len(row) + [0] * fill)
    return torch.tensor(ids), torch.tensor(mask)  # (B, T), (B, T)


def batches_by_length(examples: Sequence[EncodedExample], max_tokens: int = 4096) -> list[list[EncodedExample]]:
    """Groups all examples for an evaluation: sorted by length, at most ``max_tokens`` padded positions a batch."""
    batches: list[list[EncodedExample]] = []
    for example in sorted(examples, key=lambda example: len(example.ids)):
        if not batches or (len(batches[-1]) + 1) * len(example.ids) > max_tokens:
            batches.append([])
        batches[-1].append(example)
    return batches
