"""LoRA: a low-rank update next to frozen linear layers, with the rsLoRA and DoRA switches."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from peft_studio.methods.base import Method, Site, TargetedParams, arxiv, wrap
from peft_studio.methods.rates import measured

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class LowRankParams(TargetedParams):
    """What LoRA and its variants have in common."""

    rank: int = Field(8, ge=1, le=128, description="Width r of the two small matrices.")
    alpha: int = Field(16, ge=1, le=256, description="The update is scaled by alpha / r.")
    dropout: float = Field(0.0, ge=0, le=0.5, description="Dropout on the update's input.")


class LoraParams(LowRankParams):
    """Parameters of LoRA."""

    name: Literal["lora"] = "lora"
    rslora: bool = Field(
        False, title="rsLoRA", description="Scale by alpha / sqrt(r), which keeps large ranks stable."
    )
    dora: bool = Field(False, title="DoRA", description="Train each output's magnitude apart from its direction.")


def lora_fields(params: LowRankParams, site: Site) -> dict[str, Any]:
    """What a plain LoRA configuration of PEFT holds, for LoRA and its variants."""
    return {
        "r": params.rank,
        "lora_alpha": params.alpha,
        "lora_dropout": params.dropout,
        "target_modules": site.chosen(params.targets),
    }


def attach_lora(model: "PreTrainedModel", params: LowRankParams, site: Site, **more: object) -> "PeftModel":
    """Puts a LoRA on a model; ``more`` are further fields of its configuration."""
    return wrap(model, site, "LoraConfig", **lora_fields(params, site), **more)


def _attach(model: "PreTrainedModel", params: LoraParams, site: Site) -> "PeftModel":
    return attach_lora(model, params, site, use_rslora=params.rslora, use_dora=params.dora)


LORA = Method(
    name="lora",
    title="LoRA",
    summary="Adds a trainable product of two thin matrices to frozen linear layers.",
    idea=(
        "Fine-tuning changes a weight matrix in few directions. LoRA keeps the matrix frozen and learns the change "
        "itself as a product of two thin matrices, so that a layer of a million weights is steered by a few thousand."
        "\n\nOne of the two starts at zero, so training begins exactly at the base model. Afterwards the product can "
        "be added into the frozen matrix: a merged model is as fast as the base.\n\n"
        "**rsLoRA** divides by the square root of the rank instead of the rank, so that higher ranks learn as "
        "steadily as low ones. **DoRA** gives every output its own trainable length and leaves only the direction "
        "to the low-rank product."
    ),
    formula=r"h = W x + \frac{\alpha}{r} B A x, \qquad A \in \mathbb{R}^{r \times n},\; B \in \mathbb{R}^{m \times r}",
    count=r"$\sum r\,(n + m)$ over the chosen layers with $n$ inputs and $m$ outputs; DoRA adds $m$ each.",
    paper=arxiv("LoRA: Low-Rank Adaptation of Large Language Models", "Hu et al.", 2021, "2106.09685"),
    params=LoraParams,
    rates=measured("lora"), learning_rate_large=2e-4,
    learning_rate_source="https://github.com/huggingface/peft/tree/main/method_comparison (1e-4 at 3 B, rank 32)",
    tags=("rsLoRA", "DoRA", "low rank"),
    attach=_attach,
    mergeable=True,
    mixed_batch=True,
)  # fmt: skip
