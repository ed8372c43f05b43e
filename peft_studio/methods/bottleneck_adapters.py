"""Bottleneck adapters: small two-layer networks inside every block, in three places."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from peft_studio.methods.base import Attach, Method, Params, Site, arxiv, wrap
from peft_studio.methods.rates import measured

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from peft_studio.models.layouts import Layout


class BottleneckParams(Params):
    """What the three kinds have in common."""

    bottleneck_dim: int = Field(16, ge=1, le=256, description="Width of the small network in the middle.")
    non_linearity: Literal["relu", "gelu", "silu"] = Field("relu", description="Between the two projections.")
    scaling: float = Field(1.0, ge=0.1, le=10, description="Factor on what the small network adds.")
    dropout: float = Field(0.0, ge=0, le=0.5, description="Dropout before the upward projection.")


class HoulsbyParams(BottleneckParams):
    """Parameters of Houlsby adapters."""

    name: Literal["houlsby"] = "houlsby"


class PfeifferParams(BottleneckParams):
    """Parameters of Pfeiffer adapters."""

    name: Literal["pfeiffer"] = "pfeiffer"


class ParallelParams(BottleneckParams):
    """Parameters of parallel adapters."""

    name: Literal["parallel"] = "parallel"
    scaling: float = Field(4.0, ge=0.1, le=10, description="Factor on what the small network adds.")


def _behind(places: "Callable[[Layout], tuple[str, ...]]", init_std: float, parallel: bool = False) -> Attach:
    """The ``attach`` of small networks behind these layers of every block, or beside its feed-forward network.

    ``init_std`` is the start that the method's paper or its authors' code has, see ``BottleneckConfig``.
    """

    def attach(model: "PreTrainedModel", params: BottleneckParams, site: Site) -> "PeftModel":
        from peft_studio.methods.tuners import BottleneckConfig

        return wrap(
            model,
            site,
            BottleneckConfig,
            target_modules=site.layout.within_blocks(places(site.layout)),
            parallel_input=list(site.layout.mlp_input) if parallel else None,
            bottleneck_dim=params.bottleneck_dim,
            non_linearity=params.non_linearity,
            init_std=init_std,
            scaling=params.scaling,
            adapter_dropout=params.dropout,
        )

    return attach


_SEQUENTIAL = r"h \leftarrow h + s\, W_\text{up}\, \sigma(W_\text{down}\, h + b_\text{down}) + s\, b_\text{up}"
_COUNT = r"$2\,d\,b + b + d$ per adapter, for hidden size $d$ and bottleneck $b$; "

HOULSBY = Method(
    name="houlsby",
    title="Houlsby adapters",
    summary="Puts a small trainable network after attention and after the MLP of every block.",
    idea=(
        "The first adapters for transformers: squeeze each layer's output through a narrow passage, bend it, widen "
        "it again and add it back. Only these passages are trained.\n\n"
        "Both matrices start very small, so at first an adapter passes everything on nearly unchanged. Two per block "
        "make this the most expressive, and the slowest, of the three kinds."
    ),
    formula=_SEQUENTIAL,
    count=_COUNT + "two per block.",
    paper=arxiv("Parameter-Efficient Transfer Learning for NLP", "Houlsby et al.", 2019, "1902.00751"),
    params=HoulsbyParams,
    rates=measured("houlsby"), learning_rate_large=5e-4,
    learning_rate_source="chosen by the project, between the rates of its paper and LoRA's",
    attach=_behind(lambda layout: (*layout.attention_output, layout.mlp_output), 0.01),
    mixed_batch=True,
    adds_latency=True,
)  # fmt: skip

PFEIFFER = Method(
    name="pfeiffer",
    title="Pfeiffer adapters",
    summary="Puts one small trainable network after the MLP of every block.",
    idea=(
        "A search over places for adapters found that one per block, behind the feed-forward network, does nearly as "
        "well as two. Half the parameters and half the extra time are the gain.\n\n"
        "It is the usual choice when several adapters are to be combined later."
    ),
    formula=_SEQUENTIAL,
    count=_COUNT + "one per block.",
    paper=arxiv(
        "AdapterFusion: Non-Destructive Task Composition for Transfer Learning", "Pfeiffer et al.", 2020, "2005.00247"
    ),
    params=PfeifferParams,
    rates=measured("pfeiffer"), learning_rate_large=5e-4,
    learning_rate_source="chosen by the project, between the rates of its paper and LoRA's",
    attach=_behind(lambda layout: (layout.mlp_output,), 0.02),
    mixed_batch=True,
    adds_latency=True,
)  # fmt: skip

PARALLEL = Method(
    name="parallel",
    title="Parallel adapters",
    summary="Runs a small trainable network beside the MLP of every block.",
    idea=(
        "Instead of correcting what the feed-forward network has made, a parallel adapter looks at the same input "
        "and adds its own answer. Seen this way, adapters, prefix tuning and LoRA are relatives: each adds a small "
        "change next to something frozen.\n\n"
        "In the paper's comparison, beside the MLP is where a given number of parameters helps most. As there, what "
        "it adds is scaled by 4 and it starts like LoRA: the narrowing matrix random, the widening one zero."
    ),
    formula=(
        r"h \leftarrow \mathrm{MLP}(x) + s\, W_\text{up}\, \sigma(W_\text{down}\, x + b_\text{down})"
        r" + s\, b_\text{up}"
    ),
    count=_COUNT + "one per block.",
    paper=arxiv("Towards a Unified View of Parameter-Efficient Transfer Learning", "He et al.", 2021, "2110.04366"),
    params=ParallelParams,
    rates=measured("parallel"), learning_rate_large=2e-4,
    learning_rate_source="chosen by the project: LoRA's, since start and scale are like LoRA's",
    attach=_behind(lambda layout: (layout.mlp_output,), 0, parallel=True),
    mixed_batch=True,
    adds_latency=True,
)  # fmt: skip
