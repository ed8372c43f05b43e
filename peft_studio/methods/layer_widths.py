"""Shapes of the layers that a method changes, for methods that cut them into equal pieces."""

import math
import re
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TargetedLayers:
    """All linear layers whose full name a regular expression matches; looked for when first asked about."""

    def __init__(self, model: "PreTrainedModel", pattern: str) -> None:
        self._model, self._pattern = model, re.compile(pattern)

    @cached_property
    def shapes(self) -> list[tuple[int, int]]:
        """The two widths of each weight."""
        found = [module.weight.shape for name, module in self._model.named_modules() if self._pattern.fullmatch(name)]
        return [(int(rows), int(columns)) for rows, columns in found]

    @property
    def narrowest(self) -> int:
        """The smallest number of inputs or outputs."""
        return min(map(min, self.shapes))

    @property
    def smallest(self) -> int:
        """How many weights the smallest layer has."""
        return min(rows * columns for rows, columns in self.shapes)

    def common_divisor(self, limit: int, even: bool = False) -> int:
        """The largest number up to ``limit``, if so asked an even one, that divides all widths; 1 if there is none.

        PEFT's fixed defaults fail on many real widths (576, 896, 312).
        """
        common = math.gcd(*(width for shape in self.shapes for width in shape))
        step = 2 if even else 1
        return max((number for number in range(step, limit + 1, step) if common and common % number == 0), default=1)
