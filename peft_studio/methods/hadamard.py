"""Updates of high rank from small matrices by products: HiRA, LoHa, LoKr, GraLoRA."""

import math
from typing import Literal

from pydantic import Field

from peft_studio.methods.base import PEFT_COMPARISON, Method, Paper, TargetedParams, arxiv, targeted
from peft_studio.methods.layer_widths import TargetedLayers
from peft_studio.methods.lora import LowRankParams
from peft_studio.methods.rates import measured


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


def _gralora_fields(params: GraloraParams, layers: TargetedLayers) -> dict[str, object]:
    pieces = math.gcd(layers.common_divisor(params.pieces), params.rank)
    return {"r": params.rank, "alpha": params.alpha, "gralora_dropout": params.dropout, "gralora_k": pieces}


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
    rates=measured("hira"), learning_rate_large=4.5e-3,
    learning_rate_source=f"{PEFT_COMPARISON} (4.5e-3, rank 32)",
    attach=targeted("HiraConfig", lambda params, _: {"r": params.rank, "hira_dropout": params.dropout}),
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
    rates=measured("loha"), learning_rate_large=5e-4,
    learning_rate_source=f"{PEFT_COMPARISON} (1e-4 to 1e-3)",
    attach=targeted("LoHaConfig", lambda params, _: {"r": params.rank, "alpha": params.alpha}),
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
    rates=measured("lokr"), learning_rate_large=3e-3,
    learning_rate_source=f"{PEFT_COMPARISON} (3e-3, rank 32)",
    attach=targeted("LoKrConfig", lambda params, _: {
        "r": params.rank, "alpha": params.alpha, "decompose_factor": params.factor,
    }),
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
    rates=measured("gralora"), learning_rate_large=2e-4,
    learning_rate_source=f"{PEFT_COMPARISON} (2e-4, rank 32)",
    attach=targeted("GraloraConfig", _gralora_fields),
    mergeable=True,
    tags=("low rank", "blocks"),
)  # fmt: skip
