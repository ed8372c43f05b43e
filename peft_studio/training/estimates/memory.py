"""What a worker needs in memory at its peak, told before it starts, as lines that add up.

A run has phases: training, validation, the check of the saved adapter on a second base model, and answering the test
rows. What is there in all of them (libraries, weights) and what training holds have lines of their own; ``evaluation``
is what another phase needs beyond that, and usually nothing. ``tests/benchmarks/bench_memory.py`` sets the sum beside
what real workers needed.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from peft_studio.config.sections import TrainingConfig
from peft_studio.models.fit import RUNTIME_BYTES
from peft_studio.models.layouts import Layout
from peft_studio.training.fast.compare import ROWS
from peft_studio.training.fast.kernels import HEAD_BYTES, SHORT
from peft_studio.training.fast.llama import MEMORY_BYTES
from peft_studio.training.formats.formats import ANSWER_ROWS, evaluation_tokens
from peft_studio.training.formats.greedy import cache_bytes, rows_together

if TYPE_CHECKING:
    from transformers import PretrainedConfig

BYTES = 4  # float32
STATES = {"adamw": 2, "adafactor": 0, "sgd": 0}  # numbers that an optimizer keeps for each trained one, about
KERNEL_BYTES = 80_000_000  # code that oneDNN makes for products with 16 bits; jobs.warm_client bounds its number
SLACK = 1.15  # what the allocator takes for a byte that is asked for, when sizes change from batch to batch


@dataclass(frozen=True)
class RowLengths:
    """Tokens of a row.

    Attributes:
        prompt: Of a typical prompt.
        answer: Of a typical answer.
        long: Of a row as the longest batches have them, prompt and answer together.
        long_answer: Of such a row's answer.
    """

    prompt: int
    answer: int
    long: int
    long_answer: int

    def within(self, limit: int) -> "RowLengths":
        """The same with rows cut to a length."""
        answer, long_answer = min(self.answer, limit), min(self.long_answer, limit)
        return RowLengths(min(self.prompt, limit - answer), answer, min(self.long, limit), long_answer)


@dataclass(frozen=True)
class Weights:
    """Bytes and blocks of a model with its method.

    Attributes:
        held: All that is in memory: parameters, and fixed numbers that the method keeps beside them.
        base: The model without the method.
        copies: Copies of frozen matrices with 16 bits, that bf16 makes.
        trainable: Parameters that train; a count.
        blocks: Blocks that the backward pass goes through.
        fast: Whether training takes our own forward pass, if blocks keep what they have computed.
        frozen_head: Whether the vocabulary projection is a plain one that does not train, in that pass.
        remembered: Rows of which is kept what frozen lower blocks give, because they come again; usually 0.
    """

    held: int
    base: int
    copies: int
    trainable: int
    blocks: int
    fast: bool
    frozen_head: bool
    remembered: int = 0


@dataclass(frozen=True)
class Widths:
    """Sizes of a transformer's vectors.

    Attributes:
        hidden: Of a token between blocks.
        keys: Of its keys.
        inner: Of the feed-forward network.
        heads: Attention heads.
        vocabulary: Logits of a position; 0 for a classifier.
        writers: Blocks that see the answer only, in a decoder behind an encoder.
    """

    hidden: int
    keys: int
    inner: int
    heads: int
    vocabulary: int
    writers: int = 0

    @classmethod
    def of(cls, config: "PretrainedConfig", layout: Layout) -> "Widths":
        """Reads them off a transformers config."""
        hidden, heads = config.hidden_size, config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or hidden // heads
        keys = (getattr(config, "num_key_value_heads", None) or heads) * head_dim
        sizes = (getattr(config, name, None) for name in ("intermediate_size", "ffn_dim", "d_ff", "encoder_ffn_dim"))
        inner = next((size for size in sizes if size), 4 * hidden)
        writers = getattr(config, "decoder_layers", None) or getattr(config, "num_decoder_layers", None) or 0
        vocabulary = config.vocab_size if layout.purpose == "generation" else 0
        return cls(hidden, keys, inner, heads, vocabulary, writers if layout.kind == "encoder-decoder" else 0)

    @property
    def passing(self) -> int:
        """Numbers for each token in a block that keeps nothing: its input and output, and what is wider between."""
        return 2 * self.hidden + max(2 * self.hidden + 2 * self.keys, 3 * self.inner)

    def block(self, length: int) -> int:
        """Numbers that a block keeps for each token of a row of this length."""
        return 10 * self.hidden + 2 * self.keys + 4 * self.inner + 2 * self.heads * length


def memory_by_purpose(
    weights: Weights,
    config: "PretrainedConfig",
    layout: Layout,
    training: TrainingConfig,
    rows: RowLengths,
    on_gpu: bool = False,
) -> dict[str, int]:
    """Bytes of each line, by its name.

    Args:
        weights: Of the model with its method.
        config: The model's transformers config.
        layout: The model's.
        training: The run's settings.
        rows: Lengths of its rows.
        on_gpu: Whether the model is on a GPU, where the libraries take next to nothing.
    """
    widths = Widths.of(config, layout)
    bf16 = training.precision == "bf16"
    gradients = weights.trainable * BYTES
    optimizer = weights.trainable * BYTES * STATES[training.optimizer]
    copies = weights.copies if bf16 else 0
    activations = int(SLACK * activation_bytes(widths, weights, training, rows))
    others = (
        optimizer + int(SLACK * validation_bytes(widths, training, rows)),
        weights.base - copies,  # a second base model, when the 16-bit copies have gone
        int(SLACK * answer_bytes(config, widths, training, rows)) - copies,
        check_bytes(widths, weights, training, rows),
    )
    return {
        "runtime": 0 if on_gpu else RUNTIME_BYTES + (KERNEL_BYTES if bf16 else 0),
        "weights": weights.held + copies,
        "gradients": gradients,
        "optimizer": optimizer,
        "activations": activations,
        "evaluation": max(0, max(others) - gradients - optimizer - activations),
    }


def activation_bytes(widths: Widths, weights: Weights, training: TrainingConfig, rows: RowLengths) -> int:
    """What the forward pass keeps for the backward pass, in the longest batches.

    Per token and block: ``10 d + 2 k + 4 f`` numbers (norms, projections, residuals of width ``d``, keys and values of
    width ``k``, feed-forward width ``f``), and the attention's shares of each token, counted from the lowest block
    that trains upwards; and, for every answer token, three times the vocabulary, or less where it is worked on in
    slices. With gradient checkpointing a block keeps its input only; one at a time is worked out again, beside its
    gradients. Where rows come again, what frozen blocks give for them is kept, too, within bounds.
    """
    number = 2 if training.precision == "bf16" else BYTES
    tokens, answers = training.batch_size * rows.long, training.batch_size * rows.long_answer
    writers, read = min(weights.blocks, widths.writers), tokens - answers if widths.writers else tokens
    seen = (weights.blocks - writers) * read + writers * answers  # tokens that each block sees, added up
    fast = weights.fast and not training.gradient_checkpointing
    short = SHORT[torch.bfloat16 if training.precision == "bf16" else torch.float32]
    block = widths.block(rows.long if not fast or rows.long <= short else 0)  # the library's attention keeps no shares
    kept = seen * widths.hidden + 2 * tokens * block if training.gradient_checkpointing else seen * block
    logits = 3 * BYTES * answers * widths.vocabulary
    remembered = number * weights.remembered * (rows.prompt + rows.answer) * widths.hidden
    head = min(logits, 3 * HEAD_BYTES) if fast and weights.frozen_head else logits
    return number * kept + head + min(remembered, MEMORY_BYTES)


def check_bytes(widths: Widths, weights: Weights, training: TrainingConfig, rows: RowLengths) -> int:
    """What the check of the fast path needs before the first step: the gradients of both ways, and the library's pass.

    That pass is in float32 and over two rows, so only batches of very few rows make it the peak.
    """
    if not weights.fast or training.gradient_checkpointing:
        return 0
    few = training.model_copy(update={"batch_size": min(ROWS, training.batch_size), "precision": "fp32"})
    library = replace(weights, fast=False, remembered=0)
    return 2 * BYTES * weights.trainable + int(SLACK * activation_bytes(widths, library, few, rows))


def validation_bytes(widths: Widths, training: TrainingConfig, rows: RowLengths) -> int:
    """What one batch of a validation needs: a block's numbers for each token, and the logits of all answers."""
    tokens = min(evaluation_tokens(widths.vocabulary), training.eval_rows * rows.long)
    answers = tokens * rows.answer // max(1, rows.answer + rows.prompt)
    return BYTES * (tokens * widths.passing + 3 * answers * widths.vocabulary)


def answer_bytes(config: "PretrainedConfig", widths: Widths, training: TrainingConfig, rows: RowLengths) -> int:
    """What answering the test rows needs: keys and values of all rows that are decoded together, and their texts."""
    if not widths.vocabulary:
        return BYTES * min(ANSWER_ROWS, training.eval_rows) * rows.long * widths.passing
    each, length = cache_bytes(config), rows.long + rows.long_answer // 4
    together = min(training.eval_rows, rows_together(each, length))
    read = together * (rows.long - rows.long_answer) * widths.passing
    return together * length * each * 5 // 4 + BYTES * max(read, 3 * together * widths.vocabulary)
