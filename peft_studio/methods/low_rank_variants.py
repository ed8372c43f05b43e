"""Other updates of low rank: MiSS, DeLoRA, DEFT, GLoRA, PEANuT."""

from typing import Literal

from pydantic import Field

from peft_studio.methods.base import PEFT_COMPARISON, Method, Paper, TargetedParams, arxiv, targeted
from peft_studio.methods.rates import measured


class _RankParams(TargetedParams):
    rank: int = Field(8, ge=1, le=128, description="Width r of the small matrices.")


class MissParams(_RankParams):
    """Parameters of MiSS."""

    name: Literal["miss"] = "miss"
    rank: int = Field(16, ge=1, le=128, description="How many shards each input is cut into.")


class DeloraParams(_RankParams):
    """Parameters of DeLoRA."""

    name: Literal["delora"] = "delora"
    strength: float = Field(15.0, ge=0.5, le=100, description="Length of the update at first; it trains too.")


class DeftParams(_RankParams):
    """Parameters of DEFT."""

    name: Literal["deft"] = "deft"
    projection: Literal["relu", "qr"] = Field("relu", description="How the removed subspace is made.")


class GloraParams(_RankParams):
    """Parameters of GLoRA."""

    name: Literal["glora"] = "glora"


class PeanutParams(_RankParams):
    """Parameters of PEANuT."""

    name: Literal["peanut"] = "peanut"
    depth: int = Field(0, ge=0, le=4, description="Hidden layers of the small network.")


MISS = Method(
    name="miss",
    title="MiSS",
    summary="One small matrix per layer, shared by all shards of its input.",
    idea=(
        "MiSS cuts the input of a layer into shards, adds them up and multiplies the sum with one trained matrix. "
        "There is no second matrix, so memory and time are below LoRA's.\n\n"
        "The matrix starts at zero, and the update can be folded into the weights."
    ),
    formula=r"h = W x + D \sum_{g} x_g, \qquad D \in \mathbb{R}^{m \times r}",
    count=r"$\sum r\,m$ over the chosen layers with $m$ outputs.",
    paper=arxiv(
        "MiSS: Revisiting the Trade-off in LoRA with an Efficient Shard-Sharing Structure",
        "Kang, Yin", 2024, "2409.15371",
    ),
    params=MissParams,
    rates=measured("miss"), learning_rate_large=1e-4,
    learning_rate_source=f"{PEFT_COMPARISON} (1e-4, rank 64)",
    attach=targeted("MissConfig", lambda params, _: {"r": params.rank}),
    tier="more",
    mergeable=True,
    tags=("shards", "Bone"),
)  # fmt: skip

DELORA = Method(
    name="delora",
    title="DeLoRA",
    summary="LoRA with the direction of the update normalised and its strength learnt apart.",
    idea=(
        "DeLoRA normalises every rank-one part of the update and multiplies the whole with one trained strength. "
        "So the update has a bounded length, and angle and strength are learnt apart.\n\n"
        "That makes it robust against long training and learning rates that are too high."
    ),
    formula=r"h = W x + \frac{\lambda \lVert W \rVert}{r} B\, \Xi\, A x, "
    r"\quad \Xi_i = 1 / (\lVert b_i \rVert \lVert a_i \rVert)",
    count=r"$\sum r\,(n + m) + 1$ over the chosen layers.",
    paper=arxiv("Decoupling Angles and Strength in Low-rank Adaptation", "Bini, Girrbach, Akata", 2025, "2503.18225"),
    params=DeloraParams,
    rates=measured("delora"), learning_rate_large=1e-3,
    learning_rate_source=f"{PEFT_COMPARISON} (1e-3, rank 32)",
    attach=targeted("DeloraConfig", lambda params, _: {"r": params.rank, "delora_lambda": params.strength}),
    tier="more",
    mergeable=True,
    tags=("low rank", "normalised"),
)  # fmt: skip

DEFT = Method(
    name="deft",
    title="DEFT",
    summary="Takes a small subspace out of each weight matrix and puts learnt content in its place.",
    idea=(
        "DEFT learns a low-rank projection that removes part of what a layer does, and a matrix that injects "
        "something else into the same directions.\n\n"
        "The injection starts as what was removed, so training begins exactly at the base model."
    ),
    formula=r"h = \big((I - P \tilde P^\top) W + P R\big)\, x",
    count=r"As LoRA: $\sum r\,(n + m)$.",
    paper=Paper(
        "DEFT: Decompositional Efficient Fine-Tuning, as PEFT implements it", "Hugging Face PEFT", 2026,
        "https://github.com/huggingface/peft/tree/main/src/peft/tuners/deft",
    ),
    params=DeftParams,
    rates=measured("deft"), learning_rate_large=1e-4,
    learning_rate_source=f"{PEFT_COMPARISON} (1e-4)",
    attach=targeted("DeftConfig", lambda params, _: {
        "r": params.rank, "decomposition_method": params.projection,
    }),
    tier="research",
    mergeable=True,
    tags=("low rank", "projection"),
)  # fmt: skip

GLORA = Method(
    name="glora",
    title="GLoRA",
    summary="Scales and shifts weights, features and biases at once by several small updates.",
    idea=(
        "Generalized LoRA puts the ideas of several methods into one formula: a low-rank scale and a low-rank shift "
        "of the weights, and terms that act like a prompt and like a bias.\n\n"
        "All of them fold into the layer's weight and bias after training."
    ),
    formula=r"h = (W + W A + B)\, x + C W + D b + E + b",
    count=r"$\sum 2 r\,(n + m)$, and $r\,(n + 1) + 2$ more where a layer has a bias.",
    paper=arxiv(
        "One-for-All: Generalized LoRA for Parameter-Efficient Fine-tuning", "Chavan et al.", 2023, "2306.07967"
    ),
    params=GloraParams,
    rates=measured("glora"), learning_rate_large=1e-4,
    learning_rate_source=f"{PEFT_COMPARISON} (1e-4)",
    attach=targeted("GloraConfig", lambda params, _: {"r": params.rank}),
    tier="research",
    mergeable=True,
    tags=("low rank", "bias"),
)  # fmt: skip

PEANUT = Method(
    name="peanut",
    title="PEANuT",
    summary="A small network reads the frozen weights and writes their change.",
    idea=(
        "PEANuT computes the update from the weights themselves: it passes each frozen matrix through a thin "
        "two-layer network with a non-linearity and adds the result.\n\n"
        "The update knows what it changes, and is still a plain matrix that can be merged."
    ),
    formula=r"\Delta W = \sigma(W A)\, B",
    count=r"$\sum 2 r\,m$ over the chosen layers with $m$ outputs, without hidden layers.",
    paper=arxiv(
        "PEANuT: Parameter-Efficient Adaptation with Weight-aware Neural Tweakers", "Zhong et al.", 2024, "2410.01870"
    ),
    params=PeanutParams,
    rates=measured("peanut"), learning_rate_large=1e-4,
    learning_rate_source=f"{PEFT_COMPARISON} (1e-4)",
    attach=targeted("PeanutConfig", lambda params, _: {"r": params.rank, "depth": params.depth}),
    tier="research",
    mergeable=True,
    tags=("weight-aware", "non-linear"),
)  # fmt: skip
