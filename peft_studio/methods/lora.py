"""LoRA: a low-rank update next to frozen linear layers, with the rsLoRA and DoRA switches."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from peft_studio.methods.base import Method, Paper, Params

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from peft_studio.models.layouts import Layout


class LoraParams(Params):
    """Parameters of LoRA."""

    name: Literal["lora"] = "lora"
    rank: int = Field(8, ge=1, le=128, description="Width r of the two small matrices.")
    alpha: int = Field(16, ge=1, le=256, description="The update is scaled by alpha / r.")
    dropout: float = Field(0.0, ge=0, le=0.5, description="Dropout on the update's input.")
    targets: Literal["attention", "attention+mlp"] = Field(
        "attention+mlp", description="Which linear layers of every block get an update."
    )
    rslora: bool = Field(
        False, title="rsLoRA", description="Scale by alpha / sqrt(r), which keeps large ranks stable."
    )
    dora: bool = Field(False, title="DoRA", description="Train each output's magnitude apart from its direction.")


def _attach(model: "PreTrainedModel", params: LoraParams, layout: "Layout") -> "PeftModel":
    from peft import LoraConfig, get_peft_model

    names = layout.attention if params.targets == "attention" else (*layout.attention, *layout.mlp)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=params.rank,
        lora_alpha=params.alpha,
        lora_dropout=params.dropout,
        use_rslora=params.rslora,
        use_dora=params.dora,
        target_modules=list(names),
        fan_in_fan_out=layout.transposed,
    )
    return get_peft_model(model, config)


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
    paper=Paper(
        "LoRA: Low-Rank Adaptation of Large Language Models", "Hu et al.", 2021, "https://arxiv.org/abs/2106.09685"
    ),
    params=LoraParams,
    learning_rate=1e-2,
    attach=_attach,
    mergeable=True,
    mixed_batch=True,
)
