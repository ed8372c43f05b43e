"""(IA)3: one trainable factor per channel of keys, values and the feed-forward network."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from peft_studio.methods.base import Method, Params, Site, arxiv, wrap
from peft_studio.methods.rates import measured

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class IA3Params(Params):
    """Parameters of (IA)3."""

    name: Literal["ia3"] = "ia3"
    targets: Literal["keys, values and mlp", "all linear"] = Field(
        "all linear", description="The paper scales keys, values and the MLP's output; every linear layer learns more."
    )


def _attach(model: "PreTrainedModel", params: IA3Params, site: Site) -> "PeftModel":
    layout = site.layout
    everywhere = params.targets == "all linear"
    attention = layout.attention if everywhere else layout.key_value
    mlp = layout.mlp if everywhere else (layout.mlp_output,)
    return wrap(
        model,
        site,
        "IA3Config",
        target_modules=layout.within_blocks((*attention, *mlp)),
        feedforward_modules=layout.within_blocks(mlp),
    )


IA3 = Method(
    name="ia3",
    title="(IA)³",
    summary="Learns one factor per channel; everything else stays frozen.",
    idea=(
        "Instead of adding weights, (IA)³ turns the volume of existing channels up or down. Each targeted layer gets "
        "one vector of factors: attention layers have their outputs scaled, feed-forward layers their inputs.\n\n"
        "All factors start at one, which is the base model. They are so few that they want a high learning rate, and "
        "they can be multiplied into the frozen weights afterwards, at no cost when generating."
    ),
    formula=r"h = l \odot (W x) \ \text{(attention)}, \qquad h = W (l \odot x) \ \text{(feed-forward)}",
    count="One per output of each targeted attention layer, one per input of each targeted feed-forward layer.",
    paper=arxiv(
        "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning",
        "Liu et al.", 2022, "2205.05638",
    ),
    params=IA3Params,
    rates=measured("ia3"), learning_rate_large=5e-3,
    learning_rate_source="https://github.com/huggingface/peft/tree/main/method_comparison (all layers, 5e-3)",
    attach=_attach,
    mergeable=True,
)  # fmt: skip
