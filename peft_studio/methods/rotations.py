"""Methods that turn weights instead of adding to them: OFT, BOFT, HRA, RoAd, PSOFT."""

from typing import Literal

from pydantic import Field

from peft_studio.methods.base import PEFT_COMPARISON, Method, TargetedParams, arxiv, targeted
from peft_studio.methods.layer_widths import TargetedLayers
from peft_studio.methods.rates import measured


class OftParams(TargetedParams):
    """Parameters of OFT."""

    name: Literal["oft"] = "oft"
    block: int = Field(32, ge=2, le=256, description="Largest rotated block; the largest fitting size is used.")


class BoftParams(TargetedParams):
    """Parameters of BOFT."""

    name: Literal["boft"] = "boft"
    block: int = Field(4, ge=2, le=64, description="Largest rotated block; the largest fitting size is used.")


class HraParams(TargetedParams):
    """Parameters of HRA."""

    name: Literal["hra"] = "hra"
    rank: int = Field(8, ge=2, le=64, multiple_of=2, description="How many mirrors stand one behind the other.")


class RoadParams(TargetedParams):
    """Parameters of RoAd."""

    name: Literal["road"] = "road"
    variant: Literal["road_1", "road_2", "road_4"] = Field(
        "road_2", description="How many numbers each rotated pair of outputs has: one, two or four."
    )
    group: int = Field(64, ge=2, le=256, description="Outputs are paired within groups of at most this size.")


class PsoftParams(TargetedParams):
    """Parameters of PSOFT."""

    name: Literal["psoft"] = "psoft"
    rank: int = Field(32, ge=2, le=256, description="Width of the principal subspace that is rotated.")


def _boft_fields(params: BoftParams, layers: TargetedLayers) -> dict[str, object]:
    import peft_studio.methods.boft_permutation  # noqa: F401  otherwise it takes minutes

    return {"boft_block_size": layers.common_divisor(params.block, even=True)}


def _psoft_fields(params: PsoftParams, layers: TargetedLayers) -> dict[str, object]:
    rank = min(params.rank, layers.narrowest)
    return {"r": rank, "psoft_alpha": rank}


OFT = Method(
    name="oft",
    title="OFT",
    summary="Rotates the inputs of every layer, block by block, without stretching them.",
    idea=(
        "Angles between neurons carry what a model has learnt. Orthogonal fine-tuning keeps them: it multiplies each "
        "weight matrix with a trained rotation, made of small blocks on the diagonal.\n\n"
        "Rotations cannot blow weights up, so training is steady and forgets little."
    ),
    formula=r"h = W R\, x, \qquad R = \mathrm{diag}(R_1, \dots, R_k),\; R_i^\top R_i = I",
    count=r"$\sum n\,(b - 1) / 2$ over the chosen layers with $n$ inputs and blocks of size $b$.",
    paper=arxiv("Controlling Text-to-Image Diffusion by Orthogonal Finetuning", "Qiu et al.", 2023, "2306.07280"),
    params=OftParams,
    rates=measured("oft"), learning_rate_large=5e-4,
    learning_rate_source=f"{PEFT_COMPARISON} (1e-4 to 1e-3)",
    # Exact rotations: PEFT's quick series of five terms stops turning and starts stretching where blocks turn far.
    attach=targeted("OFTConfig", lambda params, layers: {
        "oft_block_size": layers.common_divisor(params.block), "use_cayley_neumann": False,
    }),
    tier="more",
    mergeable=True,
    tags=("orthogonal", "rotation"),
)  # fmt: skip

BOFT = Method(
    name="boft",
    title="BOFT",
    summary="Orthogonal fine-tuning whose rotation is a butterfly of sparse factors.",
    idea=(
        "The fast Fourier transform mixes all inputs in a few sparse steps. BOFT builds its rotation from such "
        "butterfly factors and reaches dense rotations with fewer parameters than one large block.\n\n"
        "It is about three times as slow per step as LoRA on a CPU."
    ),
    formula=r"h = s \odot \Big(W \prod_i \tilde R_i\Big)\, x",
    count=r"$\sum (n\,b\,f + m)$ for blocks of size $b$ and $f$ butterfly factors (here 1).",
    paper=arxiv(
        "Parameter-Efficient Orthogonal Finetuning via Butterfly Factorization", "Liu et al.", 2023, "2311.06243"
    ),
    params=BoftParams,
    rates=measured("boft"), learning_rate_large=1e-4,
    learning_rate_source=f"{PEFT_COMPARISON} (1e-4)",
    attach=targeted("BOFTConfig", _boft_fields),
    tier="more",
    mergeable=True,
    caveat="Slow: about three times the time of LoRA per step.",
    tags=("orthogonal", "butterfly"),
)  # fmt: skip

HRA = Method(
    name="hra",
    title="HRA",
    summary="Mirrors the inputs of every layer by a chain of trained Householder reflections.",
    idea=(
        "A reflection is an orthogonal map given by one vector. A chain of r reflections turns the inputs of a "
        "layer, and at the same time is a low-rank change of its weights.\n\n"
        "So Householder reflection adaptation stands between LoRA and orthogonal fine-tuning: few parameters, and "
        "lengths are kept."
    ),
    formula=r"h = W \prod_{i=1}^{r} \Big(I - 2\, \frac{u_i u_i^\top}{\lVert u_i \rVert^2}\Big)\, x",
    count=r"$\sum r\,n$ over the chosen layers with $n$ inputs.",
    paper=arxiv(
        "Bridging The Gap between Low-rank and Orthogonal Adaptation via Householder Reflection Adaptation",
        "Yuan, Liu, Xu", 2024, "2405.17484",
    ),
    params=HraParams,
    rates=measured("hra"), learning_rate_large=1e-3,
    learning_rate_source="chosen by the project",
    attach=targeted("HRAConfig", lambda params, _: {"r": params.rank}),
    tier="more",
    mergeable=True,
    caveat="Slow: about twice the time of LoRA per step.",
    tags=("orthogonal", "reflection"),
)  # fmt: skip

ROAD = Method(
    name="road",
    title="RoAd",
    summary="Turns and stretches the outputs of every layer in pairs.",
    idea=(
        "RoAd pairs the outputs of a layer and applies a trained 2-D rotation and scale to every pair. That is an "
        "element-wise operation, so rows of one batch may use different adapters at nearly no cost.\n\n"
        "It needs as few parameters as (IA)³ and can still be folded into the weights."
    ),
    formula=r"h = R\, W x, \qquad R = \mathrm{diag}\!\left(\alpha_i "
    r"\begin{bmatrix}\cos\theta_i & -\sin\theta_i \\ \sin\theta_i & \cos\theta_i\end{bmatrix}\right)",
    count=r"$\sum m$ over the chosen layers with $m$ outputs for road_1, twice or four times that for the others.",
    paper=arxiv(
        "3-in-1: 2D Rotary Adaptation for Efficient Finetuning, Efficient Batching and Composability",
        "Liao, Monz", 2024, "2409.00119",
    ),
    params=RoadParams,
    rates=measured("road"), learning_rate_large=1e-3,
    learning_rate_source=f"{PEFT_COMPARISON} (1e-3)",
    attach=targeted("RoadConfig", lambda params, layers: {
        "variant": params.variant, "group_size": layers.common_divisor(params.group, even=True),
    }),
    tier="more",
    mergeable=True,
    mixed_batch=True,
    tags=("rotation", "tiny"),
)  # fmt: skip

PSOFT = Method(
    name="psoft",
    title="PSOFT",
    summary="Rotates only the principal subspace of every weight matrix.",
    idea=(
        "Most of a weight matrix's strength lies in a few singular directions. PSOFT rotates within that subspace, "
        "with two vectors that scale it, and leaves the rest alone.\n\n"
        "A small rotation is cheap, and the geometry of the important directions is kept."
    ),
    formula=r"h = \big(W_\text{res} + A\, \beta\, R\, \alpha\, B\big)\, x, \qquad A B \approx W,\; R^\top R = I",
    count=r"$\sum r (r - 1) / 2 + 2 r$.",
    paper=arxiv(
        "Efficient Orthogonal Fine-Tuning with Principal Subspace Adaptation", "Wu, Hu, Min, Wang", 2025, "2505.11235"
    ),
    params=PsoftParams,
    rates=measured("psoft"), learning_rate_large=1e-4,
    learning_rate_source=f"{PEFT_COMPARISON} (1e-4)",
    attach=targeted("PsoftConfig", _psoft_fields),
    tier="research",
    mergeable=True,
    tags=("orthogonal", "SVD", "tiny"),
)  # fmt: skip
