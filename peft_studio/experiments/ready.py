"""Ready experiments: questions that one click or one word starts; plans in ``presets/experiments``."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from peft_studio.config.presets import PRESETS_DIR, load_preset
from peft_studio.errors import ConfigError, did_you_mean
from peft_studio.experiments.cost import Costs, in_words, plan_costs
from peft_studio.experiments.plan import ExperimentPlan, cells_of, parse_plan, told_value

FOLDER = PRESETS_DIR / "experiments"


def ready_names() -> list[str]:
    """Names of the ready experiments, in the order in which they are offered."""
    found = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    return sorted(found, key=lambda name: int(_read(name).get("place") or 0))


@lru_cache(maxsize=64)
def _read(name: str) -> Mapping[str, Any]:
    return load_preset(str(FOLDER / f"{name}.yaml"))


def ready_plan(name: str) -> dict[str, Any]:
    """The plan of a ready experiment.

    Raises:
        ConfigError: There is none of this name.
    """
    if name not in ready_names():
        hint = did_you_mean(name, ready_names())
        raise ConfigError(f"{name!r} is neither a YAML file (.yaml or .yml) nor a ready experiment. {hint}")
    return dict(_read(name)["plan"])


def ready_list(costs: Costs) -> list[dict[str, Any]]:
    """What the page offers, with what each would take here."""
    return [_told(name, costs) for name in ready_names()]


def _told(name: str, costs: Costs) -> dict[str, Any]:
    found, plan = _read(name), parse_plan(_read(name)["plan"])
    seconds = sum(one.seconds for one in plan_costs(plan, cells_of(plan), costs, None))
    return {
        "id": name, "title": found["title"], "says": found["says"], "plan": found["plan"], "vary": vary_words(plan),
        "runs": plan.counted, "search_runs": plan.searching, "minutes": max(1, round(seconds / 60)),
        "time": in_words(seconds), "needs": "",
    }  # fmt: skip


def vary_words(plan: ExperimentPlan) -> str:
    """What is varied, in words."""
    told = []
    for one in plan.vary:
        values = [told_value(one.field, value) for value in one.values]
        named = [str(value.get("name") if isinstance(value, Mapping) else value) for value in values]
        told.append(f"{one.field.rpartition('.')[2].replace('_', ' ')}: {', '.join(named)}")
    return "; ".join(told)
