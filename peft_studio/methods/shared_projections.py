"""A few trained numbers over frozen random or shared matrices: VeRA, PVeRA, RandLoRA, VB-LoRA, Uni-LoRA, TinyLoRA."""

from typing import Literal

from pydantic import Field

from peft_studio.methods.base import PEFT_COMPARISON, Method, TargetedParams, arxiv, targeted
from peft_studio.methods.layer_widths import TargetedLayers
from peft_studio.methods.rates import measured

_SEEDED = "The random matrices are not stored: they are drawn again from their seed when the adapter is loaded."


class VeraParams(TargetedParams):
    """Parameters of VeRA."""

    name: Literal["vera"] = "vera"
    rank: int = Field(64, ge=1, le=1024, description="Width r of the shared random matrices.")
    initial: float = Field(0.1, ge=0.01, le=1, description="First value of the trained vector d.")


class PveraParams(TargetedParams):
    """Parameters of PVeRA."""

    name: Literal["pvera"] = "pvera"
    rank: int = Field(64, ge=1, le=1024, description="Width r of the shared random matrices.")
    initial: float = Field(0.1, ge=0.01, le=1, description="First value of the trained vector d.")


class RandloraParams(TargetedParams):
    """Parameters of RandLoRA."""

    name: Literal["randlora"] = "randlora"
    rank: int = Field(16, ge=1, le=128, description="Width of each random basis; smaller ones train more numbers.")
    alpha: int = Field(320, ge=1, le=2560, description="The update is scaled by alpha / r.")


class VBLoraParams(TargetedParams):
    """Parameters of VB-LoRA."""

    name: Literal["vblora"] = "vblora"
    rank: int = Field(4, ge=1, le=64, description="Width r of the two matrices made from the bank.")
    vectors: int = Field(64, ge=2, le=2048, description="Vectors h in the bank that all layers share.")
    length: int = Field(64, ge=2, le=512, description="Longest vector; the largest fitting length is used.")


class UniLoraParams(TargetedParams):
    """Parameters of Uni-LoRA."""

    name: Literal["unilora"] = "unilora"
    rank: int = Field(4, ge=1, le=64, description="Width r of the two matrices made from the vector.")
    numbers: int = Field(4096, ge=16, le=1_000_000, description="Length of the one trained vector.")


class TinyLoraParams(TargetedParams):
    """Parameters of TinyLoRA."""

    name: Literal["tinylora"] = "tinylora"
    rank: int = Field(2, ge=1, le=16, description="Singular directions of each weight that may be mixed.")
    numbers: int = Field(64, ge=1, le=4096, description="Trained numbers for each layer.")


def _vera_fields(params: VeraParams | PveraParams, _layers: TargetedLayers) -> dict[str, object]:
    return {"r": params.rank, "d_initial": params.initial, "save_projection": False}


def _randlora_fields(params: RandloraParams, layers: TargetedLayers) -> dict[str, object]:
    rank = min(params.rank, layers.narrowest)
    return {"r": rank, "randlora_alpha": params.alpha, "save_projection": False}


VERA = Method(
    name="vera",
    title="VeRA",
    summary="One pair of frozen random matrices for all layers; each layer trains only two vectors that scale them.",
    idea=(
        "Random matrices are good enough to read and write with, if every layer may scale their rows. VeRA draws one "
        "pair for the whole model and trains two vectors per layer: one for the r inner channels, one for the "
        "outputs.\n\n"
        "The adapter is tiny, since the random matrices need not be stored, and it merges like LoRA."
    ),
    formula=r"h = W x + \Lambda_b B \Lambda_d A x, \qquad A, B \text{ random and frozen}",
    count=r"$\sum (r + m)$ over the chosen layers with $m$ outputs.",
    paper=arxiv("VeRA: Vector-based Random Matrix Adaptation", "Kopiczko, Blankevoort, Asano", 2023, "2310.11454"),
    params=VeraParams,
    rates=measured("vera"), learning_rate_large=1e-2,
    learning_rate_source="https://arxiv.org/abs/2310.11454 (tables 8 to 11: 4e-3 to 2e-2)",
    attach=targeted("VeraConfig", _vera_fields),
    mergeable=True,
    caveat=_SEEDED,
    tags=("random projection", "tiny"),
)  # fmt: skip

PVERA = Method(
    name="pvera",
    title="PVeRA",
    summary="VeRA whose inner channels are random variables with a trained mean and spread.",
    idea=(
        "PVeRA draws the inner representation of each update from a normal distribution whose mean and variance "
        "come from trained vectors, as a variational autoencoder does.\n\n"
        "The noise regularises training. For answers the mean is used, so they are as steady as any other method's."
    ),
    formula=r"h = W x + \Lambda_b B z, \qquad z \sim \mathcal{N}(\mu(x), \sigma(x))",
    count=r"$\sum (2 r + m)$ over the chosen layers with $m$ outputs.",
    paper=arxiv("PVeRA: Probabilistic Vector-Based Random Matrix Adaptation", "Fillioux et al.", 2025, "2512.07703"),
    params=PveraParams,
    rates=measured("pvera"), learning_rate_large=3e-3,
    learning_rate_source=f"{PEFT_COMPARISON} (3e-3)",
    attach=targeted("PveraConfig", _vera_fields),
    tier="research",
    mergeable=True,
    caveat=_SEEDED,
    tags=("random projection", "variational", "tiny"),
)  # fmt: skip

RANDLORA = Method(
    name="randlora",
    title="RandLoRA",
    summary="A full-rank update as a weighted sum of many frozen random low-rank products.",
    idea=(
        "Low rank is what holds LoRA back when a task needs large changes. RandLoRA adds up enough random low-rank "
        "products to reach full rank and trains only how much of each is used.\n\n"
        "All layers share the same random bases, so memory grows with the trained scales only."
    ),
    formula=r"h = W x + \frac{\alpha}{r} \sum_j B_j \Lambda_j A_j \Gamma_j x",
    count=r"$\sum \lceil k / r \rceil\,(r + k)$ over the chosen layers, $k = \min(n, m)$.",
    paper=arxiv(
        "RandLoRA: Full-rank parameter-efficient fine-tuning of large models", "Albert et al.", 2025, "2502.00987"
    ),
    params=RandloraParams,
    rates=measured("randlora"), learning_rate_large=1e-4,
    learning_rate_source=f"{PEFT_COMPARISON} (1e-4, rank 32, alpha 640)",
    attach=targeted("RandLoraConfig", _randlora_fields),
    tier="research",
    mergeable=True,
    caveat=_SEEDED,
    tags=("random projection", "full rank"),
)  # fmt: skip

VBLORA = Method(
    name="vblora",
    title="VB-LoRA",
    summary="LoRA matrices put together from a small bank of vectors that all layers share.",
    idea=(
        "VB-LoRA cuts both matrices of every layer into short vectors and writes each as a mixture of two vectors "
        "from one bank. The bank and the mixing weights train together.\n\n"
        "Because the bank serves all layers, the adapter stays small however deep the model is."
    ),
    formula=r"u_i = \sum_{s \in \text{top-}2} \mathrm{softmax}(\sigma_i)_s\, \alpha_s, \; A, B \text{ made of } u_i",
    count=r"$h\,b + \sum h\,r\,(n + m) / b$ for a bank of $h$ vectors of length $b$.",
    paper=arxiv(
        "VB-LoRA: Extreme Parameter Efficient Fine-Tuning with Vector Banks", "Li, Han, Ji", 2024, "2405.15179"
    ),
    params=VBLoraParams,
    rates=measured("vblora"), learning_rate_large=1e-3,
    learning_rate_source="https://huggingface.co/docs/peft/package_reference/vblora (1e-3 for the bank)",
    attach=targeted("VBLoRAConfig", lambda params, layers: {
        "r": params.rank, "num_vectors": params.vectors, "vector_length": layers.common_divisor(params.length),
    }),
    tier="research",
    mergeable=True,
    caveat="It does not start exactly at the base model: the bank begins with small random vectors.",
    tags=("vector bank", "sharing"),
)  # fmt: skip

UNILORA = Method(
    name="unilora",
    title="Uni-LoRA",
    summary="All LoRA matrices of the model are read from one short trained vector.",
    idea=(
        "Uni-LoRA treats the entries of all LoRA matrices together as one long vector and lets a fixed random "
        "projection make it from a short one. Each entry is simply a scaled copy of one trained number.\n\n"
        "The number of trained values is free to choose, independent of the model's size."
    ),
    formula=r"\theta_D = P\, \theta_d, \qquad P \text{ random with one entry per row}",
    count="The length of the trained vector.",
    paper=arxiv("Uni-LoRA: One Vector is All You Need", "Li et al.", 2025, "2506.00799"),
    params=UniLoraParams,
    rates=measured("unilora"), learning_rate_large=5e-3,
    learning_rate_source="chosen by the project: at 1e-4 it does not learn in PEFT's comparison",
    attach=targeted("UniLoraConfig", lambda params, _: {
        "r": params.rank, "theta_d_length": params.numbers, "save_indices": False,
    }, by_value=True),
    tier="research",
    mergeable=True,
    caveat="It does not start exactly at the base model: the vector begins with small random numbers.",
    tags=("random projection", "tiny", "sharing"),
)  # fmt: skip

TINYLORA = Method(
    name="tinylora",
    title="TinyLoRA",
    summary="A handful of numbers per layer, spread by a frozen random projection over its strongest directions.",
    idea=(
        "TinyLoRA looks at how far fine-tuning can shrink: it keeps the strongest singular directions of each weight "
        "and mixes them by a tiny matrix, which a random projection makes from a few trained numbers.\n\n"
        "It was made for reinforcement learning on large models, where a dozen numbers can be enough; small models "
        "need more of it."
    ),
    formula=r"h = W x + U_r \Sigma_r \Big(\sum_i v_i P_i\Big) V_r^\top x",
    count="The chosen number for every layer.",
    paper=arxiv("Learning to Reason in 13 Parameters", "Morris et al.", 2026, "2602.04118"),
    params=TinyLoraParams,
    rates=measured("tinylora"), learning_rate_large=1e-3,
    learning_rate_source=f"{PEFT_COMPARISON} (1e-3)",
    attach=targeted("TinyLoraConfig", lambda params, _: {
        "r": params.rank, "u": params.numbers, "save_projection": False,
    }),
    tier="research",
    mergeable=True,
    caveat=f"Weak on small models. {_SEEDED}",
    tags=("random projection", "SVD", "tiny"),
)  # fmt: skip
