"""The method registry. Adding a method: one file that defines a ``Method``, and one line here."""

from peft_studio.errors import ConfigError, did_you_mean
from peft_studio.methods.adalora import ADALORA
from peft_studio.methods.base import Method, Paper, Params, Site
from peft_studio.methods.bottleneck_adapters import HOULSBY, PARALLEL, PFEIFFER
from peft_studio.methods.hadamard import GRALORA, HIRA, LOHA, LOKR
from peft_studio.methods.ia3 import IA3
from peft_studio.methods.lora import LORA
from peft_studio.methods.lora_inits import CORDA, EVA, LORA_GA, OLORA, PISSA
from peft_studio.methods.lora_optimizers import LORA_FA, LORA_PLUS
from peft_studio.methods.low_rank_variants import DEFT, DELORA, GLORA, MISS, PEANUT
from peft_studio.methods.norms_and_heads import HEAD, LAYERNORM_HEAD, LN_TUNING
from peft_studio.methods.partial import BITFIT, FULL, TOP_LAYERS
from peft_studio.methods.rotations import BOFT, HRA, OFT, PSOFT, ROAD
from peft_studio.methods.shared_projections import PVERA, RANDLORA, TINYLORA, UNILORA, VBLORA, VERA
from peft_studio.methods.soft_prompts import P_TUNING, PREFIX, PROMPT
from peft_studio.methods.sparse import BEFT, SHIRA, SUPERTUNING
from peft_studio.methods.spectral import C3A, FOURIERFT, WAVEFT

_COMMON = (
    LORA, LORA_PLUS, LORA_FA, ADALORA, IA3, HIRA, VERA, GRALORA, PREFIX, PROMPT, P_TUNING, HOULSBY, PFEIFFER, PARALLEL,
    BITFIT, LN_TUNING, LAYERNORM_HEAD, HEAD, TOP_LAYERS, FULL,
)  # fmt: skip
_MORE = (LOHA, LOKR, OFT, BOFT, HRA, MISS, SHIRA, C3A, ROAD, DELORA)
_RESEARCH = (
    PISSA, OLORA, EVA, CORDA, LORA_GA, FOURIERFT, WAVEFT, VBLORA, RANDLORA, DEFT, PSOFT, PEANUT, GLORA, PVERA, BEFT,
    TINYLORA, UNILORA, SUPERTUNING,
)  # fmt: skip
_ENTRIES = (*_COMMON, *_MORE, *_RESEARCH)

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
