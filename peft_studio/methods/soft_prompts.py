"""Prompt tuning and prefix tuning: trainable vectors in front of the text; the model itself stays untouched."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from peft_studio.methods.base import Method, Params, Site, arxiv
from peft_studio.methods.rates import measured

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class PromptParams(Params):
    """Parameters of prompt tuning."""

    name: Literal["prompt"] = "prompt"
    virtual_tokens: int = Field(20, ge=1, le=128, description="How many trainable vectors stand before the text.")
    start: Literal["words", "text", "random"] = Field(
        "words", description="Start from random words of the vocabulary, from a text, or from noise."
    )
    text: str = Field(
        "Answer in the style of the examples.", max_length=500, description="The text to start from, if so chosen."
    )


class PTuningParams(Params):
    """Parameters of P-tuning."""

    name: Literal["p_tuning"] = "p_tuning"
    virtual_tokens: int = Field(20, ge=1, le=128, description="How many vectors stand before the text.")
    width: int = Field(128, ge=8, le=1024, description="Hidden size of the network that makes the vectors.")


class PrefixParams(Params):
    """Parameters of prefix tuning."""

    name: Literal["prefix"] = "prefix"
    virtual_tokens: int = Field(20, ge=1, le=128, description="How many key-value pairs each layer gets.")
    projection: bool = Field(
        True, description="Make keys and values by a small network while training, as the paper does."
    )
    width: int = Field(128, ge=8, le=1024, description="Hidden size of that network.")


_STARTS = {"words": "SAMPLE_VOCAB", "text": "TEXT", "random": "RANDOM"}


def _attach_prompt(model: "PreTrainedModel", params: PromptParams, site: Site) -> "PeftModel":
    start: dict[str, Any] = {"prompt_tuning_init": _STARTS[params.start]}
    if params.start == "text" and not next(model.parameters()).is_meta:
        start |= {"prompt_tuning_init_text": params.text, "tokenizer_name_or_path": model.name_or_path}
    elif params.start == "text":  # the same shapes, without a tokenizer
        start = {"prompt_tuning_init": "RANDOM"}
    return _wrap(model, params, site, "PromptTuningConfig", **start, **geometry(model, site))


def _attach_p_tuning(model: "PreTrainedModel", params: PTuningParams, site: Site) -> "PeftModel":
    shape = geometry(model, site)
    return _wrap(model, params, site, "PromptEncoderConfig", encoder_hidden_size=params.width, **shape)


def _attach_prefix(model: "PreTrainedModel", params: PrefixParams, site: Site) -> "PeftModel":
    # Random either way: keys that start alike, as zeros do, get the same gradient for ever and stay one single key.
    network = {"prefix_projection": True, "encoder_hidden_size": params.width} if params.projection else {}
    return _wrap(model, params, site, "PrefixTuningConfig", **network, **geometry(model, site, heads=True))


def _wrap(
    model: "PreTrainedModel", params: PromptParams | PTuningParams | PrefixParams, site: Site, config: str,
    **fields: object,
) -> "PeftModel":  # fmt: skip
    import peft

    task, count = site.layout.task_type, params.virtual_tokens
    return peft.get_peft_model(model, getattr(peft, config)(task_type=task, num_virtual_tokens=count, **fields))


def geometry(model: "PreTrainedModel", site: Site, heads: bool = False) -> dict[str, Any]:
    """What PEFT would otherwise guess from the config's attribute names.

    Args:
        model: The base model.
        site: Its layout.
        heads: Whether the width is that of all attention heads together (for keys and values) instead of the hidden
            size; they differ in Flan-T5.
    """
    config: Any = model.config
    count, width = config.num_attention_heads, config.hidden_size
    if heads and getattr(config, "d_kv", None):
        width = count * config.d_kv
    layers = getattr(config, "num_decoder_layers", None) or getattr(config, "decoder_layers", None)
    in_decoder = site.layout.kind == "encoder-decoder"
    return {
        "num_layers": layers if in_decoder else config.num_hidden_layers,
        "num_attention_heads": count,
        "token_dim": width,
        # PEFT gives prompt vectors to the encoder only, whatever this says; key-value prefixes need the 2.
        "num_transformer_submodules": 2 if in_decoder and heads else 1,
    }


PROMPT = Method(
    name="prompt",
    title="Prompt tuning",
    summary="Learns a few vectors that stand before the text like words; no weight of the model changes.",
    idea=(
        "A good instruction makes a model behave. Prompt tuning learns the instruction directly as vectors in "
        "embedding space, where they need not be any real word, and puts them before every text.\n\n"
        "It is the smallest method here and the only one that touches nothing but the input. Its strength grows with "
        "the model's size: a large model already knows what it is being asked for, a very small one has to be taught."
    ),
    formula=r"\mathrm{LM}\big([\,p_1, \dots, p_t,\ E(x_1), \dots, E(x_T)\,]\big), \qquad p_i \in \mathbb{R}^{d}",
    count=r"$t\,d$ for $t$ virtual tokens and hidden size $d$.",
    paper=arxiv(
        "The Power of Scale for Parameter-Efficient Prompt Tuning", "Lester, Al-Rfou, Constant", 2021, "2104.08691"
    ),
    params=PromptParams,
    rates=measured("prompt"), learning_rate_large=1e-2,
    learning_rate_source="https://github.com/huggingface/peft/tree/main/method_comparison (1e-3 at 3 B; small models "
    "want more)",
    tags=("soft prompt",),
    attach=_attach_prompt,
    adds_latency=True,
    caveat=(
        "Weaker than the others on models as small as nano-lm, as its paper shows for all small models: vectors at "
        "the input can only call up what the frozen layers can already do."
    ),
)  # fmt: skip

P_TUNING = Method(
    name="p_tuning",
    title="P-tuning",
    summary="Learns vectors before the text through a small network that makes them.",
    idea=(
        "Training prompt vectors one by one is slow, since nothing ties them together. P-tuning writes them with a "
        "small network from as many embeddings, so that they move in concert.\n\n"
        "The network is only needed for training; what is saved are the finished vectors, as in prompt tuning."
    ),
    formula=r"p_i = \mathrm{MLP}(e_i), \qquad \mathrm{LM}\big([\,p_1, \dots, p_t,\ E(x)\,]\big)",
    count=r"$t\,d + (d h + h) + (h^2 + h) + (h d + d)$ for $t$ virtual tokens and a network of width $h$.",
    paper=arxiv("GPT Understands, Too", "Liu et al.", 2021, "2103.10385"),
    params=PTuningParams,
    rates=measured("p_tuning"), learning_rate_large=1e-3,
    learning_rate_source="chosen by the project: PEFT's comparison trains it at 1e-4",
    attach=_attach_p_tuning,
    adds_latency=True,
    caveat=(
        "What is saved is smaller than what trains: the network is left out. At first it makes vectors that are "
        "nearly alike (on nano-lm they differ by a seventh of what words do), and takes many steps to tell them apart."
    ),
    tags=("soft prompt", "prompt encoder"),
)  # fmt: skip

PREFIX = Method(
    name="prefix",
    title="Prefix tuning",
    summary="Gives every layer's attention a few trainable keys and values to look at.",
    idea=(
        "Where prompt tuning speaks to the first layer only, prefix tuning speaks to all of them: each attention "
        "layer sees a handful of extra positions whose keys and values are trained.\n\n"
        "They live in the key-value cache, so the text keeps its own positions. While training, a small network makes "
        "them from as many vectors, as in the paper, which found training them directly unstable. What is saved are "
        "the finished keys and values."
    ),
    formula=r"\mathrm{Attn}\big(Q,\ [P_K; K],\ [P_V; V]\big), \qquad P_K, P_V \in \mathbb{R}^{t \times d_{kv}}",
    count=r"$t\,d_{kv} + d_{kv} h + h + 2 L d_{kv} (h + 1)$ for $t$ virtual tokens, $L$ layers, key-value width "
    r"$d_{kv}$ and a network of width $h$; without the network $2\,t\,L\,d_{kv}$, which is also what is saved.",
    paper=arxiv("Prefix-Tuning: Optimizing Continuous Prompts for Generation", "Li, Liang", 2021, "2101.00190"),
    params=PrefixParams,
    rates=measured("prefix"), learning_rate_large=5e-4,
    learning_rate_source="chosen by the project, between the paper's (below 1e-4, for long training) and PEFT's "
    "published comparison (1e-3, without the network)",
    tags=("soft prompt", "key-value cache"),
    attach=_attach_prefix,
    adds_latency=True,
    checkpointing=False,
    caveat=(
        "What is saved is smaller than what trains: the network is left out. On models with an encoder and a decoder, "
        "only the decoder's attention to its own text gets the prefix; the paper has one for the encoder and for the "
        "attention to it, too."
    ),
    not_for={
        "distilbert": "Its attention takes no keys and values from outside.",
        "modernbert": "Its attention takes no keys and values from outside.",
    },
)  # fmt: skip
