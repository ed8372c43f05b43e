"""Updates given by few numbers in a transformed space: C3A, FourierFT, WaveFT."""

from typing import Literal

from pydantic import Field

from peft_studio.methods.base import PEFT_COMPARISON, Method, TargetedParams, arxiv, targeted
from peft_studio.methods.rates import measured


class C3AParams(TargetedParams):
    """Parameters of C3A."""

    name: Literal["c3a"] = "c3a"
    block: int = Field(64, ge=2, le=512, description="Largest circulant block; the largest fitting size is used.")


class FourierParams(TargetedParams):
    """Parameters of FourierFT."""

    name: Literal["fourierft"] = "fourierft"
    frequencies: int = Field(1000, ge=1, le=100_000, description="Trained coefficients for each layer.")
    scaling: float = Field(150.0, ge=1, le=1000, description="Scale of the update.")


class WaveParams(TargetedParams):
    """Parameters of WaveFT."""

    name: Literal["waveft"] = "waveft"
    coefficients: int = Field(2000, ge=1, le=100_000, description="Trained coefficients for each layer.")
    scaling: float = Field(25.0, ge=1, le=1000, description="Scale of the update.")


C3A = Method(
    name="c3a",
    title="C³A",
    summary="Adds circular convolutions, block by block: a high-rank update from few numbers.",
    idea=(
        "A circulant matrix is given by its first row, and multiplying with it is a convolution, fast by Fourier "
        "transform. C³A builds its update from circulant blocks.\n\n"
        "Such an update can have full rank although it holds only one number for every entry of a block's first row."
    ),
    formula=r"h = W x + \mathrm{block\,circ}(w)\, x",
    count=r"$\sum n\,m / b$ over the chosen layers, $b$ being the block's size.",
    paper=arxiv("Parameter-Efficient Fine-Tuning via Circular Convolution", "Chen et al.", 2024, "2407.19342"),
    params=C3AParams,
    rates=measured("c3a"), learning_rate_large=1e-1,
    learning_rate_source="https://huggingface.co/docs/peft/package_reference/c3a (large rates, 1e-1 to 3e-1)",
    attach=targeted("C3AConfig", lambda params, layers: {
        "block_size": layers.common_divisor(params.block), "init_weights": True,
    }),
    tier="more",
    mergeable=True,
    tags=("convolution", "Fourier", "high rank"),
)  # fmt: skip

FOURIERFT = Method(
    name="fourierft",
    title="FourierFT",
    summary="Learns a few Fourier coefficients of every weight's change.",
    idea=(
        "A picture can be described by few frequencies. FourierFT treats the change of a weight matrix as a picture: "
        "it picks random positions in the frequency plane, once for all layers, and trains the coefficients there.\n\n"
        "The inverse transform spreads them over the whole matrix."
    ),
    formula=r"\Delta W = \alpha\, \mathrm{Re}\, \mathcal{F}^{-1}(\mathrm{sparse}(c))",
    count="The chosen number of coefficients for every layer.",
    paper=arxiv("Parameter-Efficient Fine-Tuning with Discrete Fourier Transform", "Gao et al.", 2024, "2405.03003"),
    params=FourierParams,
    rates=measured("fourierft"), learning_rate_large=3e-3,
    learning_rate_source="https://arxiv.org/abs/2405.03003 (3e-3 for instruction tuning, up to 1e-1 on GLUE)",
    attach=targeted("FourierFTConfig", lambda params, layers: {
        "n_frequency": min(params.frequencies, layers.smallest), "scaling": params.scaling, "init_weights": True,
    }),
    tier="research",
    mergeable=True,
    tags=("Fourier", "sparse"),
)  # fmt: skip

WAVEFT = Method(
    name="waveft",
    title="WaveFT",
    summary="Learns a few wavelet coefficients of every weight's change.",
    idea=(
        "Wavelets describe a matrix by local patterns of several sizes. WaveFT trains a sparse set of wavelet "
        "coefficients and transforms them into the update.\n\n"
        "How many are trained is free to choose, down to budgets below LoRA of rank 1."
    ),
    formula=r"\Delta W = \lambda\, \mathrm{IDWT}(\mathrm{sparse}(c))",
    count="The chosen number of coefficients for every layer.",
    paper=arxiv(
        "Exploring Sparsity for Parameter Efficient Fine Tuning Using Wavelets", "Bilican et al.", 2025, "2505.12532"
    ),
    params=WaveParams,
    rates=measured("waveft"), learning_rate_large=1e-4,
    learning_rate_source=f"{PEFT_COMPARISON} (1e-4)",
    attach=targeted("WaveFTConfig", lambda params, layers: {
        "n_frequency": min(params.coefficients, layers.smallest), "scaling": params.scaling,
    }),
    tier="research",
    mergeable=True,
    tags=("wavelet", "sparse"),
)  # fmt: skip
