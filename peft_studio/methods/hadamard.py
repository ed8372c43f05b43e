"""Updates of high rank from small matrices by products: HiRA, LoHa, LoKr, GraLoRA."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from peft_studio.methods.base import Method, Paper, Site, TargetedParams, arxiv, wrap
from peft_studio.methods.layer_widths import common_divisor
from peft_studio.methods.lora import LowRankParams

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

_COMPARISON = "https://github.com/huggingface/peft/tree/main/method_comparison"


class HiraParams(TargetedParams):
    """Parameters of HiRA."""

    name: Literal["hira"] = "hira"
    rank: int = Field(16, ge=1, le=128, description="Width r of the two small matrices.")
    dropout: float = Field(0.0, ge=0, le=0.5, description="Dropout on the update's input.")


class LohaParams(TargetedParams):
    """Parameters of LoHa."""

    name: Literal["loha"] = "loha"
    rank: int = Field(8, ge=1, le=128, description="Width r of the four small matrices.")
    alpha: int = Field(16, ge=1, le=256, description="The update is scaled by alpha / r.")


class LokrParams(TargetedParams):
    """Parameters of LoKr."""

    name: Literal["lokr"] = "lokr"
    rank: int = Field(16, ge=1, le=128, description="Rank of the larger factor, where that makes it smaller.")
    alpha: int = Field(32, ge=1, le=256, description="The update is scaled by alpha / r.")
    factor: int = Field(4, ge=2, le=64, description="Size of the smaller Kronecker factor.")


class GraloraParams(LowRankParams):
    """Parameters of GraLoRA."""

    name: Literal["gralora"] = "gralora"
    pieces: int = Field(2, ge=1, le=8, description="Each matrix is cut into this many times this many blocks at most.")


def _attach_hira(model: "PreTrainedModel", params: HiraParams, site: Site) -> "PeftModel":
    targets = site.chosen(params.targets)
    return wrap(model, site, "HiraConfig", r=params.rank, hira_dropout=params.dropout, target_modules=targets)


def _attach_loha(model: "PreTrainedModel", params: LohaParams, site: Site) -> "PeftModel":
    targets = site.chosen(params.targets)
    return wrap(model, site, "LoHaConfig", r=params.rank, alpha=params.alpha, target_modules=targets)


def _attach_lokr(model: "PreTrainedModel", params: LokrParams, site: Site) -> "PeftModel":
    targets = site.chosen(params.targets)
    sizes = {"r": params.rank, "alpha": params.alpha, "decompose_factor": params.factor}
    return wrap(model, site, "LoKrConfig", target_modules=targets, **sizes)


def _attach_gralora(model: "PreTrainedModel", params: GraloraParams, site: Site) -> "PeftModel":
    targets = site.chosen(params.targets)
    fits = common_divisor(model, targets, params.pieces)
    pieces = max(number for number in range(1, fits + 1) if fits % number == 0 and params.rank % number == 0)
    sizes = {"r": params.rank, "alpha": params.alpha, "gralora_dropout": params.dropout, "gralora_k": pieces}
    return wrap(model, site, "GraloraConfig", target_modules=targets, **sizes)


HIRA = Method(
    name="hira",
    title="HiRA",
    summary="A low-rank product multiplied, element by element, with the frozen weights: an update of high rank.",
    idea=(
        "A low-rank update can only change a matrix in a few directions. HiRA multiplies the product of two thin "
        "matrices with the frozen weight itself, entry by entry, and the result can have full rank.\n\n"
        "It costs as many parameters as LoRA and merges in the same way. The frozen weights shape the update: where "
        "they are zero, nothing changes."
    ),
    formula=r"h = \big(W + W \odot (B A)\big)\, x",
    count=r"As LoRA: $\sum r\,(n + m)$.",
    paper=Paper(
        "HiRA: Parameter-Efficient Hadamard High-Rank Adaptation for Large Language Models", "Huang et al.", 2025,
        "https://openreview.net/forum?id=TwJrTz9cRS",
    ),
    params=HiraParams,
    learning_rate=3e-2,
    learning_rate_large=4.5e-3,
    learning_rate_source=f"{_COMPARISON} (4.5e-3, rank 32)",
    attach=_attach_hira,
    mergeable=True,
    tags=("Hadamard", "high rank"),
)  # fmt: skip

LOHA = Method(
    name="loha",
    title="LoHa",
    summary="An update that is the element-wise product of two low-rank products.",
    idea=(
        "Multiplying two rank-r matrices entry by entry gives a matrix of rank up to r². LoHa builds its update that "
        "way from four thin matrices.\n\n"
        "With the same number of parameters as LoRA of twice the rank, it reaches more directions; it comes from "
        "federated learning and became popular for image models."
    ),
    formula=r"h = W x + \frac{\alpha}{r} \big[(B_1 A_1) \odot (B_2 A_2)\big] x",
    count=r"$\sum 2 r\,(n + m)$.",
    paper=arxiv(
        "FedPara: Low-Rank Hadamard Product for Communication-Efficient Federated Learning",
        "Hyeon-Woo, Ye-Bin, Oh", 2021, "2108.06098",
    ),
    params=LohaParams,
    learning_rate=1e-2,
    learning_rate_large=5e-4,
    learning_rate_source=f"{_COMPARISON} (1e-4 to 1e-3)",
    attach=_attach_loha,
    tier="more",
    mergeable=True,
    tags=("Hadamard", "LyCORIS"),
)  # fmt: skip

LOKR = Method(
    name="lokr",
    title="LoKr",
    summary="An update that is the Kronecker product of a small matrix and a larger, possibly low-rank one.",
    idea=(
        "The Kronecker product puts a scaled copy of one matrix at every entry of another. Two small factors make "
        "an update of any size, often of full rank.\n\n"
        "LoKr saves parameters where a layer's change repeats a pattern, and the larger factor is itself low-rank "
        "when that is smaller."
    ),
    formula=r"h = W x + \frac{\alpha}{r}\, (C \otimes B A)\, x",
    count="The entries of both factors, the larger as a low-rank product where that has fewer.",
    paper=arxiv(
        "Navigating Text-To-Image Customization: From LyCORIS Fine-Tuning to Model Evaluation",
        "Yeh et al.", 2023, "2309.14859",
    ),
    params=LokrParams,
    learning_rate=1e-2,
    learning_rate_large=3e-3,
    learning_rate_source=f"{_COMPARISON} (3e-3, rank 32)",
    attach=_attach_lokr,
    tier="more",
    mergeable=True,
    tags=("Kronecker", "LyCORIS"),
)  # fmt: skip

GRALORA = Method(
    name="gralora",
    title="GraLoRA",
    summary="LoRA on a grid: every block of a weight matrix has a small update of its own.",
    idea=(
        "At higher ranks plain LoRA stops getting better, because a few strong input channels dominate the gradient "
        "of the whole matrix. GraLoRA cuts it into a grid of blocks and gives each a small update of its own.\n\n"
        "The number of parameters stays that of LoRA, while the rank of the whole can be several times larger."
    ),
    formula=r"\Delta W_{ij} = \frac{\alpha}{r} B_{ij} A_{ij}, \qquad i, j = 1, \dots, k",
    count=r"As LoRA: $\sum r\,(n + m)$.",
    paper=arxiv(
        "GraLoRA: Granular Low-Rank Adaptation for Parameter-Efficient Fine-Tuning", "Jung et al.", 2025, "2505.20355"
    ),
    params=GraloraParams,
    learning_rate=1e-2,
    learning_rate_large=2e-4,
    learning_rate_source=f"{_COMPARISON} (2e-4, rank 32)",
    attach=_attach_gralora,
    mergeable=True,
    tags=("low rank", "blocks"),
)  # fmt: skip
