"""What the embedded models learn in pre-training: next tokens, masked tokens, or whole texts from broken ones.

Each objective builds its model, turns packed rows of token ids into batches, and gives the loss of a batch. Shapes
within a run are constant, so that the compiled step is compiled once for each context length.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from peft_studio.pretraining.tokenizer import CAUSAL_SPECIALS, MAX_LENGTH, TEXT_SPECIALS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from peft_studio.pretraining.plan import PretrainingPlan

TokenRows = NDArray[np.int64]
_BOS, _PAD, _EOS, _MASK = range(4)  # ids of TEXT_SPECIALS
_FIRST_TEXT_ID = len(TEXT_SPECIALS)


def _sizes(plan: "PretrainingPlan") -> dict[str, int | bool]:
    """Settings that the configs of Llama and ModernBERT share."""
    return {
        "vocab_size": plan.vocab, "hidden_size": plan.hidden, "intermediate_size": plan.feed_forward,
        "num_hidden_layers": plan.layers, "num_attention_heads": plan.heads, "max_position_embeddings": MAX_LENGTH,
        "attention_bias": True, "mlp_bias": True,
    }  # fmt: skip


def _tensors(**values: TokenRows) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in values.items()}


@dataclass(frozen=True)
class Objective(ABC):
    """One way of pre-training; those that rebuild broken text share their marks.

    Attributes:
        specials: The tokenizer's special tokens, in the order of their ids.
        start: Ids before every document.
        end: Ids after it.
    """

    specials: tuple[str, ...] = TEXT_SPECIALS
    start: tuple[int, ...] = (_BOS,)
    end: tuple[int, ...] = (_EOS,)

    @abstractmethod
    def build(self, plan: "PretrainingPlan") -> "PreTrainedModel":
        """Makes the model with fresh weights; the caller has set the seed."""

    @abstractmethod
    def prepare(self, rows: TokenRows, rng: np.random.Generator) -> dict[str, Tensor]:
        """Makes a batch of rows ``(B, T + 1)``; it holds the ``targets``."""

    @abstractmethod
    def logits(self, model: "PreTrainedModel", batch: Mapping[str, Tensor]) -> Tensor:
        """The model's prediction of each target, ``(B, T, V)``."""

    def loss(self, model: "PreTrainedModel", batch: Mapping[str, Tensor]) -> Tensor:
        """The mean cross entropy of a batch in nats per predicted token."""
        return F.cross_entropy(self.logits(model, batch).float().flatten(0, 1), batch["targets"].flatten())


@dataclass(frozen=True)
class NextToken(Objective):
    """A decoder that predicts every next token (Llama)."""

    specials: tuple[str, ...] = CAUSAL_SPECIALS
    start: tuple[int, ...] = ()
    end: tuple[int, ...] = (0,)

    def build(self, plan: "PretrainingPlan") -> "PreTrainedModel":
        """A small Llama with biases and tied embeddings."""
        from transformers import LlamaConfig, LlamaForCausalLM

        return LlamaForCausalLM(
            LlamaConfig(
                **_sizes(plan), num_key_value_heads=plan.heads, tie_word_embeddings=True,
                bos_token_id=0, eos_token_id=0, pad_token_id=1,
            )
        )  # fmt: skip

    def prepare(self, rows: TokenRows, rng: np.random.Generator) -> dict[str, Tensor]:
        """Inputs and targets, both ``(B, T)``."""
        return _tensors(ids=rows[:, :-1], targets=rows[:, 1:])

    def logits(self, model: "PreTrainedModel", batch: Mapping[str, Tensor]) -> Tensor:
        """Of all next tokens."""
        return model(input_ids=batch["ids"], use_cache=False).logits


@dataclass(frozen=True)
class MaskedTokens(Objective):
    """An encoder that guesses hidden tokens (ModernBERT: https://arxiv.org/abs/2412.13663).

    Attributes:
        share: Share of the positions that are hidden; small models learn faster from more than BERT's 15 %.
    """

    share: float = 0.2

    def build(self, plan: "PretrainingPlan") -> "PreTrainedModel":
        """A small ModernBERT with biases and full attention in every layer."""
        from transformers import ModernBertConfig, ModernBertForMaskedLM

        return ModernBertForMaskedLM(
            ModernBertConfig(
                **_sizes(plan), global_attn_every_n_layers=1, norm_bias=True,
                classifier_pooling="mean",  # the first token learns nothing of its own before fine-tuning
                bos_token_id=_BOS, cls_token_id=_BOS, pad_token_id=_PAD, eos_token_id=_EOS, sep_token_id=_EOS,
            )
        )  # fmt: skip

    def prepare(self, rows: TokenRows, rng: np.random.Generator) -> dict[str, Tensor]:
        """Broken ids ``(B, T)``, hidden positions and their true ids ``(B, K)``.

        Of the hidden positions 80 % show the mask, 10 % a random token and 10 % their own.
        """
        true = rows[:, :-1]
        order = np.argsort(rng.random(true.shape) - (true >= _FIRST_TEXT_ID), axis=1)
        places = np.sort(order[:, : round(self.share * true.shape[1])], axis=1)
        targets = np.take_along_axis(true, places, axis=1)
        luck = rng.random(places.shape)
        random_ids = rng.integers(_FIRST_TEXT_ID, int(true.max()) + 1, places.shape)
        shown = np.where(luck < 0.8, _MASK, np.where(luck < 0.9, random_ids, targets))
        broken = true.copy()
        np.put_along_axis(broken, places, shown, axis=1)
        return _tensors(ids=broken, places=places, targets=targets)

    def logits(self, model: "PreTrainedModel", batch: Mapping[str, Tensor]) -> Tensor:
        """Of the hidden tokens; the vocabulary projection sees their positions only."""
        hidden = model.model(input_ids=batch["ids"]).last_hidden_state  # (B, T, D)
        places = batch["places"].unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
        return model.decoder(model.head(hidden.gather(1, places)))


@dataclass(frozen=True)
class Denoising(Objective):
    """An encoder-decoder that writes a text again from one with holes (BART: https://arxiv.org/abs/1910.13461).

    Attributes:
        share: Share of the tokens that fall into holes.
        mean_span: Mean length of a hole in tokens; every hole shows one mask.
    """

    share: float = 0.3
    mean_span: float = 3.0

    def build(self, plan: "PretrainingPlan") -> "PreTrainedModel":
        """A small BART with half of the layers on each side."""
        from transformers import BartConfig, BartForConditionalGeneration

        each = {"layers": plan.layers // 2, "attention_heads": plan.heads, "ffn_dim": plan.feed_forward}
        return BartForConditionalGeneration(
            BartConfig(
                vocab_size=plan.vocab,
                d_model=plan.hidden,
                max_position_embeddings=MAX_LENGTH,
                dropout=0.0,
                activation_function="gelu",
                bos_token_id=_BOS,
                pad_token_id=_PAD,
                eos_token_id=_EOS,
                decoder_start_token_id=_EOS,
                forced_eos_token_id=None,
                **{f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in each.items()},
            )
        )

    def prepare(self, rows: TokenRows, rng: np.random.Generator) -> dict[str, Tensor]:
        """Source with holes and its mask ``(B, T)``, decoder inputs and targets ``(B, T)``."""
        true = rows[:, :-1]
        source = np.full_like(true, _PAD)
        for number, row in enumerate(true):
            kept = self._with_holes(row, rng)
            source[number, : len(kept)] = kept
        given = np.concatenate([np.full((len(true), 1), _EOS), true[:, :-1]], axis=1)
        return _tensors(source=source, mask=(source != _PAD).astype(np.int64), given=given, targets=true)

    def _with_holes(self, row: NDArray[np.int64], rng: np.random.Generator) -> list[int]:
        hidden = np.zeros(len(row), dtype=bool)
        starts = np.zeros(len(row), dtype=bool)
        while hidden.mean() < self.share:
            at = int(rng.integers(len(row)))
            length = 1 + int(rng.poisson(self.mean_span - 1))
            if not hidden[at : at + length].any() and (row[at : at + length] >= _FIRST_TEXT_ID).all():
                hidden[at : at + length] = True
                starts[at] = True
        return [int(_MASK if starts[at] else row[at]) for at in range(len(row)) if starts[at] or not hidden[at]]

    def logits(self, model: "PreTrainedModel", batch: Mapping[str, Tensor]) -> Tensor:
        """Of the whole text."""
        return model(
            input_ids=batch["source"], attention_mask=batch["mask"], decoder_input_ids=batch["given"], use_cache=False
        ).logits


OBJECTIVES: dict[str, Objective] = {
    "nano-lm": NextToken(), "nano-encoder": MaskedTokens(), "nano-seq2seq": Denoising(),
}  # fmt: skip
"""What each embedded model learns."""
