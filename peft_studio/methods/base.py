"""What a method is: one frozen entry with typed parameters, used by form, CLI, docs, estimate and training.

Importing an entry must stay cheap: torch, transformers and peft are imported inside ``attach`` only, because
the web process reads the registry and never loads them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from peft_studio.models.layouts import Layout

Tier = Literal["common", "more", "research"]


class Params(BaseModel):
    """Base of every method's parameters; subclasses pin ``name`` to a literal and add bounded fields.

    Each field has a description and bounds (``ge``/``le``) or a ``Literal`` type. The form is made from them:
    a bounded number becomes a slider, a literal a choice, a bool a check box.
    ``json_schema_extra={"advanced": True}`` moves a field to the fold.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str


@dataclass(frozen=True)
class Paper:
    """Where a method was published."""

    title: str
    authors: str
    year: int
    url: str


@dataclass(frozen=True)
class Method:
    """One way of fine-tuning, complete: adding one is a new file and a line in the registry.

    Attributes:
        name: Identifier in presets and on the command line.
        title: Name shown to people.
        summary: One sentence on what is trained.
        idea: Two or three short Markdown paragraphs for the Learn page.
        formula: The forward pass in LaTeX, without dollar signs.
        count: The exact number of trainable parameters, as a formula in words or LaTeX.
        paper: The paper to read.
        params: The parameters' model.
        learning_rate: Recommended peak learning rate at nano size.
        attach: Wraps a base model ``(model, params, layout) -> PeftModel`` whose trainable parameters are
            exactly the method's. Works on real and on meta tensors.
        tier: How common it is.
        mergeable: Whether the adapter can be folded into the base weights without cost at inference.
        mixed_batch: Whether rows of one batch may use different adapters.
        adds_latency: Whether inference stays slower than the base model's.
        caveat: What a user should know before trusting a comparison; may be empty.
    """

    name: str
    title: str
    summary: str
    idea: str
    formula: str
    count: str
    paper: Paper
    params: type[Params]
    learning_rate: float
    attach: "Callable[[PreTrainedModel, Any, Layout], PeftModel]"
    tier: Tier = "common"
    mergeable: bool = False
    mixed_batch: bool = False
    adds_latency: bool = False
    caveat: str = ""
    tags: tuple[str, ...] = field(default=())
