"""The three ways in which a row meets a model: text that is continued, a source with a target, a text with a label.

A format encodes rows, pads batches, and gives logits and loss. Training, evaluation and the self-check ask it; nothing
else knows what kind of model is being trained.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from peft_studio.errors import DataError
from peft_studio.models.layouts import Layout
from peft_studio.tasks.base import Row
from peft_studio.tasks.chats import exchanges
from peft_studio.training import Model
from peft_studio.training.formats import rows as data
from peft_studio.training.formats import target_logits as loss
from peft_studio.training.formats.greedy import Answers, cut_right, greedy_answers, pad_id
from peft_studio.training.formats.rows import IGNORED, Batch, EncodedExample, EncodedRows, batches_by_length, pad_rows
from peft_studio.training.formats.seam import seam_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


ANSWER_ROWS = 64  # texts that are labelled together
EVALUATION_TOKENS = 4096  # of an evaluation's batch, padding included
LOGIT_BYTES = 256_000_000  # logits in float32 that an evaluation makes at one time


class Format(ABC):
    """How rows are fed to one kind of model.

    Args:
        tokenizer: The base model's.
    """

    classifies = False

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.tokenizer = tokenizer
        self.padding = pad_id(tokenizer)

    @abstractmethod
    def encode(self, rows: Sequence[Row], max_length: int) -> EncodedRows:
        """Tokenizes rows.

        Raises:
            DataError: No row can be used.
            ModelError: The tokenizer lacks what the format needs.
        """

    @abstractmethod
    def collate(self, examples: Sequence[EncodedExample]) -> Batch:
        """Pads examples to the longest of them: tensors, and ``tokens``, how many positions are no padding."""

    def answers(
        self, model: Model, rows: Sequence[Row], max_new_tokens: int, should_stop: Callable[[], bool]
    ) -> Answers | None:
        """What a model answers, greedily: one text or label for each row; None when stopped."""
        return greedy_answers(model, self.tokenizer, rows, max_new_tokens, should_stop)

    @abstractmethod
    def logits(self, model: Model, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits ``(N, C)`` of everything that is to be predicted in a batch, and the ``N`` right answers."""

    def loss(self, model: Model, batch: Batch, reduction: str = "mean") -> Tensor:
        """Cross entropy of what is to be predicted, in nats: a scalar."""
        logits, targets = self.logits(model, batch)  # (N, C), (N,)
        # In float32 whatever the model computes in: a softmax over thousands of values loses too much in 16 bits.
        return F.cross_entropy(logits.float(), targets, reduction=reduction)

    def inputs(self, examples: Sequence[EncodedExample]) -> dict[str, Tensor]:
        """A batch as the model's own ``forward`` takes it, for methods that look at data before they start."""
        return {name: part for name, part in self.collate(examples).items() if isinstance(part, Tensor)}


class Continuation(Format):
    """Prompt and target as one text, for decoders."""

    def encode(self, rows: Sequence[Row], max_length: int) -> EncodedRows:
        """See ``data.encode_rows``."""
        return data.encode_rows(rows, self.tokenizer, max_length)

    def collate(self, examples: Sequence[EncodedExample]) -> Batch:
        """``input_ids`` and ``labels``, both ``(B, T)``."""
        return data.collate(examples, self.padding)

    def logits(self, model: Model, batch: Batch) -> tuple[Tensor, Tensor]:
        """See ``loss.target_logits``."""
        return loss.target_logits(model, batch["input_ids"], batch["labels"])


class SourceTarget(Format):
    """Prompt for the encoder, target for the decoder."""

    def encode(self, rows: Sequence[Row], max_length: int) -> EncodedRows:
        """Tokenizes prompts and targets as two texts of at most ``max_length`` tokens each.

        Longer prompts are cut on the right, where summaries miss them least; rows whose target is too long or empty
        are dropped. A chat gives one example for each of the assistant's turns.
        """
        data.require_rows(rows)
        eos, seam = data.end_of_text(self.tokenizer), seam_of(self.tokenizer)
        pairs = [pair for row in rows for pair in exchanges(row)]
        sources = seam.whole([prompt for prompt, _ in pairs])
        texts, altered = seam.targets([target for _, target in pairs])
        targets = [ids if ids and ids[-1] == eos else [*ids, eos] for ids in texts]
        examples, cut, dropped = [], 0, 0
        for (_, text), source, target in zip(pairs, sources, targets, strict=True):
            if not source or not text or len(target) > max_length:
                dropped += 1
                continue
            cut += len(source) > max_length
            examples.append(EncodedExample(cut_right(source, max_length) + target, min(len(source), max_length)))
        why = "of the targets, " + data.shortest_needs(map(len, targets), max_length)
        return EncodedRows(examples, cut, dropped, altered).checked(why)

    def collate(self, examples: Sequence[EncodedExample]) -> Batch:
        """``input_ids`` and ``attention_mask`` ``(B, S)``, ``labels`` ``(B, T)``."""
        sources = [example.ids[: example.prompt_length] for example in examples]
        targets = [example.ids[example.prompt_length :] for example in examples]
        ids, mask = pad_rows(sources, self.padding)  # (B, S)
        labels, _ = pad_rows(targets, IGNORED)  # (B, T)
        tokens = sum(len(example.ids) for example in examples)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels, "tokens": tokens}

    def logits(self, model: Model, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits ``(N, V)`` at the target's positions."""
        labels = batch["labels"]  # (B, T)
        # The decoder reads the target shifted right by one, so position t predicts label t: no shift further down.
        given = loss.base_of(model).prepare_decoder_input_ids_from_labels(labels=labels)  # (B, T)
        output = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            decoder_input_ids=given,
            use_cache=loss.has_prefix(model),  # prefixes live in the cache
        )
        wanted = labels != IGNORED  # (B, T)
        # Virtual tokens in front of the decoder's input, (B, P + T, V), predict nothing that is asked for.
        return output.logits[:, -labels.shape[1] :][wanted], labels[wanted]  # (N, V), (N,)


class Labelling(Format):
    """A text with one of several labels, for models with a classification head.

    Args:
        tokenizer: The base model's.
        labels: Class names, in the order of the head's outputs.
        by_last_token: Whether the class is read off the last token, as decoders do.
    """

    classifies = True

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", labels: Sequence[str], by_last_token: bool) -> None:
        super().__init__(tokenizer)
        self.labels = tuple(labels)
        self.by_last_token = by_last_token

    def encode(self, rows: Sequence[Row], max_length: int) -> EncodedRows:
        """Tokenizes texts as the model expects them; longer ones are cut on the right.

        ``prompt_length`` of an example is its whole text, and its last id the class number.
        """
        data.require_rows(rows)
        texts = seam_of(self.tokenizer).whole([row.prompt for row in rows])
        numbers = {label: number for number, label in enumerate(self.labels)}
        examples, cut = [], 0
        for row, text in zip(rows, texts, strict=True):
            if row.target not in numbers:
                raise DataError(f"The label {row.target!r} is not one of {', '.join(self.labels)}.")
            if text:
                cut += len(text) > max_length
                kept = cut_right(text, max_length)
                examples.append(EncodedExample([*kept, numbers[row.target]], len(kept)))
        return EncodedRows(examples, cut, len(rows) - len(examples)).checked("all texts are empty")

    def collate(self, examples: Sequence[EncodedExample]) -> Batch:
        """``input_ids`` and ``attention_mask`` ``(B, T)``, ``labels`` ``(B,)``."""
        ids, mask = pad_rows([example.ids[:-1] for example in examples], self.padding)  # (B, T)
        labels = torch.tensor([example.ids[-1] for example in examples])  # (B,)
        tokens = sum(example.prompt_length for example in examples)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels, "tokens": tokens}

    def logits(self, model: Model, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits ``(B, C)`` of the classes."""
        return self.class_logits(model, batch), batch["labels"]

    def class_logits(self, model: Model, batch: Batch) -> Tensor:
        """Logits ``(B, C)`` of ``input_ids`` with their ``attention_mask``.

        A decoder's are those at the last real token. transformers looks for it by the padding token, which may also
        stand in the text, and not at all behind virtual tokens; so the head's output is taken where it is made.
        """
        given = {name: batch[name] for name in ("input_ids", "attention_mask")}
        if not self.by_last_token:
            return model(**given).logits  # (B, C)
        made: list[Tensor] = []
        hook = loss.base_of(model).score.register_forward_hook(lambda _module, _inputs, output: made.append(output))
        try:
            model(**given)
        finally:
            hook.remove()
        last = batch["attention_mask"].sum(1) - 1 + loss.virtual_positions(model)  # (B,)
        return made[0][torch.arange(len(last), device=last.device), last]  # (B, P + T, C) -> (B, C)

    def probabilities(self, model: Model, texts: Sequence[str]) -> Tensor:
        """Probabilities ``(B, C)`` of each text's classes."""
        room = max(1, loss.context_of(model.config) - loss.virtual_tokens(model))
        rows = [cut_right(ids, room) for ids in seam_of(self.tokenizer).whole(texts)]
        ids, mask = pad_rows([row or [self.padding] for row in rows], self.padding)  # (B, T); an empty text has one
        device = next(model.parameters()).device
        batch = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        with torch.inference_mode():
            logits = self.class_logits(model, batch)  # (B, C)
        return logits.float().softmax(-1).cpu()

    def answers(
        self, model: Model, rows: Sequence[Row], max_new_tokens: int, should_stop: Callable[[], bool]
    ) -> Answers | None:
        """The likeliest label of each row."""
        found = Answers([""] * len(rows))
        order = sorted(range(len(rows)), key=lambda number: len(rows[number].prompt))
        for start in range(0, len(order), ANSWER_ROWS):
            if should_stop():
                return None
            batch = order[start : start + ANSWER_ROWS]
            chosen = self.probabilities(model, [rows[number].prompt for number in batch]).argmax(-1)
            for number, label in zip(batch, chosen.tolist(), strict=True):
                found[number] = self.labels[label]
        return found


def evaluation_tokens(vocabulary: int) -> int:
    """Padded tokens of an evaluation's batch: fewer for a model whose vocabulary is large, because of the logits."""
    return min(EVALUATION_TOKENS, max(512, LOGIT_BYTES // (4 * max(1, vocabulary))))


def evaluation_batches(examples: Sequence[EncodedExample], form: Format, vocabulary: int = 0) -> list[Batch]:
    """Collates all examples once, so that repeated evaluations only run the model.

    ``vocabulary`` says how many tokens the model's logits tell apart; 0 without such.
    """
    return [form.collate(batch) for batch in batches_by_length(examples, evaluation_tokens(vocabulary))]


def format_for(layout: Layout, tokenizer: "PreTrainedTokenizerBase", labels: Sequence[str] = ()) -> Format:
    """The format of a model; ``labels`` are the class names of a classification task."""
    if layout.purpose == "classification":
        return Labelling(tokenizer, labels, layout.kind == "decoder")
    return SourceTarget(tokenizer) if layout.kind == "encoder-decoder" else Continuation(tokenizer)
