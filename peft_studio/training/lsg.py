"""Attention that is linear in the length of a text, for encoders: local, sparse and global (LSG).

After Condevaux & Harispe 2022 (https://arxiv.org/abs/2210.15497). The text is cut into blocks. A token sees the tokens
of its own block and of both neighbours, a thinned-out part of what lies just beyond them, and the global tokens (the
first ones, such as ``[CLS]``), which see everything. No weights are added, so a pre-trained model can be switched, its
learned positions repeated, and be fine-tuned on long texts at once.

Texts must be padded on the right, as the tokenizers of these models do: the first place holds a global token. What a
row gives does not depend on the padding after it. Up to two blocks, all tokens see each other: plain full attention.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface

from peft_studio.errors import ModelError, did_you_mean
from peft_studio.models.lsg_settings import LSGConfig
from peft_studio.training import Model
from peft_studio.training.formats.target_logits import base_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "lsg"
ROTARY = ("modernbert",)
ENCODERS = ("bert", "camembert", "distilbert", "roberta", "xlm-roberta", *ROTARY)
SMALLEST_BLOCK = 32  # of sliding windows, so that a narrow window does not become very many products


def enable_lsg(model: Model, settings: LSGConfig | None = None) -> None:
    """Switches a loaded encoder to LSG attention, in place; its weights stay as they are.

    Sliding-window layers of ModernBERT keep their own window, computed block by block, and are thus linear as well;
    its layers with full attention become LSG. The settings are kept in ``model.config.lsg``.

    Args:
        model: An encoder of transformers, with or without a task's head or an adapter.
        settings: What a token sees.

    Raises:
        ModelError: The model is none of ``ENCODERS``, or acts as a decoder.
    """
    base = _encoder(model)
    AttentionInterface.register(NAME, lsg_attention)
    AttentionMaskInterface.register(NAME, lsg_mask)
    base.config.lsg = asdict(settings or LSGConfig())
    base.set_attn_implementation(NAME)
    if base.config._attn_implementation != NAME:
        raise ModelError(f"The attention of {type(base).__name__} cannot be exchanged.")


def extend_positions(model: Model, length: int) -> None:
    """Makes a model accept texts of ``length`` tokens, in place; does nothing where it already does.

    Learned positions are repeated from the start, as the authors' converter does. The rows that RoBERTa and its kin
    keep for padding (up to ``padding_idx``) stay in front and are not repeated. Rotary models learn no positions; only
    their config changes. An adapter does not hold the longer table: extend a freshly loaded base in the same way.

    Args:
        model: An encoder of transformers, with or without a task's head.
        length: Tokens of the longest text, special tokens included.
    """
    base = _encoder(model)
    if base.config.model_type in ROTARY:
        base.config.max_position_embeddings = max(length, base.config.max_position_embeddings)
        return
    embeddings = base.base_model.embeddings
    table = embeddings.position_embeddings
    reserved = 0 if table.padding_idx is None else table.padding_idx + 1
    old = table.weight.detach()  # (reserved + old length, D)
    if reserved + length <= len(old):
        return
    rows = reserved + torch.arange(length, device=old.device) % (len(old) - reserved)  # (length,)
    table.weight = nn.Parameter(torch.cat((old[:reserved], old[rows])), requires_grad=table.weight.requires_grad)
    table.num_embeddings = base.config.max_position_embeddings = reserved + length
    embeddings.position_ids = torch.arange(reserved + length, device=old.device)[None]  # (1, reserved + length)
    if hasattr(embeddings, "token_type_ids"):
        embeddings.token_type_ids = torch.zeros_like(embeddings.position_ids)


def _encoder(model: Model) -> "PreTrainedModel":
    """The model of transformers inside, checked."""
    base = base_of(model)
    kind = str(getattr(getattr(base, "config", None), "model_type", type(base).__name__))
    if kind not in ENCODERS:
        raise ModelError(f"LSG attention does not know how to change {kind!r}. {did_you_mean(kind, ENCODERS)}")
    if getattr(base.config, "is_decoder", False):
        raise ModelError(f"LSG attention is for encoders, and this {kind!r} has is_decoder=True; allowed: False.")
    return base


def lsg_mask(attention_mask: Tensor | None = None, **_unused: Any) -> Tensor | None:
    """The mask as the model was given it, ``(B, T)``, true for real tokens: nothing is expanded to ``(T, T)``."""
    return attention_mask


def lsg_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """An attention layer, in the form that transformers calls.

    Args:
        module: The layer; its ``config.lsg`` holds the settings.
        query: ``(B, H, T, D)``; key and value are ``(B, H, P + T, D)`` with a learned prefix of ``P``, often 0.
        attention_mask: ``(B, P + T)``, true for real tokens; None when all are.
        kwargs: ``sliding_window``, one more than a layer's reach to either side; the rest is ignored.

    Returns:
        ``(B, T, H, D)`` and, in place of attention weights, None.
    """
    if attention_mask is not None and attention_mask.dim() != 2:
        raise ModelError(f"LSG attention takes a mask (B, T), and this one has shape {tuple(attention_mask.shape)}.")
    real = key.new_ones(key.shape[0], key.shape[2]).bool() if attention_mask is None else attention_mask.bool()
    options = {"dropout_p": dropout, "scale": scaling}
    if (window := kwargs.get("sliding_window")) is None:
        mixed = local_sparse_global(query, key, value, real, LSGConfig(**module.config.lsg), options)
    else:
        block = max(window - 1, SMALLEST_BLOCK)
        settings = LSGConfig(block, sparse_block_size=0, sparsity_factor=1, global_tokens=0)
        mixed = _by_blocks(query, key, value, real, settings, _band(block, window - 1, query.device), options)
    return mixed.transpose(1, 2).contiguous(), None


def local_sparse_global(
    query: Tensor, key: Tensor, value: Tensor, real: Tensor, settings: LSGConfig, options: dict[str, Any]
) -> Tensor:
    """LSG attention: ``(B, H, T, D)``.

    Args:
        query: ``(B, H, T, D)``; key and value are ``(B, H, P + T, D)``, and all tokens see the first ``P``.
        real: ``(B, P + T)``, false for padding.
        settings: What a token sees.
        options: ``dropout_p`` and ``scale`` of ``scaled_dot_product_attention``.
    """
    everything = _never_empty(real[:, None, None])  # (B, 1, 1, P + T)
    # Short texts are all "first": full attention is cheaper there than blocks that mostly hold padding.
    first = query.shape[2] if query.shape[2] <= 2 * settings.block_size else settings.global_tokens
    ahead = F.scaled_dot_product_attention(query[:, :, :first], key, value, everything, **options)  # (B, H, first, D)
    if first >= query.shape[2]:
        return ahead
    # Global tokens go through the blocks as well and are thrown away: cutting them off would shift all blocks.
    mixed = _by_blocks(query, key, value, real, settings, None, options)  # (B, H, T, D)
    return torch.cat((ahead, mixed[:, :, first:]), dim=2)


def _by_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    real: Tensor,
    settings: LSGConfig,
    band: Tensor | None,
    options: dict[str, Any],
) -> Tensor:
    """Each block of queries with the keys it sees, at once: ``(B, H, T, D)``. ``band`` narrows the local keys."""
    length, front = query.shape[2], key.shape[2] - query.shape[2]
    blocks = -(-length // settings.block_size)  # n, rounded up
    filling = (0, 0, 0, blocks * settings.block_size - length)  # rows behind the text, none in front of it
    shared = front + settings.global_tokens
    alone = real[:, None, :, None]  # (B, 1, P + T, 1)
    # Global tokens are seen by everyone as shared keys; counted as neighbours, too, they would weigh twice.
    own = alone[:, :, front:] & (torch.arange(length, device=real.device) >= settings.global_tokens)[:, None]
    local = [F.pad(x, filling) for x in (key[:, :, front:], value[:, :, front:], own)]
    sparse = _select(settings, *local) if settings.sparse_block_size else (None, None, None)
    keys, values, seen = (
        _context(x[:, :, :shared], near, far, blocks, settings.sparse_blocks)
        for x, near, far in zip((key, value, alone), local, sparse, strict=True)
    )  # (B * n, H, K, D), the same, (B * n, 1 or H, K, 1)
    mask = seen.transpose(-1, -2)  # (B * n, 1 or H, 1, K): the same keys for all queries of a block
    mask = _never_empty(mask if band is None else mask & F.pad(band, (0, front), value=True))
    queries = F.pad(query, filling).unflatten(2, (blocks, -1)).transpose(1, 2).flatten(0, 1)  # (B * n, H, b, D)
    mixed = F.scaled_dot_product_attention(queries, keys, values, mask, **options)  # (B * n, H, b, D)
    return mixed.unflatten(0, (-1, blocks)).transpose(1, 2).flatten(2, 3)[:, :, :length]


def _context(shared: Tensor, near: Tensor, far: Tensor | None, blocks: int, reach: int) -> Tensor:
    """What each block sees, side by side.

    Args:
        shared: ``(B, h, G, D)``, seen by all.
        near: ``(B, h, n * b, D)``, of which each of the ``n`` blocks sees its own and the two next to it.
        far: ``(B, h, n * step, D)``, of which it sees ``reach`` blocks on either side of those.

    Returns:
        ``(B * n, h, 3 * b + 2 * reach * step + G, D)``.
    """
    parts = _shifted(near, blocks, [-1, 0, 1])
    if far is not None:
        parts += _shifted(far, blocks, [*range(-1 - reach, -1), *range(2, 2 + reach)])
    parts.append(shared[:, None].expand(-1, blocks, -1, -1, -1))  # (B, n, h, G, D)
    heads = max(part.shape[2] for part in parts)  # a mask may have one for all of them
    return torch.cat([part.expand(-1, -1, heads, -1, -1) for part in parts], dim=3).flatten(0, 1)


def _shifted(x: Tensor, blocks: int, shifts: list[int]) -> list[Tensor]:
    """The blocks of ``(B, h, n * m, D)`` that lie so many blocks further on, each ``(B, n, h, m, D)``, else zeros."""
    edge = max(abs(shift) for shift in shifts)
    # (B, h, n * m, D) -> (B, n, h, m, D), with blocks of zeros (which no mask lets through) on either side
    padded = F.pad(x.unflatten(2, (blocks, -1)).transpose(1, 2), (0, 0, 0, 0, 0, 0, edge, edge))
    return [padded[:, edge + shift : edge + shift + blocks] for shift in shifts]


def _select(settings: LSGConfig, key: Tensor, value: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sparse keys, values and which of them count, from ``(B, H, N, D)``: ``(B, H, N / f, D)``."""
    factor, heads = settings.sparsity_factor, key.shape[1]
    if settings.sparsity == "pooling":
        counts = own.unflatten(2, (-1, factor)).sum(3)  # (B, 1, N / f, 1)
        # Means of the tokens that count; clamped, so that a group of padding gives zeros and not a division by zero.
        pooled = [(x * own).unflatten(2, (-1, factor)).sum(3) / counts.clamp(min=1) for x in (key, value)]
        return pooled[0], pooled[1], counts > 0
    if settings.sparsity == "stride":
        # Heads begin at different tokens, so that together they see all of them.
        starts = torch.arange(0, key.shape[2], factor, device=key.device)  # (N / f,)
        places = starts + torch.arange(heads, device=key.device)[:, None] % factor  # (H, N / f)
        chosen = places[None, :, :, None].expand(key.shape[0], -1, -1, -1)  # (B, H, N / f, 1)
    else:
        lengths = key.detach().norm(dim=-1, keepdim=True).masked_fill(~own, -1)  # (B, H, N, 1)
        # The longest keys of each block, by their places in it: (B, H, n, step, 1).
        within = lengths.unflatten(2, (-1, settings.block_size)).topk(settings.step, dim=3).indices
        starts = torch.arange(0, key.shape[2], settings.block_size, device=key.device)  # (n,)
        chosen = (within + starts[:, None, None]).flatten(2, 3)  # (B, H, N / f, 1)
    wide = chosen.expand(-1, -1, -1, key.shape[3])  # (B, H, N / f, D)
    return key.gather(2, wide), value.gather(2, wide), own.expand(-1, heads, -1, -1).gather(2, chosen)


def _band(block: int, reach: int, device: torch.device) -> Tensor:
    """Which of three blocks' keys lie within ``reach`` of a query of the middle one: ``(b, 3 * b)``."""
    keys = torch.arange(-block, 2 * block, device=device)  # (3 * b,), counted from the query's block
    return (torch.arange(block, device=device)[:, None] - keys).abs() <= reach


def _never_empty(mask: Tensor) -> Tensor:
    """Lets queries that see nothing, which are all padding, see everything: a softmax over nothing is not a number."""
    return mask | ~mask.any(-1, keepdim=True)
