"""Widths of the layers that a method changes, for methods that cut them into equal pieces."""

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def widths(model: "PreTrainedModel", pattern: str) -> list[int]:
    """Inputs and outputs of all linear layers whose full name a regular expression matches."""
    wanted = re.compile(pattern)
    found = [module.weight.shape for name, module in model.named_modules() if wanted.fullmatch(name)]
    return [int(width) for shape in found for width in shape]


def common_divisor(model: "PreTrainedModel", pattern: str, limit: int) -> int:
    """The largest number up to ``limit`` that divides all of these layers' widths.

    PEFT's fixed defaults fail on many real widths (576, 896, 312).
    """
    common = math.gcd(*widths(model, pattern))
    return max(number for number in range(1, limit + 1) if common % number == 0) if common else 1
