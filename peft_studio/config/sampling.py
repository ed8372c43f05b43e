"""How text is sampled: the settings behind the Generate tab's sliders, the CLI's flags and the engine's requests."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peft_studio.config.run_config import config_error


class Sampling(BaseModel):
    """Sampling settings; the defaults are greedy decoding, which is deterministic."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    max_new_tokens: int = Field(64, ge=1, le=1024, description="Tokens to write at most.")
    temperature: float = Field(
        0.0, ge=0, le=5, description="0 always takes the likeliest token; higher values take more risks."
    )
    top_p: float = Field(
        1.0, gt=0, le=1, description="Choose among the likeliest tokens that together hold this probability."
    )
    top_k: int = Field(0, ge=0, le=1000, description="Choose among this many likeliest tokens; 0 means all.")
    repetition_penalty: float = Field(
        1.0, ge=0.5, le=3, description="Above 1, tokens that have been used become less likely; 1 changes nothing."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Same seed, same settings: same text.")


def parse_sampling(data: Mapping[str, Any]) -> Sampling:
    """Validates sampling settings from JSON or the command line.

    Raises:
        ConfigError: Names the setting, the value and what is allowed.
    """
    try:
        return Sampling.model_validate(dict(data))
    except ValidationError as exc:
        raise config_error(exc, list(Sampling.model_fields), "sampling") from exc
