"""Rows of a task -> token ids -> padded batches. First stage of a training run, and of every evaluation.

Rows of similar length share a batch, so that little is padding; the order is a pure function of the seed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from peft_studio.errors import DataError, ModelError
from peft_studio.tasks.base import Chat, Row
from peft_studio.training.formats.chats import Span, encode_chat, prompt_ids_of
from peft_studio.training.formats.seam import seam_of

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
        unscored: Parts of the others that carry no loss, such as what a user says between two answers.
    """

    ids: list[int]
    prompt_length: int
    unscored: tuple[tuple[int, int], ...] = ()

    @property
    def targets(self) -> int:
        """Tokens that count for the loss."""
        return len(self.ids) - self.prompt_length - sum(end - start for start, end in self.unscored)

    @property
    def labels(self) -> list[int]:
        """The token at each position that counts for the loss, ``IGNORED`` at the others."""
        labels = [IGNORED] * self.prompt_length + self.ids[self.prompt_length :]
        for start, end in self.unscored:
            labels[start:end] = [IGNORED] * (end - start)
        return labels


@dataclass(frozen=True)
class EncodedRows:
    """Tokenized rows, with what had to be given up.

    Attributes:
        examples: The usable rows, in order.
        cut: Rows whose prompt was shortened on the left.
        dropped: Rows whose target alone does not fit.
        altered: Rows whose target this tokenizer cannot write as it stands, such as line breaks that it knows not.
    """

    examples: list[EncodedExample]
    cut: int
    dropped: int
    altered: int = 0

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


def encode_prompts(prompts: Sequence[str | Row], tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
    """Tokenizes prompts as the model expects a text to begin, never with an end-of-text token behind them.

    Args:
        prompts: Texts, or rows, of which chats go by the model's chat template.
        tokenizer: The base model's.

    Returns:
        Ids of each prompt; at least one each, because a model needs something to continue.

    Raises:
        DataError: The model's chat template does not take a conversation.
    """
    eos, bos = tokenizer.eos_token_id, tokenizer.bos_token_id
    start = bos if bos is not None else eos
    plain = iter(seam_of(tokenizer).prompts([text_of(prompt) for prompt in prompts if not _chat_of(prompt)]))
    encoded = [
        prompt_ids_of(tokenizer, chat.turns[:-1]) if (chat := _chat_of(prompt)) else next(plain) for prompt in prompts
    ]
    return [ids or [start] for ids in encoded]


def text_of(prompt: str | Row) -> str:
    """A prompt, or that of a row."""
    return prompt if isinstance(prompt, str) else prompt.prompt


def _chat_of(prompt: str | Row) -> Chat | None:
    return None if isinstance(prompt, str) else prompt.chat


def encode_rows(rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase", max_length: int) -> EncodedRows:
    """Tokenizes rows for training or for a loss.

    A prompt's tokens are those of the prompt alone, so that the boundary is the same as in generation, and the answer
    is written so that both together read back as they stand; see ``seam``.

    Args:
        rows: The rows.
        tokenizer: The base model's.
        max_length: Longest row in tokens, end-of-text included; longer prompts are cut on the left.

    Raises:
        ModelError: The tokenizer has no end-of-text token.
        DataError: No row can be used.
    """
    end_of_text(tokenizer)
    require_rows(rows)
    whole, altered = _encode_whole(rows, tokenizer)
    examples, cut, dropped = [], 0, 0
    for row, (ids, spans) in zip(rows, whole, strict=True):
        lost = max(0, len(ids) - max_length)  # from the left: what stands just before the answer matters most
        least = 1 - lost if row.chat and row.chat.all_turns else 1
        left = [(max(1, start - lost), end - lost) for start, end in spans if start - lost >= least]
        if not left or spans[-1][1] - spans[-1][0] < 2:  # an answer of nothing but its end
            dropped += 1
            continue
        cut += lost > 0
        gaps = tuple((one[1], two[0]) for one, two in pairwise(left))
        examples.append(EncodedExample(ids[lost:], left[0][0], gaps))
    # One token more: a prompt of at least one.
    why = shortest_needs((spans[-1][1] - spans[-1][0] + 1 for _, spans in whole), max_length)
    return EncodedRows(examples, cut, dropped, altered).checked(why)


def _encode_whole(
    rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase"
) -> tuple[list[tuple[list[int], list[Span]]], int]:
    """All ids of each row, with the spans that the loss is taken on; and how many answers read otherwise."""
    seam, eos = seam_of(tokenizer), tokenizer.eos_token_id
    plain = [row for row in rows if not row.chat]
    prompts = encode_prompts(plain, tokenizer)
    targets, altered = seam.answers([row.prompt for row in plain], prompts, [row.target for row in plain])
    pairs = iter(zip(prompts, targets, strict=True))
    found = []
    for row in rows:
        if row.chat:
            found.append(encode_chat(row.chat, tokenizer))
            continue
        prompt, target = next(pairs)
        ended = target if target[-1:] == [eos] else [*target, eos]
        found.append(([*prompt, *ended], [(len(prompt), len(prompt) + len(ended))]))
    return found, altered


def dropped_notes(train: EncodedRows, validation: EncodedRows, max_length: int) -> list[str]:
    """Sentences on rows that were left out since their answer does not fit; none where all fit."""
    return [
        f"{found.dropped:,} of {found.dropped + len(found.examples):,} {split} rows do not fit {max_length:,} tokens "
        "and are left out."
        for split, found in (("training", train), ("validation", validation))
        if found.dropped
    ]


def without_marks(rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase") -> list[Row]:
    """Rows as answers are compared with them: an end-of-text mark that the data brings is never part of an answer."""
    mark = tokenizer.eos_token or ""

    def plain(text: str) -> str:
        return text.rstrip().removesuffix(mark) if mark and text.rstrip().endswith(mark) else text

    return [replace(row, target=plain(row.target), references=tuple(map(plain, row.references))) for row in rows]


def collate(examples: Sequence[EncodedExample], pad_id: int) -> Batch:
    """Pads examples on the right to the longest of them.

    Returns:
        ``input_ids`` and ``labels``, both ``(B, T)`` int64, labels being ``IGNORED`` on prompt and padding; and
        ``tokens``, how many of the positions are not padding.
    """
    # A label is the token at its own position; who computes a loss compares it with the logits one position before.
    labels = [example.labels for example in examples]
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
