"""What a method is: one frozen entry with typed parameters, used by form, CLI, docs, estimate and training.

Importing an entry must stay cheap: torch, transformers and peft are imported inside ``attach`` only, because
the web process reads the registry and never loads them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from peft_studio.methods.layer_widths import TargetedLayers
from peft_studio.methods.rates import Rates

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from torch import Tensor
    from torch.optim import Optimizer
    from transformers import PreTrainedModel

    from peft_studio.models.layouts import ArchitectureKind, Layout

Tier = Literal["common", "more", "research"]
Targets = Literal["attention", "attention+mlp"]
PEFT_COMPARISON = "https://github.com/huggingface/peft/tree/main/method_comparison"
"""PEFT's published comparison of methods, where many recommended learning rates are from."""

NANO_PARAMS = 20_000_000
"""Up to this size a model counts as nano: such models want learning rates far above the published ones."""


class Params(BaseModel):
    """Base of every method's parameters; subclasses pin ``name`` to a literal and add bounded fields.

    Each field has a description and bounds (``ge``/``le``) or a ``Literal`` type. The form is made from them:
    a bounded number becomes a slider, a literal a choice, a bool a check box.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str


class TargetedParams(Params):
    """Parameters of a method that changes linear layers."""

    targets: Targets = Field("attention+mlp", description="Which linear layers of every block get an update.")


@dataclass(frozen=True)
class Site:
    """What a method is put on, beside the model itself.

    Attributes:
        layout: Where things are in the model, and what the model is for.
        steps: Optimizer steps of the run; schedules inside a method depend on it.
        batches: A few training batches as the model takes them, for methods that look at data before they start;
            empty when only shapes are asked for.
    """

    layout: "Layout"
    steps: int = 1000
    batches: "Sequence[Mapping[str, Any]]" = ()

    def chosen(self, targets: Targets) -> str:
        """A regular expression for the linear layers that a ``targets`` parameter names."""
        layout = self.layout
        return layout.within_blocks(layout.attention) if targets == "attention" else layout.linear


@dataclass(frozen=True)
class Paper:
    """Where a method was published."""

    title: str
    authors: str
    year: int
    url: str


def arxiv(title: str, authors: str, year: int, number: str) -> Paper:
    """A paper on arXiv, by its number there."""
    return Paper(title, authors, year, f"https://arxiv.org/abs/{number}")


Attach = Callable[["PreTrainedModel", Any, Site], "PeftModel"]


@dataclass(frozen=True, eq=False)
class Method:
    """One way of fine-tuning, complete: adding one is a new file and a line in the registry. Equal only to itself.

    Attributes:
        name: Identifier in presets and on the command line.
        title: Name shown to people.
        summary: One sentence on what is trained.
        idea: Two or three short Markdown paragraphs for the Learn page.
        formula: The forward pass in LaTeX, without dollar signs.
        count: The exact number of trainable parameters, as a formula in words or LaTeX.
        paper: The paper to read.
        params: The parameters' model.
        rates: Recommended peak learning rates at nano size (up to ``NANO_PARAMS``), by kind of task.
        learning_rate_large: The same for larger models, from the paper or a published comparison.
        learning_rate_source: Where that figure is from.
        attach: Wraps a base model ``(model, params, site) -> PeftModel`` whose trainable parameters are exactly the
            method's. Works on real and on meta tensors.
        tier: How common it is.
        mergeable: Whether the adapter can be folded into the base weights without cost at inference.
        mixed_batch: Whether rows of one batch may use different adapters.
        adds_latency: Whether inference stays slower than the base model's.
        looks_at_data: Whether ``attach`` uses ``site.batches``.
        changes_base: Whether it starts by changing base weights. Its adapters are saved as plain LoRA of twice the
            rank, which fits the untouched base model.
        checkpointing: Whether gradient checkpointing gives the right gradients.
        kinds: Kinds of architectures that it fits.
        not_for: Architectures (``model_type``) that it cannot be put on, and why.
        optimizer: Makes an optimizer of its own, ``(model, params, learning_rate, weight_decay) -> Optimizer``.
        penalty: Added to the loss of every step, as a scalar tensor made from the model.
        after_step: Called after every optimizer step, gradients still there, with the model and the steps done.
        state: What it remembers from step to step beside parameters and buffers, as tensors by name.
        restore: Puts ``state`` back into a model.
        caveat: What a user should know before trusting a comparison; may be empty.
        tags: Other words to find it by.
    """

    name: str
    title: str
    summary: str
    idea: str
    formula: str
    count: str
    paper: Paper
    params: type[Params]
    rates: Rates
    attach: Attach
    learning_rate_large: float = 2e-4
    learning_rate_source: str = ""
    tier: Tier = "common"
    mergeable: bool = False
    mixed_batch: bool = False
    adds_latency: bool = False
    looks_at_data: bool = False
    changes_base: bool = False
    checkpointing: bool = True
    kinds: "tuple[ArchitectureKind, ...]" = ("decoder", "encoder", "encoder-decoder")
    not_for: Mapping[str, str] = field(default_factory=dict)
    optimizer: "Callable[[PeftModel, Any, float, float], Optimizer] | None" = None
    penalty: "Callable[[Any], Tensor] | None" = None
    after_step: "Callable[[PeftModel, int], None] | None" = None
    state: "Callable[[PeftModel], dict[str, Tensor]] | None" = None
    restore: "Callable[[PeftModel, Mapping[str, Tensor]], None] | None" = None
    caveat: str = ""
    tags: tuple[str, ...] = field(default=())

    @property
    def learning_rate(self) -> float:
        """The recommended learning rate of a nano model that writes."""
        return self.rates["generation"].rate

    def rate_for(self, model_params: int, classification: bool = False) -> float:
        """The recommended learning rate.

        Args:
            model_params: The model's size.
            classification: Whether a new head trains with the method; a nano model then wants another rate.
        """
        if model_params > NANO_PARAMS:
            return self.learning_rate_large
        return self.rates["classification" if classification else "generation"].rate

    def described(self) -> dict[str, Any]:
        """What programs are told of it; ``params`` is the JSON schema of its parameters."""
        known = {key: getattr(self, key) for key in ("name", "title", "summary", "tier", "learning_rate")}
        schema = self.params.model_json_schema()
        return {**known, "paper": asdict(self.paper), "mergeable": self.mergeable, "params": schema}


def configure(site: Site, config: "str | type[PeftConfig]", **fields: object) -> "PeftConfig":
    """A configuration of PEFT for a place.

    Args:
        site: Where things are in the model.
        config: PEFT's configuration class by its name, or one of ours.
        **fields: Its fields; ``target_modules`` is every linear layer of the blocks unless given.
    """
    import peft

    fields.setdefault("target_modules", site.layout.linear)
    heads = list(site.layout.trained_heads)
    made = getattr(peft, config) if isinstance(config, str) else config
    return made(task_type=site.layout.task_type, modules_to_save=heads or None, **fields)


def wrap(model: "PreTrainedModel", site: Site, config: "str | type[PeftConfig]", **fields: object) -> "PeftModel":
    """Puts a tuner of PEFT on a model, real or on the meta device; see ``configure``."""
    from peft import get_peft_model

    return get_peft_model(model, configure(site, config, **fields))


def wrap_by_value(model: "PreTrainedModel", config: "PeftConfig") -> "PeftModel":
    """As ``wrap``, for tuners that compute with numbers while they are made, which the meta device does not have."""
    from peft import get_peft_model

    if not next(model.parameters()).is_meta:
        return get_peft_model(model, config)
    import torch

    with torch.device("cpu"):
        return get_peft_model(model, config, low_cpu_mem_usage=True)


def targeted(
    config_name: str, fields: Callable[[Any, TargetedLayers], dict[str, Any]], by_value: bool = False
) -> Attach:
    """The ``attach`` of a method that is a tuner of PEFT on the layers that ``params.targets`` names.

    Args:
        config_name: PEFT's configuration class.
        fields: Gives its fields beside ``target_modules``, from the parameters and the targeted layers.
        by_value: Whether the tuner has to be put on by ``wrap_by_value``.
    """

    def attach(model: "PreTrainedModel", params: Any, site: Site) -> "PeftModel":
        targets = site.chosen(params.targets)
        chosen = fields(params, TargetedLayers(model, targets))
        if by_value:
            return wrap_by_value(model, configure(site, config_name, target_modules=targets, **chosen))
        return wrap(model, site, config_name, target_modules=targets, **chosen)

    return attach
