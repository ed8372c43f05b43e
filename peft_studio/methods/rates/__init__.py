"""Recommended learning rates of nano models, read from ``rates.json``: ``tests/benchmarks/bench_rates.py`` writes it.

Measured on ``bistro`` for what writes, on ``reviews`` for what classifies; an entry says what is known of it, and a
rate that was not measured says where it is from.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["generation", "classification"]
KINDS: tuple[Kind, ...] = ("generation", "classification")
TABLE = Path(__file__).with_name("rates.json")


class Rate(BaseModel):
    """A learning rate with what is known of it.

    Attributes:
        rate: Peak learning rate.
        loss: Validation loss that it reached, the mean over seeds in nats; None when it was not measured.
        steps: Optimizer steps of that measurement; 0 when it was not measured.
        seeds: Of the measurement.
        tried: How many rates it compared.
        model: What it was measured on.
        task: The rows that it was measured on.
        note: What else has to be said of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    rate: float = Field(gt=0, le=1)
    loss: float | None = Field(None, gt=0)
    steps: int = Field(0, ge=0)
    seeds: int = Field(0, ge=0)
    tried: int = Field(0, ge=0)
    model: str = ""
    task: str = ""
    note: str = ""

    @property
    def origin(self) -> str:
        """How it was found, as a phrase."""
        told = f"; {self.note}" if self.note else ""
        if self.loss is None:
            return f"not measured{told}"
        seeds = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
        rates = "no other rate tried" if self.tried == 1 else f"{self.tried} rates compared"
        measured = f"{self.model} on {self.task}, {self.steps} steps, {seeds}, {rates}"
        return f"{measured}: validation loss {self.loss:.3f}{told}"


Rates = Mapping[Kind, Rate]


@cache
def _table() -> dict[str, Any]:
    return json.loads(TABLE.read_text(encoding="utf-8"))


def measured(method: str) -> Rates:
    """The rates of a method in the table.

    Raises:
        KeyError: The table does not have the method.
    """
    return {kind: Rate.model_validate(_table()[method][kind]) for kind in KINDS}


def chosen(rate: float) -> Rates:
    """The rate of a new method that was not measured yet."""
    return dict.fromkeys(KINDS, Rate(rate=rate))
