"""Methods that train few single entries: SHiRA, Super-Tuning, and BEFT's one bias."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from peft_studio.methods.base import Method, Params, Site, TargetedParams, arxiv, configure, wrap, wrap_by_value
from peft_studio.methods.layer_widths import TargetedLayers
from peft_studio.methods.rates import measured

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn
    from transformers import PreTrainedModel

_SEED = 42


class ShiraParams(TargetedParams):
    """Parameters of SHiRA."""

    name: Literal["shira"] = "shira"
    rank: int = Field(8, ge=1, le=128, description="As many entries train as LoRA of this rank has numbers.")


class SuperParams(TargetedParams):
    """Parameters of Super-Tuning."""

    name: Literal["supertuning"] = "supertuning"
    percent: float = Field(2.0, ge=0.1, le=50, description="Percentage of each matrix that trains.")
    largest: bool = Field(True, description="Train the entries of largest magnitude instead of the smallest.")


class BeftParams(Params):
    """BEFT has nothing to choose."""

    name: Literal["beft"] = "beft"


def _random_mask(layer: "nn.Module", r: int, **_: object) -> "Tensor":
    """A mask of ``r (n + m)`` ones at places that depend on the layer's shape and the seed only."""
    import torch

    weight: Any = layer.weight
    if weight.is_meta:  # only the number of ones counts there
        return torch.ones(r, sum(weight.shape), device="cpu")
    generator = torch.Generator("cpu").manual_seed(_SEED)
    chosen = torch.randperm(weight.numel(), generator=generator, device="cpu")[: r * sum(weight.shape)]
    mask = torch.zeros(weight.numel(), device="cpu")
    mask[chosen] = 1
    return mask.view(weight.shape).to(weight.device)


def _attach_shira(model: "PreTrainedModel", params: ShiraParams, site: Site) -> "PeftModel":
    targets = site.chosen(params.targets)
    most = min(rows * columns // (rows + columns) for rows, columns in TargetedLayers(model, targets).shapes)
    fields: dict[str, Any] = {"r": min(params.rank, most), "mask_type": "random", "random_seed": _SEED}
    config = configure(site, "ShiraConfig", target_modules=targets, **fields)
    config.mask_fn = _random_mask
    return wrap_by_value(model, config)


def _attach_super(model: "PreTrainedModel", params: SuperParams, site: Site) -> "PeftModel":
    fields = {"sparsity": 1 - params.percent / 100, "select_top": params.largest}
    return wrap(model, site, "SupertuningConfig", target_modules=site.chosen(params.targets), **fields)


def _attach_beft(model: "PreTrainedModel", params: BeftParams, site: Site) -> "PeftModel":
    layout = site.layout
    values = layout.key_value[1::2] if len(layout.key_value) > 1 else layout.key_value
    return wrap(model, site, "BeftConfig", target_modules=layout.within_blocks(values))


SHIRA = Method(
    name="shira",
    title="SHiRA",
    summary="Trains a random 1 or 2 percent of every weight matrix and leaves all other entries.",
    idea=(
        "Instead of a dense low-rank update, SHiRA changes few entries of the matrix itself, at random places. The "
        "change is sparse but of high rank.\n\n"
        "Adapters of this kind can be switched by overwriting a few numbers, and several of them hardly collide."
    ),
    formula=r"h = (W + S)\, x, \qquad S \text{ sparse with } r\,(n + m) \text{ entries}",
    count=r"As LoRA: $\sum r\,(n + m)$.",
    paper=arxiv("Sparse High Rank Adapters", "Bhardwaj et al.", 2024, "2406.13175"),
    params=ShiraParams,
    rates=measured("shira"), learning_rate_large=3e-4,
    learning_rate_source="https://github.com/huggingface/peft/tree/main/method_comparison (3e-4, rank 32)",
    attach=_attach_shira,
    tier="more",
    mergeable=True,
    caveat="The file also holds the places of the entries, so it is about three times as large as LoRA's.",
    tags=("sparse", "high rank"),
)  # fmt: skip

SUPERTUNING = Method(
    name="supertuning",
    title="Super-Tuning",
    summary="Trains the largest entries of every weight matrix and leaves all others.",
    idea=(
        "The few weights of largest magnitude carry much of what a matrix does. Super-Tuning trains only those, or "
        "on request only the smallest.\n\n"
        "Which entries train follows from the base model alone, so no data are needed to choose them."
    ),
    formula=r"h = (W + S)\, x, \qquad S \neq 0 \text{ only where } |W| \text{ is among the largest}",
    count=r"$\sum \lfloor (1 - s)\, n\,m \rfloor$ for sparsity $s$.",
    paper=arxiv(
        "Super-Tuning: From Activation-Aware Pruning to Sparse Fine-Tuning", "arXiv:2607.09287", 2026, "2607.09287"
    ),
    params=SuperParams,
    rates=measured("supertuning"), learning_rate_large=1e-4,
    learning_rate_source="PEFT's default training parameters (1e-4)",
    attach=_attach_super,
    tier="research",
    mergeable=True,
    caveat="The file also holds the places of the entries.",
    tags=("sparse", "magnitude"),
)  # fmt: skip

BEFT = Method(
    name="beft",
    title="BEFT",
    summary="Trains one added bias: that of the value projections.",
    idea=(
        "BitFit trains every bias and needs a model that has them. BEFT adds a trained bias to the value projection "
        "of each attention only, which was found to matter most.\n\n"
        "It works on bias-free models such as Llama too, with a few hundred numbers per layer."
    ),
    formula=r"v = W_v x + b_v, \qquad \text{only } b_v \text{ trained}",
    count=r"$\sum m$ over the value projections with $m$ outputs (of the joint projection where there is one).",
    paper=arxiv(
        "BEFT: Bias-Efficient Fine-Tuning of Language Models", "Huang, Balashankar, Aminifar", 2025, "2509.15974"
    ),
    params=BeftParams,
    rates=measured("beft"), learning_rate_large=1e-3,
    learning_rate_source="chosen by the project: PEFT's comparison trains it at 1e-4",
    attach=_attach_beft,
    tier="research",
    caveat="Weak on small models. It can be merged only where the value projection has a bias already.",
    tags=("bias", "tiny"),
)  # fmt: skip
