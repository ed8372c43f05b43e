"""The forward pass of a Llama (or Qwen2, Qwen3) with an adapter, by the model's own modules and parameters.

For training only.

It gives the loss that the model itself would give, for less (every run asks ``compare`` whether it does): linear
layers with plain LoRA, norms, rotary positions and attention take fewer passes over memory (see ``kernels``), padding
is left out of all but attention, the last block works on positions that predict a target only, and blocks below the
lowest one that trains keep nothing for a backward pass, which ends above them. What they give for a row is remembered
while memory lasts, because it is the same in every epoch.

Modules that it does not know, such as other methods' layers, are called as they are. A model whose blocks themselves
are wrapped is left to the plain path.
"""

import importlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peft_studio.training import Model
from peft_studio.training.fast.kernels import (
    FrozenHeadLoss,
    LoraLinears,
    LoraParts,
    Packed,
    RmsNorm,
    Rotary,
    causal_attention,
    gpu_norm,
    is_hooked,
    lora_parts,
)
from peft_studio.training.fast.levers import Levers
from peft_studio.training.fast.places import Places, find_places
from peft_studio.training.formats.rows import Batch
from peft_studio.training.formats.target_logits import base_of

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

MEMORY_BYTES = 512_000_000  # for what frozen blocks gave
FAMILIES = {f"{name}ForCausalLM": name for name in ("Llama", "Qwen2", "Qwen3")}
"""Models whose blocks are Llama's, some with a norm for each head's queries and keys; by the name of their class."""


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
        (self._norm_class,) = _classes(base, "RMSNorm")
        self.frozen = self._frozen_blocks()
        plain = type(self._head) is nn.Linear and self._head.bias is None
        self.frozen_head = levers.head and plain and not self._head.weight.requires_grad
        self._memory: dict[int, Tensor] = {}
        self._parts: dict[nn.Module, LoraParts | None] = {}
        self._room = MEMORY_BYTES if levers.remember and repeats else 0

    @staticmethod
    def is_of_family(model: Model) -> bool:
        """Whether the model has such blocks and reads plain text, whatever is done to it besides."""
        adapter = getattr(model, "active_peft_config", None)
        return type(base_of(model)).__name__ in FAMILIES and not (adapter is not None and adapter.is_prompt_learning)

    @staticmethod
    def fits(model: Model) -> bool:
        """Whether the model is one that this module knows, inside and out."""
        if not FastDecoder.is_of_family(model):
            return False
        base = base_of(model)
        decoder = base.model
        block, whole, *inside = _classes(base, "DecoderLayer", "Model", "Attention", "MLP")
        kinds = {type(part) for part in decoder.layers} | {block}
        inner = {type(part.self_attn) for part in decoder.layers} | {type(part.mlp) for part in decoder.layers}
        known = len(kinds) == 1 and inner <= {*inside} and type(decoder) is whole
        known = known and all(getattr(part.self_attn, "sliding_window", None) is None for part in decoder.layers)
        plain = decoder.config.attention_dropout == 0 and not decoder.gradient_checkpointing
        hooked = any(is_hooked(part) for part in (base, decoder, *decoder.layers))
        hooked = hooked or any(is_hooked(part) for block in decoder.layers for part in (block.self_attn, block.mlp))
        return known and plain and not hooked

    def loss(self, batch: Batch) -> Tensor:
        """Summed cross entropy of a batch's targets, in nats: a scalar.

        Nothing in it waits for a GPU: where the targets are is found out before the batch goes there.

        Args:
            batch: ``input_ids`` and ``labels`` ``(B, T)``, best on the CPU; ``rows``, the numbers of its rows, lets
                frozen blocks remember.
        """
        weight = self._decoder.embed_tokens.weight
        text = find_places(batch["input_ids"], batch["labels"], self._levers, weight.device)
        hidden = self._hidden(text, batch.get("rows"))  # (N, d)
        hidden = self._norm(self._decoder.norm, hidden)  # (N, d)
        if self.frozen_head:
            return FrozenHeadLoss.apply(hidden, self._head.weight, text.targets)
        return F.cross_entropy(self._head(hidden).float(), text.targets, reduction="sum")  # of (N, V)

    def _hidden(self, text: Places, rows: list[int] | None) -> Tensor:
        """Hidden states ``(N, d)`` behind the last block, at the places that predict a target."""
        blocks = self._decoder.layers
        embedded = self._decoder.embed_tokens(text.ids) if self.frozen == 0 else None  # (M, d) or (B, T, d)
        positions = torch.arange(text.shape[1], device=text.ids.device)[None]  # (1, T); padding is on the right
        like = embedded if embedded is not None else self._decoder.embed_tokens.weight  # for device and dtype only
        cosines, sines = (part[0] for part in self._decoder.rotary_emb(like, position_ids=positions))  # (T, D) each
        half = cosines.shape[-1] // 2  # the library repeats the angles for both halves of a head; one is enough
        turns = (cosines[:, :half].contiguous(), sines[:, :half].contiguous())
        hidden = embedded if embedded is not None else self._below(text, rows, turns)
        for number in range(self.frozen, len(blocks)):
            ends = self._levers.last_block and number == len(blocks) - 1
            hidden = self._block(blocks[number], hidden, turns, text, ends)
        if self._levers.last_block and self.frozen < len(blocks):
            return hidden  # (N, d) already
        return Packed.apply(hidden.flatten(0, -2), text.places)  # (M, d) or (B, T, d) -> (N, d)

    def _below(self, text: Places, rows: list[int] | None, turns: tuple[Tensor, Tensor]) -> Tensor:
        """What the frozen blocks give, ``(M, d)`` or ``(B, T, d)``: remembered, or computed without keeping more."""
        if rows is not None and all(row in self._memory for row in rows):
            found = [self._memory[row] for row in rows]  # each (T', d), as wide as it was when it came first
            if text.lengths is None:
                return nn.utils.rnn.pad_sequence([part[: text.shape[1]] for part in found], batch_first=True)
            lengths = text.lengths
            return torch.cat(
                [F.pad(part[:n], (0, 0, 0, n - len(part[:n]))) for part, n in zip(found, lengths, strict=True)]
            )
        with torch.no_grad():
            hidden = self._decoder.embed_tokens(text.ids)  # (M, d) or (B, T, d)
            for block in self._decoder.layers[: self.frozen]:
                hidden = self._block(block, hidden, turns, text, ends=False)
        needed = hidden.numel() * hidden.element_size()
        if rows is not None and needed <= self._room:
            self._room -= needed
            parts = hidden.unbind() if text.lengths is None else hidden.split(text.lengths)
            self._memory.update(zip(rows, parts, strict=True))
        return hidden

    def _block(
        self, block: "LlamaDecoderLayer", hidden: Tensor, turns: tuple[Tensor, Tensor], text: Places, ends: bool
    ) -> Tensor:
        """One block: ``(M, d)`` or ``(B, T, d)`` to the same, or to ``(N, d)`` where it ``ends`` what is looked at."""
        attention, mlp = block.self_attn, block.mlp
        normed = self._norm(block.input_layernorm, hidden)  # (M, d) or (B, T, d)
        found = self._linears(normed, attention.q_proj, attention.k_proj, attention.v_proj)  # (..., H D), (..., K D)
        norms = (getattr(attention, "q_norm", None), getattr(attention, "k_norm", None), None)  # of each head
        q, k, v = (
            text.padded(self._head_norm(norm, part)).view(*text.shape, -1, attention.head_dim)
            for norm, part in zip(norms, found, strict=True)
        )  # (B, T, H, D); keys and values (B, T, K, D)
        q, k = _turned(q, k, turns)  # (B, H, T, D), (B, K, T, D)
        read = text.packed(causal_attention(q, k, v.transpose(1, 2), attention.scaling))  # (M, H D) or (B, T, H D)
        if ends:  # only attention looks at other positions, so what follows needs no others
            read, hidden = (Packed.apply(part.flatten(0, -2), text.places) for part in (read, hidden))  # (N, ...) each
        hidden = hidden + self._linears(read, attention.o_proj)[0]
        normed = self._norm(block.post_attention_layernorm, hidden)
        gate, up = self._linears(normed, mlp.gate_proj, mlp.up_proj)  # (..., f) each
        return hidden + self._linears(mlp.act_fn(gate) * up, mlp.down_proj)[0]

    def _linears(self, x: Tensor, *modules: nn.Module) -> tuple[Tensor, ...]:
        """Linear layers that read the same ``(..., n)``: each ``(..., m)``."""
        parts = [self._parts_of(module) for module in modules]
        held = [part for part in parts if part is not None]
        if len(held) < len(parts):
            return tuple(module(x) for module in modules)
        return LoraLinears.apply(x, tuple(part[4] for part in held), *(t for part in held for t in part[:4]))

    def _parts_of(self, module: nn.Module) -> LoraParts | None:
        """See ``lora_parts``; looked up once, as nothing is switched on or off while a run takes its steps."""
        if module not in self._parts:
            self._parts[module] = lora_parts(module) if self._levers.lora else None
        return self._parts[module]

    def _head_norm(self, norm: nn.Module | None, x: Tensor) -> Tensor:
        """A norm over the ``D`` numbers of each head, where there is one: ``(..., H D)`` to the same."""
        return x if norm is None else self._norm(norm, x.unflatten(-1, (-1, norm.weight.numel()))).flatten(-2)

    def _norm(self, norm: nn.Module, x: Tensor) -> Tensor:
        ours = self._levers.norms and type(norm) is self._norm_class and not is_hooked(norm)
        if not ours or norm.weight.requires_grad:
            return norm(x)
        if x.device.type != "cpu":
            return gpu_norm(x, norm.weight, norm.variance_epsilon)
        return RmsNorm.apply(x, norm.weight, norm.variance_epsilon)

    def _frozen_blocks(self) -> int:
        if any(parameter.requires_grad for parameter in self._decoder.embed_tokens.parameters()):
            return 0
        for number, block in enumerate(self._decoder.layers):
            dropout = any(isinstance(part, nn.Dropout) and part.p > 0 for part in block.modules())
            if dropout or any(parameter.requires_grad for parameter in block.parameters()):
                return number
        return len(self._decoder.layers)


def _classes(base: nn.Module, *parts: str) -> list[type]:
    """Classes of the library for parts of a model, such as its blocks."""
    family = FAMILIES[type(base).__name__]
    module = importlib.import_module(f"transformers.models.{family.lower()}.modeling_{family.lower()}")
    return [getattr(module, family + part) for part in parts]


def _turned(q: Tensor, k: Tensor, turns: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Queries ``(B, T, H, D)`` and keys ``(B, T, K, D)``, turned: ``(B, H, T, D)`` and ``(B, K, T, D)``."""
    if q.device.type == "cpu":
        return Rotary.apply(q, *turns), Rotary.apply(k, *turns)
    both = Rotary.apply(torch.cat([q, k], 2), *turns)  # (B, H + K, T, D): half as many kernels to start
    return both[:, : q.shape[2]], both[:, q.shape[2] :]


def _of_length(row: Tensor, length: int) -> Tensor:
    """The first so many tokens of a row ``(T', d)``; zeros behind it, which nothing looks at."""
    return F.pad(row[:length], (0, 0, 0, max(0, length - len(row))))
