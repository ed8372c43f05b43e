"""The method registry. Adding a method: one file that defines a ``Method``, and one line here."""

from peft_studio.errors import ConfigError, did_you_mean
from peft_studio.methods.base import Method, Paper, Params, Site
from peft_studio.methods.bottleneck_adapters import HOULSBY, PARALLEL, PFEIFFER
from peft_studio.methods.ia3 import IA3
from peft_studio.methods.lora import LORA
from peft_studio.methods.norms_and_heads import HEAD, LAYERNORM_HEAD, LN_TUNING
from peft_studio.methods.partial import BITFIT, FULL, TOP_LAYERS
from peft_studio.methods.soft_prompts import PREFIX, PROMPT

_ENTRIES = (
    LORA, IA3, PREFIX, PROMPT, HOULSBY, PFEIFFER, PARALLEL, BITFIT, LN_TUNING, LAYERNORM_HEAD, HEAD, TOP_LAYERS, FULL,
)  # fmt: skip

METHODS: dict[str, Method] = {method.name: method for method in _ENTRIES}
"""All methods by name, in the order of the form."""


def get_method(name: str) -> Method:
    """Looks a method up.

    Raises:
        ConfigError: No method has this name.
    """
    try:
        return METHODS[name]
    except KeyError:
        raise ConfigError(f"There is no method {name!r}. {did_you_mean(name, METHODS)}", "method.name") from None


__all__ = ["METHODS", "Method", "Paper", "Params", "Site", "get_method"]
