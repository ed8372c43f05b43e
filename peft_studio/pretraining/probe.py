"""What is measured while a model is pre-trained: held-out loss, baselines and the copy probe.

The copy probe asks whether a model restates names that it has never seen. It is the ability that table-to-text tuning
needs, and it appears suddenly, long after the loss has become smooth. Encoders and encoder-decoders are measured by
how well they rebuild held-out text that was broken.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from peft_studio.pretraining.objectives import Objective
from peft_studio.tasks import small_world as world

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

Tokens = NDArray[np.uint16]
_CAPITALISED = re.compile(r"[A-Z][a-z]+")


@torch.no_grad()
def held_out_loss(model: "PreTrainedModel", rows: Tokens, batch: int = 16) -> float:
    """Mean loss in nats per token over rows ``(N, T + 1)``."""
    total, count = 0.0, 0
    for start in range(0, len(rows), batch):
        ids = torch.from_numpy(rows[start : start + batch].astype(np.int64))
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        total += F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum").item()
        count += ids[:, 1:].numel()
    return total / count


@torch.no_grad()
def _right(model: "PreTrainedModel", sequences: Sequence[Sequence[int]], batch: int = 16) -> list[list[bool]]:
    """For each sequence, whether the likeliest next token is the true one, from position 1 on."""
    found: list[list[bool]] = []
    for start in range(0, len(sequences), batch):
        part = sequences[start : start + batch]
        ids = torch.zeros(len(part), max(map(len, part)), dtype=torch.long)
        for row, sequence in enumerate(part):
            ids[row, : len(sequence)] = torch.tensor(sequence)
        hits = model(input_ids=ids, use_cache=False).logits[:, :-1].argmax(-1) == ids[:, 1:]
        found += [hits[row, : len(sequence) - 1].tolist() for row, sequence in enumerate(part)]
    return found


def restate_probe(model: "PreTrainedModel", tokenizer: "Tokenizer", lists: int = 60, seed: int = 1) -> float:
    """Share of lists of four unseen names that greedy decoding would restate exactly, 0 to 1.

    Greedy decoding gives the list exactly when every true token is the likeliest one, so one forward pass decides.
    """
    rng = random.Random(seed)
    sequences, starts = [], []
    for number in range(lists):
        make = (world.person, world.venue, world.town)[number % 3]
        names = ", ".join(make(rng, "validation") for _ in range(4))
        prompt = f"List of names: {names}. Again:"
        starts.append(len(tokenizer.encode(prompt).ids))
        sequences.append(tokenizer.encode(f"{prompt} {names}.").ids)
    hits = _right(model, sequences)
    return sum(all(row[start - 1 :]) for row, start in zip(hits, starts, strict=True)) / lists


def mention_probe(model: "PreTrainedModel", tokenizer: "Tokenizer", documents: Sequence[str]) -> dict[str, float]:
    """Next-token accuracy inside unseen names that a document has already mentioned.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        documents: Held-out small-world documents.

    Returns:
        ``all_pieces`` and ``later_pieces`` (without the first piece, where several names may be possible), 0 to 1.
    """
    encodings = [tokenizer.encode(text) for text in documents]
    hits = _right(model, [encoding.ids for encoding in encodings])
    tally: Counter[str] = Counter()
    for text, encoding, right in zip(documents, encodings, hits, strict=True):
        seen: set[str] = set()
        for match in _CAPITALISED.finditer(text):
            word = match[0]
            if word in seen:
                places = [at for at, (begin, end) in enumerate(encoding.offsets)
                          if begin >= match.start() and end <= match.end() and at > 0]  # fmt: skip
                for order, at in enumerate(places):
                    tally["all"] += 1
                    tally["all_right"] += right[at - 1]
                    tally["later"] += order > 0
                    tally["later_right"] += right[at - 1] and order > 0
            elif world.split_of(word) == "validation" and len(word) > 3:
                seen.add(word)
    return {
        "all_pieces": tally["all_right"] / max(1, tally["all"]),
        "later_pieces": tally["later_right"] / max(1, tally["later"]),
    }


class NGrams:
    """Unigram, and trigram with Witten-Bell interpolation down to bigram and unigram; add-one at the bottom."""

    def __init__(self, streams: Sequence[Tokens], vocab_size: int) -> None:
        stream = np.concatenate(streams).astype(np.int64)
        self.size = vocab_size
        self.unigram = (np.bincount(stream, minlength=vocab_size) + 1) / (len(stream) + vocab_size)
        pairs = stream[:-1] * vocab_size + stream[1:]
        self._two = np.unique(pairs, return_counts=True)
        self._three = np.unique(pairs[:-1] * vocab_size + stream[2:], return_counts=True)
        self._one_context = self._contexts(self._two)
        self._two_context = self._contexts(self._three)

    def _contexts(self, grams: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        contexts, first = np.unique(grams[0] // self.size, return_index=True)
        return contexts, np.add.reduceat(grams[1], first), np.diff(np.append(first, len(grams[0])))

    @staticmethod
    def _look(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, values[at], 0)

    def _mix(
        self, grams: tuple, contexts: tuple, context: np.ndarray, word: np.ndarray, lower: np.ndarray
    ) -> np.ndarray:
        count = self._look(grams[0], grams[1], context * self.size + word)
        total = self._look(contexts[0], contexts[1], context)
        kinds = self._look(contexts[0], contexts[2], context)
        return np.where(total > 0, (count + kinds * lower) / np.maximum(1, total + kinds), lower)

    def losses(self, rows: Tokens) -> dict[str, float]:
        """Mean loss in nats per token of rows ``(N, T + 1)``, predicting positions 1 to T like the model does."""
        ids = rows.astype(np.int64)
        word, before = ids[:, 1:], ids[:, :-1]
        one = self.unigram[word]
        two = self._mix(self._two, self._one_context, before, word, one)
        three = two.copy()
        pair = ids[:, :-2] * self.size + ids[:, 1:-1]
        three[:, 1:] = self._mix(self._three, self._two_context, pair, word[:, 1:], two[:, 1:])
        return {"unigram": float(-np.log(one).mean()), "trigram": float(-np.log(three).mean())}


def bits_per_byte(nats: float, rows: Tokens, tokenizer: "Tokenizer") -> float:
    """Converts nats per token to bits per byte of the text in rows ``(N, T + 1)``; the end mark has no bytes."""
    sizes = np.zeros(tokenizer.get_vocab_size(), dtype=np.int64)
    for piece, index in tokenizer.get_vocab().items():
        sizes[index] = 0 if piece.startswith("<") and piece.endswith(">") and len(piece) > 2 else len(piece)
    targets = rows[:, 1:]
    return nats * targets.size / sizes[targets].sum() / math.log(2)


@torch.no_grad()
def rebuild_figures(model: "PreTrainedModel", objective: Objective, rows: Tokens, batch: int = 20) -> dict[str, float]:
    """Loss of broken held-out rows, always broken in the same way.

    Args:
        model: In evaluation mode.
        objective: Breaks the rows.
        rows: ``(N, T + 1)``.
        batch: Rows at a time.

    Returns:
        ``held_out``: nats per predicted token.
    """
    rng = np.random.default_rng(1)
    losses, sizes = [], []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch].astype(np.int64)
        losses.append(float(objective.loss(model, objective.prepare(part, rng))))
        sizes.append(len(part))
    return {"held_out": float(np.average(losses, weights=sizes))}


def unigram_loss(streams: list[Tokens], rows: Tokens, objective: Objective, vocab: int) -> float:
    """Loss in nats of the same predictions by token frequencies alone, add-one smoothed."""
    counts = np.bincount(np.concatenate(streams).astype(np.int64), minlength=vocab) + 1
    surprise = -np.log(counts / counts.sum())
    targets = objective.prepare(rows.astype(np.int64), np.random.default_rng(1))["targets"].numpy()
    return float(surprise[targets].mean())
