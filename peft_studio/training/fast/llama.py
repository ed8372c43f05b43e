"""The forward pass of a Llama with an adapter, reading the model's own modules and parameters, for training only.

It gives the loss that the model itself would give, for less (every run asks ``compare`` whether it does): linear
layers with plain LoRA, norms, rotary positions and attention take fewer passes over memory (see ``kernels``), the last
block works on positions that predict a target only, and blocks below the lowest one that trains keep nothing for a
backward pass, which ends above them. What they give for a row is remembered while memory lasts, because it is the same
in every epoch.

Modules that it does not know, such as other methods' layers, are called as they are. A model whose blocks themselves
are wrapped is left to the plain path.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peft_studio.training import Model
from peft_studio.training.fast.kernels import (
    FrozenHeadLoss,
    LoraLinears,
    RmsNorm,
    Rotary,
    causal_attention,
    is_hooked,
    lora_parts,
)
from peft_studio.training.formats.rows import IGNORED, Batch
from peft_studio.training.formats.target_logits import base_of

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

MEMORY_BYTES = 512_000_000  # for what frozen blocks gave
MODELS = ("LlamaForCausalLM",)
WIDTHS, PLACES = 4, 32  # what sizes are rounded up to in 16 bits


@dataclass(frozen=True)
class Levers:
    """What a run does to be fast; each gives the plain result. ``tests/benchmarks/bench_levers.py`` tries them all.

    Attributes:
        decoder: The forward pass of this module, with rotary positions and attention in fewer passes.
        lora: LoRA layers in fewer passes.
        norms: The same for norms, within ``decoder`` like the four that follow.
        head: The vocabulary projection and its loss in slices, without keeping logits.
        last_block: Only positions before a target go through the last block.
        remember: What frozen lower blocks give is computed once for each row.
        few_sizes: With bf16 on a CPU, sizes are rounded up, because each new one costs time and memory.
        grouping: Rows of similar length share a batch.
        cast_once: With bf16, frozen weights are cast once and not in every step.
        fused_optimizer: AdamW in one pass over its state.
    """

    decoder: bool = True
    lora: bool = True
    norms: bool = True
    head: bool = True
    last_block: bool = True
    remember: bool = True
    few_sizes: bool = True
    grouping: bool = True
    cast_once: bool = True
    fused_optimizer: bool = True


class FastDecoder:
    """See the module.

    Args:
        model: A causal language model, with or without an adapter.
        levers: What to do.
        repeats: Whether rows come more than once.

    Attributes:
        frozen: How many of the lowest blocks do not train.
        frozen_head: Whether the vocabulary projection and its loss are made in slices, because nothing of it trains.
    """

    def __init__(self, model: Model, levers: Levers, repeats: bool = True) -> None:
        base = base_of(model)
        self._levers = levers
        self._decoder, self._head = base.model, base.lm_head
        self._config = base.config
        self.frozen = self._frozen_blocks()
        plain = type(self._head) is nn.Linear and self._head.bias is None
        self.frozen_head = levers.head and plain and not self._head.weight.requires_grad
        self._memory: dict[int, Tensor] = {}
        self._room = MEMORY_BYTES if levers.remember and repeats else 0

    @staticmethod
    def fits(model: Model) -> bool:
        """Whether the model is one that this module knows, inside and out."""
        base = base_of(model)
        adapter = getattr(model, "active_peft_config", None)
        if type(base).__name__ not in MODELS or (adapter is not None and adapter.is_prompt_learning):
            return False
        from transformers.models.llama import modeling_llama as llama

        decoder = base.model
        kinds = {type(block) for block in decoder.layers} | {llama.LlamaDecoderLayer}
        inner = {type(block.self_attn) for block in decoder.layers} | {type(block.mlp) for block in decoder.layers}
        known = len(kinds) == 1 and inner <= {llama.LlamaAttention, llama.LlamaMLP}
        plain = decoder.config.attention_dropout == 0 and not decoder.gradient_checkpointing
        hooked = any(is_hooked(part) for part in (base, decoder, *decoder.layers))
        hooked = hooked or any(is_hooked(part) for block in decoder.layers for part in (block.self_attn, block.mlp))
        return type(decoder) is llama.LlamaModel and known and plain and not hooked

    def loss(self, batch: Batch) -> Tensor:
        """Summed cross entropy of a batch's targets, in nats: a scalar.

        Args:
            batch: ``input_ids`` and ``labels`` ``(B, T)``; ``rows``, the numbers of its rows, lets frozen blocks
                remember.
        """
        ids, following, places = _targets(batch["input_ids"], batch["labels"], self._levers.few_sizes)
        hidden = self._hidden(ids, places, batch.get("rows"))  # (N, d)
        hidden = self._norm(self._decoder.norm, hidden)  # (N, d)
        targets = following.flatten()[places]  # (N,)
        if self.frozen_head:
            return FrozenHeadLoss.apply(hidden, self._head.weight, targets)
        return F.cross_entropy(self._head(hidden).float(), targets, reduction="sum")  # of (N, V)

    def _hidden(self, ids: Tensor, places: Tensor, rows: list[int] | None) -> Tensor:
        """Hidden states ``(N, d)`` behind the last block, at the places that predict a target."""
        blocks = self._decoder.layers
        embedded = self._decoder.embed_tokens(ids) if self.frozen == 0 else None  # (B, T, d)
        positions = torch.arange(ids.shape[1], device=ids.device)[None]  # (1, T); padding is on the right
        like = embedded if embedded is not None else self._decoder.embed_tokens.weight  # for device and dtype only
        cosines, sines = (part[0] for part in self._decoder.rotary_emb(like, position_ids=positions))  # (T, D) each
        half = cosines.shape[-1] // 2  # the library repeats the angles for both halves of a head; one is enough
        turns = (cosines[:, :half].contiguous(), sines[:, :half].contiguous())
        hidden = embedded if embedded is not None else self._below(ids, rows, turns)
        for number in range(self.frozen, len(blocks)):
            chosen = places if self._levers.last_block and number == len(blocks) - 1 else None
            hidden = self._block(blocks[number], hidden, turns, chosen)
        return hidden if hidden.dim() == 2 else hidden.flatten(0, 1)[places]  # (B, T, d) -> (N, d)

    def _below(self, ids: Tensor, rows: list[int] | None, turns: tuple[Tensor, Tensor]) -> Tensor:
        """What the frozen blocks give ``(B, T, d)``: remembered, or computed without keeping anything."""
        if rows is not None and all(row in self._memory for row in rows):
            found = [self._memory[row] for row in rows]  # each (T', d), as wide as its batch was when it came first
            return nn.utils.rnn.pad_sequence([part[: ids.shape[1]] for part in found], batch_first=True)
        with torch.no_grad():
            hidden = self._decoder.embed_tokens(ids)  # (B, T, d)
            for block in self._decoder.layers[: self.frozen]:
                hidden = self._block(block, hidden, turns, None)
        needed = hidden.numel() * hidden.element_size()
        if rows is not None and needed <= self._room:
            self._room -= needed
            self._memory.update(zip(rows, hidden.unbind(), strict=True))
        return hidden

    def _block(
        self, block: "LlamaDecoderLayer", hidden: Tensor, turns: tuple[Tensor, Tensor], places: Tensor | None
    ) -> Tensor:
        """One block: ``(B, T, d)`` to the same, or to ``(N, d)`` at places among the ``B T`` positions."""
        attention, mlp = block.self_attn, block.mlp
        batch, length, _ = hidden.shape
        normed = self._norm(block.input_layernorm, hidden)  # (B, T, d)
        q, k, v = (
            part.view(batch, length, -1, attention.head_dim)  # (B, T, H, D), of keys and values (B, T, K, D)
            for part in self._linears(normed, attention.q_proj, attention.k_proj, attention.v_proj)
        )
        q, k = Rotary.apply(q, *turns), Rotary.apply(k, *turns)  # (B, H, T, D), (B, K, T, D)
        read = causal_attention(q, k, v.transpose(1, 2), attention.scaling)  # (B, T, H D)
        if places is not None:  # only attention looks at other positions, so what follows needs no others
            read, hidden = read.flatten(0, 1)[places], hidden.flatten(0, 1)[places]  # (N, H D), (N, d)
        hidden = hidden + self._linears(read, attention.o_proj)[0]
        normed = self._norm(block.post_attention_layernorm, hidden)
        gate, up = self._linears(normed, mlp.gate_proj, mlp.up_proj)  # (B, T, f) each, or (N, f)
        return hidden + self._linears(mlp.act_fn(gate) * up, mlp.down_proj)[0]

    def _linears(self, x: Tensor, *modules: nn.Module) -> tuple[Tensor, ...]:
        """Linear layers that read the same ``(..., n)``: each ``(..., m)``."""
        parts = [lora_parts(module) if self._levers.lora else None for module in modules]
        if any(part is None for part in parts):
            return tuple(module(x) for module in modules)
        held = [part for part in parts if part is not None]
        return LoraLinears.apply(x, tuple(part[4] for part in held), *(t for part in held for t in part[:4]))

    def _norm(self, norm: nn.Module, x: Tensor) -> Tensor:
        from transformers.models.llama.modeling_llama import LlamaRMSNorm

        if not self._levers.norms or type(norm) is not LlamaRMSNorm or norm.weight.requires_grad or is_hooked(norm):
            return norm(x)
        return RmsNorm.apply(x, norm.weight, norm.variance_epsilon)

    def _frozen_blocks(self) -> int:
        if any(parameter.requires_grad for parameter in self._decoder.embed_tokens.parameters()):
            return 0
        for number, block in enumerate(self._decoder.layers):
            dropout = any(isinstance(part, nn.Dropout) and part.p > 0 for part in block.modules())
            if dropout or any(parameter.requires_grad for parameter in block.parameters()):
                return number
        return len(self._decoder.layers)


def _targets(ids: Tensor, labels: Tensor, few_sizes: bool) -> tuple[Tensor, Tensor, Tensor]:
    """What is read ``(B, T)``, what follows it ``(B, T)``, and the places ``(N,)`` in both where a target follows.

    In 16 bits on a CPU, widths and numbers of places are rounded up by some that count for nothing: oneDNN makes code
    for every new size, and that takes time and memory.
    """
    ids, following = ids[:, :-1], labels[:, 1:]  # (B, T - 1) both
    few = few_sizes and ids.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if few:
        extra = -ids.shape[1] % WIDTHS  # zeros behind the text, which nothing in it looks at
        ids, following = F.pad(ids, (0, extra)), F.pad(following, (0, extra), value=IGNORED)
    wanted = (following != IGNORED).flatten()  # (B T,)
    places = wanted.nonzero().squeeze(1)  # (N,)
    if few:
        others = (~wanted).nonzero().squeeze(1)  # their targets are IGNORED, so they add nothing
        places = torch.cat([places, others[: -len(places) % PLACES]])
    return ids, following, places
