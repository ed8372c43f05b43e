"""Methods that train normalisations and heads: LN tuning, LayerNorm-and-head, head only."""

import re
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from peft_studio.methods.base import Method, Params, Site, arxiv
from peft_studio.methods.partial import any_of, wrap_partial
from peft_studio.methods.rates import measured

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

NOTHING_BUT_HEADS = "dummy-target-modules"  # PEFT's word for: no module, and that is meant


class LayerNormHeadParams(Params):
    """Parameters of LayerNorm-and-head."""

    name: Literal["layernorm_head"] = "layernorm_head"
    head: bool = Field(True, description="Whether the vocabulary projection trains too.")


class LNTuningParams(Params):
    """LN tuning has nothing to choose."""

    name: Literal["ln_tuning"] = "ln_tuning"


class HeadParams(Params):
    """Head only has nothing to choose."""

    name: Literal["head"] = "head"


def _norms(site: Site) -> str:
    layout = site.layout
    outside = [name for name in (layout.final_norm, *layout.outer_norms) if name]
    return f"{layout.within_blocks(layout.norms)}|{any_of(outside)}"


def _attach_layernorm_head(model: "PreTrainedModel", params: LayerNormHeadParams, site: Site) -> "PeftModel":
    pattern = _norms(site)
    if params.head and not site.layout.trained_heads:
        pattern += f"|{re.escape(site.layout.head)}"
    return wrap_partial(model, site, pattern, ("weight", "bias"))


def _attach_ln_tuning(model: "PreTrainedModel", params: LNTuningParams, site: Site) -> "PeftModel":
    return wrap_partial(model, site, _norms(site), ("weight", "bias"))


def _attach_head(model: "PreTrainedModel", params: HeadParams, site: Site) -> "PeftModel":
    pattern = NOTHING_BUT_HEADS if site.layout.trained_heads else re.escape(site.layout.head)
    return wrap_partial(model, site, pattern, ("weight", "bias"))


LAYERNORM_HEAD = Method(
    name="layernorm_head",
    title="LayerNorm and head",
    summary="Trains the normalisation layers and the vocabulary projection.",
    idea=(
        "Normalisation layers set the scale of every channel that passes through the model; the head turns the last "
        "hidden state into words. Training just these two re-tunes the model without touching attention or MLPs.\n\n"
        "The norms alone are a few thousand numbers. The head is large, and can be left out."
    ),
    formula=r"y = \gamma \odot \frac{x - \mu}{\sigma} + \beta, \qquad p = \mathrm{softmax}(W_\text{head}\, y)",
    count="All normalisation parameters, plus vocabulary times hidden size for the head.",
    paper=arxiv(
        "Pretrained Transformers as Universal Computation Engines", "Lu, Grover, Abbeel, Mordatch", 2021, "2103.05247"
    ),
    params=LayerNormHeadParams,
    rates=measured("layernorm_head"), learning_rate_large=1e-3,
    learning_rate_source="chosen by the project",
    attach=_attach_layernorm_head,
    mergeable=True,
    caveat="Where head and embedding share one matrix, the head trains its own copy; the embedding stays.",
)  # fmt: skip

LN_TUNING = Method(
    name="ln_tuning",
    title="LN tuning",
    summary="Trains only the gains and shifts of the normalisation layers.",
    idea=(
        "A normalisation layer ends with one gain, and often one shift, for every channel. Re-weighting channels is "
        "enough to turn a language model towards new data, with a few thousand numbers.\n\n"
        "It costs nothing at inference: the trained vectors take the place of the old ones."
    ),
    formula=r"y = \gamma \odot \frac{x - \mu}{\sigma} + \beta, \qquad \gamma, \beta \text{ trained}",
    count="All normalisation parameters: one or two vectors of the hidden size for each normalisation layer.",
    paper=arxiv(
        "Tuning LayerNorm in Attention: Towards Efficient Multi-Modal LLM Finetuning",
        "Zhao et al.", 2023, "2312.11420",
    ),
    params=LNTuningParams,
    rates=measured("ln_tuning"), learning_rate_large=1e-3,
    learning_rate_source="chosen by the project; 1e-4 is too low in PEFT's published comparison",
    attach=_attach_ln_tuning,
    mergeable=True,
)  # fmt: skip

HEAD = Method(
    name="head",
    title="Head only",
    summary="Trains the last projection and nothing else: a linear probe.",
    idea=(
        "Everything that the model computes stays as it is; only the way of reading its last hidden state is "
        "learnt. For classification this is the classic linear probe, the least that fine-tuning can be.\n\n"
        "For a language model the head is the vocabulary projection. It can favour words, but it cannot make the "
        "model look elsewhere, so copying and reasoning stay what they were."
    ),
    formula=r"p = \mathrm{softmax}(W_\text{head}\, h_L), \qquad \text{only } W_\text{head} \text{ trained}",
    count="All parameters of the head: vocabulary (or classes) times hidden size, and biases where it has them.",
    paper=arxiv(
        "Understanding intermediate layers using linear classifier probes", "Alain, Bengio", 2016, "1610.01644"
    ),
    params=HeadParams,
    rates=measured("head"), learning_rate_large=1e-3,
    learning_rate_source="chosen by the project",
    attach=_attach_head,
    mergeable=True,
    caveat="Where head and embedding share one matrix, the head trains its own copy; the embedding stays.",
)  # fmt: skip
