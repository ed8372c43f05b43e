"""What methods bring that is no change of weights: soft prompts, prefixes, scales, added biases, small networks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peft_studio.models.layouts import Layout
from peft_studio.training import Model
from peft_studio.training.formats.target_logits import base_of
from peft_studio.training.inspection.change_map import MOST_MOVED, place_of

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

NEAREST = 5  # tokens that are told of a vector
Inputs = Mapping[str, Tensor]


def nearest_tokens(model: "PeftModel", tokenizer: "PreTrainedTokenizerBase") -> list[dict[str, Any]]:
    """The vectors of a soft prompt, each with the tokens that it points to: the largest cosines to their embeddings.

    Returns:
        For each vector ``norm`` (over the mean norm of an embedding) and ``tokens`` (``text`` and ``cosine``).
    """
    prompts = model.get_prompt(batch_size=1)[0].detach().float()  # (P, d)
    table = base_of(model).get_input_embeddings().weight.detach().float()  # (V, d)
    cosines = F.normalize(prompts, dim=1) @ F.normalize(table, dim=1).T  # (P, V)
    usual = float(table.norm(dim=1).mean())
    found = []
    for vector, row in zip(prompts, cosines, strict=True):
        best = row.topk(NEAREST)
        told = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        tokens = [{"text": tokenizer.decode([token]), "cosine": cosine} for token, cosine in told]
        found.append({"norm": float(vector.norm()) / usual, "tokens": tokens})
    return found


def scales(model: "PeftModel", layout: Layout) -> list[dict[str, Any]]:
    """(IA)3's factors, each layer's with its range, how many differ from 1 by more than a tenth, and the farthest."""
    from peft.tuners.ia3 import IA3Layer

    found = []
    for name, module in base_of(model).named_modules():
        if isinstance(module, IA3Layer):
            factors = module.ia3_l[model.active_adapter].detach().float().flatten()  # (n,)
            far = (factors - 1).abs()
            most = far.topk(min(MOST_MOVED, len(factors))).indices.tolist()
            found.append({
                "name": name, **place_of(name, layout), "inputs": bool(module.is_feedforward), "size": len(factors),
                "least": float(factors.min()), "mean": float(factors.mean()), "most": float(factors.max()),
                "moved": int((far > 0.1).sum()),
                "farthest": [{"entry": entry, "factor": float(factors[entry])} for entry in most],
            })  # fmt: skip
    return found


def added_biases(model: "PeftModel", layout: Layout) -> list[dict[str, Any]]:
    """BEFT's biases beside what the layers had: ``added`` and ``own`` norms (None without one) and the largest."""
    from peft.tuners.beft import BeftLayer

    found = []
    for name, module in base_of(model).named_modules():
        if isinstance(module, BeftLayer):
            bias = module.beft_bias[model.active_adapter].detach().float().flatten()  # (n,)
            own = getattr(module.get_base_layer(), "bias", None)
            most = bias.abs().topk(min(MOST_MOVED, len(bias))).indices.tolist()
            found.append({
                "name": name, **place_of(name, layout), "size": len(bias), "added": float(bias.norm()),
                "own": None if own is None else float(own.norm()),
                "largest": [{"entry": entry, "value": float(bias[entry])} for entry in most],
            })  # fmt: skip
    return found


@dataclass
class _Sum:
    """Of what one network added, over tokens."""

    added: float = 0.0
    stream: float = 0.0
    ratio: float = 0.0
    tokens: int = 0
    place: dict[str, Any] = field(default_factory=dict)


def bottlenecks(model: "PeftModel", layout: Layout, batches: Sequence[Inputs]) -> list[dict[str, Any]]:
    """What small networks add at each place, beside the stream of hidden states that enters the block.

    Returns:
        For each network its place, ``added`` and ``stream`` (mean norms over tokens), and ``ratio``, the mean over
        tokens of one over the other; nothing for other methods.
    """
    from peft_studio.methods.bottleneck_tuner import BottleneckLayer

    base, streams = base_of(model), dict[str, Tensor]()
    layers = {name: module for name, module in base.named_modules() if isinstance(module, BottleneckLayer)}
    sums = {name: _Sum(place=place_of(name, layout)) for name in layers}
    if not layers:
        return []

    def enter(block: str) -> Callable[..., None]:
        def note(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            streams[block] = hidden.detach().float().flatten(0, -2).norm(dim=-1)  # (B * T,)

        return note

    def leave(name: str, block: str) -> Callable[..., None]:
        def note(_module: nn.Module, _args: object, output: Tensor) -> None:
            size = output.detach().float().flatten(0, -2).norm(dim=-1)  # (B * T,)
            sums[name].added += float(size.sum())
            sums[name].stream += float(streams[block].sum())
            sums[name].ratio += float((size / streams[block].clamp(min=1e-12)).sum())
            sums[name].tokens += len(size)

        return note

    with ExitStack() as hooks:
        for name, layer in layers.items():
            stack, block, _ = layout.block_of(name) or (0, 0, "")
            path = f"{layout.blocks[stack]}.{block}"
            hooks.callback(base.get_submodule(path).register_forward_pre_hook(enter(path), with_kwargs=True).remove)
            network = layer.bottleneck_net[model.active_adapter]
            hooks.callback(network.register_forward_hook(leave(name, path)).remove)
        with torch.inference_mode():
            for batch in batches:
                model(**batch)
    return [
        {"name": name, **one.place, **{key: getattr(one, key) / one.tokens for key in ("added", "stream", "ratio")}}
        for name, one in sums.items()
    ]


@contextmanager
def _visible_attention(model: Model) -> Iterator[None]:
    """Has a model compute attention such that it can be looked at."""
    base = base_of(model)
    before = base.config._attn_implementation
    base.set_attn_implementation("eager")
    try:
        yield
    finally:
        base.set_attn_implementation(before)


def _attention(model: Model, batch: Inputs, virtual: int, decoder: bool) -> list[Tensor]:
    """Each layer's attention ``(H, T, S)`` of one row, from its own tokens; virtual positions are among ``S`` only."""
    output = model(**batch, output_attentions=True)
    maps = output.get("attentions") or output.get("decoder_attentions" if decoder else "encoder_attentions") or ()
    return [layer[0, :, -(layer.shape[-1] - virtual) :].float() for layer in maps]


def attention_changes(
    model: "PeftModel", base: Model, batches: Sequence[Inputs], in_decoder: bool
) -> list[list[dict[str, float]]]:
    """What virtual tokens do to attention, per layer and head, as means over the tokens of a few rows.

    Args:
        model: With a soft prompt or a prefix.
        base: The same model without.
        batches: Of one row each.
        in_decoder: Whether it is the decoder of an encoder-decoder whose attention sees them.

    Returns:
        For each layer and head ``to_virtual``, the share of attention that goes to virtual tokens, and ``moved``, the
        total variation distance (0 to 1) of the attention among the text's own tokens before and after, once the
        virtual tokens' share is left out: 0 in the first layer, and by Petrov et al. (arXiv 2310.19698) whatever a
        prefix does to it alone. Empty where a model does not show its attention.
    """
    virtual = model.active_peft_config.num_virtual_tokens
    sums: Tensor | None = None
    with torch.inference_mode(), _visible_attention(model), _visible_attention(base):
        for batch in batches:
            after = _attention(model, batch, virtual, in_decoder)
            before = _attention(base, batch, 0, in_decoder)
            if not after or not before:
                return []
            found = torch.stack([_compared(one, other, virtual) for one, other in zip(after, before, strict=True)])
            sums = found if sums is None else sums + found  # (L, H, 2)
    if sums is None:
        return []
    return [
        [{"to_virtual": share, "moved": moved} for share, moved in layer] for layer in (sums / len(batches)).tolist()
    ]


def _compared(after: Tensor, before: Tensor, virtual: int) -> Tensor:
    """``(H, 2)``: the share of virtual tokens, and the distance of the rest."""
    share = after[..., :virtual].sum(-1)  # (H, T)
    rest = after[..., virtual:] / after[..., virtual:].sum(-1, keepdim=True).clamp(min=1e-12)  # (H, T, T)
    distance = (rest - before).abs().sum(-1) / 2  # (H, T)
    return torch.stack([share.mean(-1), distance.mean(-1)], -1)
