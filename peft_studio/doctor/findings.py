"""What the doctor says about a run: a finding in plain language, with the settings that its fix would change."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from peft_studio.config.advice import beside
from peft_studio.config.run_config import TrainingConfig, recommended_rate
from peft_studio.doctor.evidence import Evidence
from peft_studio.methods import METHODS
from peft_studio.runs.event_log import number

Severity = Literal["note", "warning", "problem"]
SEVERITIES: tuple[Severity, ...] = ("problem", "warning", "note")
MAX_RATE = 10.0  # as the config allows


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing, about a run.

    Attributes:
        id: Which rule found it.
        severity: ``problem``: the run is of no use; ``warning``: another setting would be better; ``note``: know this.
        step: Where on the curve it shows; None when it is about the whole run.
        title: What is seen, in a few words.
        cause: Why, with the run's own numbers.
        fix: What to do about it.
        settings: What the fix would change, by dotted path such as ``training.learning_rate``.
    """

    id: str
    severity: Severity
    step: int | None
    title: str
    cause: str
    fix: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def change(self) -> str:
        """The changed settings in words, such as "learning rate 0.005"; empty when there are none."""
        return " and ".join(f"{_label(path)} {_shown(value)}" for path, value in self.settings.items())

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, with ``change``."""
        return {**asdict(self), "settings": dict(self.settings), "change": self.change}


def _label(path: str) -> str:
    name = path.rpartition(".")[2]
    title = TrainingConfig.model_fields[name].title if name in TrainingConfig.model_fields else None
    return (title or name.replace("_", " ")).lower()


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def advised_rate(evidence: Evidence) -> float | None:
    """The learning rate that is recommended for the run's method, model and task; None when the config is damaged."""
    parts = [evidence.config.get(name) for name in ("method", "model", "task")]
    method, model, task = (part if isinstance(part, Mapping) else {} for part in parts)
    if method.get("name") not in METHODS:
        return None
    data = evidence.started.get("data")  # a kind that was guessed stands nowhere else
    kind = task.get("kind") or (data.get("kind") if isinstance(data, Mapping) else "")
    told = (str(value or "") for value in (model.get("id"), task.get("id"), kind))
    return recommended_rate(method["name"], *told)


def lower_rate(evidence: Evidence) -> dict[str, Any]:
    """A lower learning rate: the recommended one if that is much lower, else a third."""
    rate, recommended = number(evidence.option("learning_rate")), advised_rate(evidence)
    if rate is None:
        return {}
    return {"training.learning_rate": recommended if recommended and recommended <= rate / 2 else rounded(rate / 3)}


def higher_rate(evidence: Evidence) -> dict[str, Any]:
    """A higher learning rate: the recommended one if that is much higher, else three times as much."""
    rate, recommended = number(evidence.option("learning_rate")), advised_rate(evidence)
    if rate is None:
        return {}
    better = recommended if recommended and recommended >= rate * 2 else rounded(rate * 3)
    return {"training.learning_rate": min(MAX_RATE, better)}


def compared_rate(evidence: Evidence) -> str:
    """A clause on the run's learning rate beside the recommended one."""
    rate, recommended = number(evidence.option("learning_rate")), advised_rate(evidence)
    if rate is None or not recommended:
        return "the learning rate of this run"
    words = beside(rate, recommended)
    return f"the learning rate {rate:g}, {'which is ' if words.startswith('about') else ''}{words}"


def rounded(value: float) -> float:
    """Two significant digits, as a person would type it."""
    return float(f"{value:.2g}")


def percent(share: float) -> str:
    """A share for people; never 0 % of something that is there, nor 100 % of what is not all."""
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    shown = min(99.9, max(0.1, share * 100))
    return f"{shown:.1f} %" if shown < 10 or shown > 99 else f"{math.floor(shown + 0.5)} %"
