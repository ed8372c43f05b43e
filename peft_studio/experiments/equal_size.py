"""Methods made the same size: the rank, width or length with which one trains as many parameters as another."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from peft_studio.config.run_config import RunConfig, parse_config
from peft_studio.errors import ConfigError
from peft_studio.experiments.plan import Cell

SIZES = (
    "rank", "bottleneck_dim", "virtual_tokens", "initial_rank", "layers", "frequencies", "coefficients", "numbers",
    "block",
)  # fmt: skip
"""Parameters of methods that say how large they are."""
NETWORK = "projection"
"""The switch of a network that makes a method's vectors, and that has most of its parameters."""
NEAR = 0.05  # relative: so far from the wanted number a size still counts as equal
MOST_KNOWN = 2000  # estimates that are remembered
Count = Callable[[RunConfig], int]
"""Trainable parameters of a config; raises ConfigError where a size does not fit the model."""


class Estimates:
    """Estimates of configs; each is made once. Thread-safe.

    Args:
        estimate: Makes one of a config as plain values; see `training.estimates.estimate`.
    """

    def __init__(self, estimate: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        self._estimate = estimate
        self._known: dict[str, Mapping[str, Any]] = {}
        self._lock = threading.Lock()

    def of(self, config: RunConfig) -> Mapping[str, Any]:
        """The estimate of a config; rate and seed do not matter in it.

        Raises:
            StudioError: The config does not fit its model.
        """
        plain = config.model_dump(mode="json")
        plain["training"] |= {"seed": 0, "learning_rate": 1e-3}
        key = json.dumps(plain)
        if key not in self._known:
            found = self._estimate(plain)
            with self._lock:
                if len(self._known) >= MOST_KNOWN:
                    self._known.clear()
                self._known[key] = {name: found.get(name) for name in ("trainable_params", "tokens_per_row")}
        return self._known[key]

    def count(self, config: RunConfig) -> int:
        """Trainable parameters of a config; see `of`."""
        return int(self.of(config)["trainable_params"])


def fit_cells(cells: Sequence[Cell], wanted: int, estimates: Estimates) -> list[Cell]:
    """Cells with the sizes that train as many parameters as wanted; those without a size stay as they are."""
    return [replace(cell, config=fit_size(cell.config, wanted, estimates.count)[0]) for cell in cells]


def size_field(config: RunConfig) -> str:
    """The parameter that says how large a method is; empty when its size is the model's."""
    return next((name for name in SIZES if name in type(config.method).model_fields), "")


def fit_size(config: RunConfig, wanted: int, count: Count) -> tuple[RunConfig, int]:
    """A config with the size whose number of trainable parameters is nearest to a wanted one.

    Numbers grow with the size, so a bisection finds it in some ten counts. LoRA's scale alpha / rank stays. Where no
    size comes near because a small network makes the vectors, as of a prefix, that network is left out.

    Args:
        config: The run.
        wanted: Trainable parameters.
        count: Counts them.

    Returns:
        The config, as it was where the method has no size, and its number of trainable parameters.
    """
    field = size_field(config)
    if not field:
        return config, count(config)
    found = _nearest(config, field, wanted, count)
    if abs(found[1] / wanted - 1) > NEAR and getattr(config.method, NETWORK, False):
        plain = _changed(config, {NETWORK: False})
        found = min(found, _nearest(plain, field, wanted, count), key=lambda pair: abs(pair[1] - wanted))
    return found


def _nearest(config: RunConfig, field: str, wanted: int, count: Count) -> tuple[RunConfig, int]:
    """The same for a method's other parameters as they are."""
    limits = {type(one).__name__: one for one in type(config.method).model_fields[field].metadata}
    low, high = (int(getattr(limits[kind], kind.lower())) for kind in ("Ge", "Le"))
    found: dict[int, tuple[RunConfig, int]] = {}

    def at(size: int) -> int:
        """The number at a size; of the next smaller one that the method can have, where it cannot have this one."""
        for candidate in range(size, low - 1, -1):
            if candidate in found:
                return found[candidate][1]
            try:
                changed = _resized(config, field, candidate)
                found[candidate] = (changed, count(changed))
            except ConfigError:
                continue
            return found[candidate][1]
        return 0

    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if at(middle) < wanted else (low, middle)
    at(low)
    if low > int(limits["Ge"].ge):
        at(low - 1)
    if not found:
        return config, count(config)
    return min(found.values(), key=lambda pair: abs(pair[1] - wanted))


def _resized(config: RunConfig, field: str, size: int) -> RunConfig:
    """A config with another size; what is in proportion to it follows."""
    method = config.method.model_dump(mode="json")
    for name in ("alpha", "target_rank"):
        if name in method:
            method[name] = max(1, round(method[name] * size / method[field]))
    return _changed(config, {**method, field: size})


def _changed(config: RunConfig, method: Mapping[str, object]) -> RunConfig:
    plain = config.model_dump(mode="json")
    return parse_config({**plain, "method": {**plain["method"], **method}})
