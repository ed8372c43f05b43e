"""Methods that train the base model's own parameters, all or some: full, top layers, BitFit."""

import re
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from peft_studio.methods.base import Method, Params, Site, arxiv, wrap
from peft_studio.methods.rates import measured

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class FullParams(Params):
    """Full fine-tuning has nothing to choose."""

    name: Literal["full"] = "full"


class TopLayersParams(Params):
    """Parameters of training the top layers."""

    name: Literal["top_layers"] = "top_layers"
    layers: int = Field(2, ge=1, le=128, description="How many of the last blocks train.")
    final_norm: bool = Field(True, description="Whether the normalisation after the last block trains too.")


class BitFitParams(Params):
    """BitFit has nothing to choose."""

    name: Literal["bitfit"] = "bitfit"


def wrap_partial(model: "PreTrainedModel", site: Site, modules: str, parameters: tuple[str, ...]) -> "PeftModel":
    """Trains private copies of the named parameters of the modules that a regular expression matches."""
    from peft_studio.methods.tuners import PartialConfig

    return wrap(model, site, PartialConfig, target_modules=modules, parameters=list(parameters))


def _owners(model: "PreTrainedModel", parameters: tuple[str, ...], site: Site) -> list[str]:
    """Names of all modules that own a parameter of one of these names; new heads train anyway."""
    heads = site.layout.trained_heads
    return [
        name
        for name, module in model.named_modules()
        if any(parameter in parameters for parameter, _ in module.named_parameters(recurse=False))
        and not any(name == head or name.startswith(f"{head}.") for head in heads)
    ]


def any_of(names: list[str]) -> str:
    """A regular expression that matches these names and nothing else."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


def _all_names(model: "PreTrainedModel") -> tuple[str, ...]:
    return tuple(sorted({name.rpartition(".")[2] for name, _ in model.named_parameters()}))


def _attach_full(model: "PreTrainedModel", params: FullParams, site: Site) -> "PeftModel":
    names = _all_names(model)
    return wrap_partial(model, site, any_of(_owners(model, names, site)), names)


def _attach_top_layers(model: "PreTrainedModel", params: TopLayersParams, site: Site) -> "PeftModel":
    from peft_studio.errors import ConfigError

    layout = site.layout
    stack = layout.blocks[-1]
    depth = len(model.get_submodule(stack))
    if params.layers > depth:
        raise ConfigError(f"method.layers = {params.layers}: this model has {depth} layers.", "method.layers")
    names = _all_names(model)
    tops = tuple(f"{stack}.{number}." for number in range(depth - params.layers, depth))
    chosen = [name for name in _owners(model, names, site) if name.startswith(tops)]
    if params.final_norm and layout.final_norm:
        chosen.append(layout.final_norm)
    return wrap_partial(model, site, any_of(chosen), names)


def _attach_bitfit(model: "PreTrainedModel", params: BitFitParams, site: Site) -> "PeftModel":
    return wrap_partial(model, site, any_of(_owners(model, ("bias",), site)), ("bias",))


FULL = Method(
    name="full",
    title="Full fine-tuning",
    summary="Trains every parameter of the model: the yardstick for all the others.",
    idea=(
        "Nothing is frozen. The model can move anywhere, which is the most it can do and the most it can forget; a "
        "copy of the whole model is kept for each task, with gradients and two optimizer averages for every weight "
        "while training.\n\n"
        "Here the trained weights are private copies beside the base model, so that even a fully fine-tuned model "
        "can be switched on and off like an adapter."
    ),
    formula=r"\theta \leftarrow \theta - \eta\, \nabla_\theta \mathcal{L}(\theta) \quad \text{for all } \theta",
    count="All parameters of the base model; tied ones count once.",
    paper=arxiv("Universal Language Model Fine-tuning for Text Classification", "Howard, Ruder", 2018, "1801.06146"),
    params=FullParams,
    rates=measured("full"), learning_rate_large=2e-5,
    learning_rate_source="https://github.com/huggingface/peft/tree/main/method_comparison (1e-5 at 3 B)",
    attach=_attach_full,
    mergeable=True,
)  # fmt: skip

TOP_LAYERS = Method(
    name="top_layers",
    title="Top layers",
    summary="Trains the last few blocks and freezes everything below them.",
    idea=(
        "Early layers of a language model know about words and grammar, late ones about what to say next. Partly "
        "freezing keeps the general part and retrains the specific part.\n\n"
        "The backward pass ends at the lowest trained layer, so this is fast as well as small."
    ),
    formula=(
        r"\theta_\ell \leftarrow \theta_\ell - \eta\, \nabla_{\theta_\ell} \mathcal{L}"
        r" \quad \text{for } \ell > L - k"
    ),
    count="All parameters of the last $k$ blocks, and of the final normalisation when chosen.",
    paper=arxiv(
        "What Would Elsa Do? Freezing Layers During Transformer Fine-Tuning", "Lee, Tang, Lin", 2019, "1911.03090"
    ),
    params=TopLayersParams,
    rates=measured("top_layers"), learning_rate_large=1e-4,
    learning_rate_source="chosen by the project",
    attach=_attach_top_layers,
    mergeable=True,
)  # fmt: skip

BITFIT = Method(
    name="bitfit",
    title="BitFit",
    summary="Trains only the biases; every matrix stays frozen.",
    idea=(
        "A bias shifts what a layer puts out, whatever comes in. BitFit asks how far a task can be learned by "
        "shifting alone, and the answer is: surprisingly far, with less than a hundredth of the parameters.\n\n"
        "It suggests that fine-tuning brings out what a model already knows more than it teaches anything new."
    ),
    formula=r"h = W x + b, \qquad b \leftarrow b - \eta\, \nabla_b \mathcal{L}",
    count="All bias parameters of the model.",
    paper=arxiv(
        "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models",
        "Ben-Zaken, Ravfogel, Goldberg", 2021, "2106.10199",
    ),
    params=BitFitParams,
    rates=measured("bitfit"), learning_rate_large=1e-3,
    learning_rate_source="https://arxiv.org/abs/2106.10199 (1e-4 to 1e-3 on BERT)",
    attach=_attach_bitfit,
    mergeable=True,
    caveat="Needs a model with biases; many recent ones (Llama, Qwen3) have none.",
)  # fmt: skip
