"""What can be asked of a class: the settings of a preset that each student may have another value of."""

import json
from functools import lru_cache
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from peft_studio.config.presets import list_presets, parse_preset
from peft_studio.config.sections import TrainingConfig
from peft_studio.methods import METHODS
from peft_studio.ui.form import bounds, kind_of, label, show_number

_TRAINING = ("learning_rate", "max_steps", "batch_size", "seed", "scheduler", "optimizer", "max_grad_norm")
_INTEGER_STEPS = (0.25, 0.5, 1.0, 2.0, 4.0)
_RATE_STEPS = (0.1, 0.3, 1.0, 3.0, 10.0)
_SEEDS = ("0", "1", "2", "3", "4")
_MOST_METHODS = 8


@lru_cache(maxsize=1)
def askable() -> list[dict[str, Any]]:
    """Every preset with its settings: name, title, what it is, its value now and values that are worth a try."""
    return [{"preset": name, "settings": _settings_of(name)} for name in list_presets()]


def _settings_of(preset: str) -> list[dict[str, Any]]:
    config = parse_preset(preset)
    found = _of_section("method", METHODS[config.method.name].params, config.method, ())
    found += _of_section("training", TrainingConfig, config.training, _TRAINING)
    methods = _methods_of(config.task.id, config.method.name)
    if len(methods) > 1:
        told = "Each method with its own settings and learning rate."
        found.append(_told("method.name", "Method", told, config.method.name, methods))
    return found


def _of_section(section: str, model: type[BaseModel], held: BaseModel, names: tuple[str, ...]) -> list[dict[str, Any]]:
    found = []
    for name, info in model.model_fields.items():
        if name == "name" or (names and name not in names):
            continue
        value = getattr(held, name)
        values = _worth_trying(name, info, value)
        if len(values) > 1:
            title = info.title or label(name)
            found.append(_told(f"{section}.{name}", title, info.description or "", value, values))
    return sorted(found, key=lambda one: not one["now"].replace(".", "").replace("e-", "").isdigit())  # numbers first


def _told(name: str, title: str, hint: str, value: Any, values: list[str]) -> dict[str, Any]:
    return {"name": name, "title": title, "hint": hint, "now": _text(value), "values": values}


def _worth_trying(name: str, info: FieldInfo, value: Any) -> list[str]:
    """Values of a setting around the present one, within its bounds."""
    kind = kind_of(info)
    if name == "seed":
        return list(_SEEDS)
    if get_origin(kind) is Literal:
        return [str(one) for one in get_args(kind) if one is not None and not isinstance(one, NoneType)]
    if kind is bool:
        return ["true", "false"]
    if kind not in (int, float) or not isinstance(value, int | float) or not value:
        return []
    limits = bounds(info)
    steps = _INTEGER_STEPS if kind is int else _RATE_STEPS
    near = [max(1, round(value * step)) if kind is int else value * step for step in steps]
    low = float("-inf") if limits.low is None else limits.low
    high = float("inf") if limits.high is None else limits.high
    return list(dict.fromkeys(_text(one) for one in near if low <= one <= high and one % limits.step < 1))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return show_number(value)
    return value if isinstance(value, str) else json.dumps(value)


def _methods_of(task: str, first: str) -> list[str]:
    """Methods that the presets of a task have, a preset's own first."""
    configs = [parse_preset(name) for name in list_presets()]
    found = [first, *(config.method.name for config in configs if config.task.id == task)]
    return list(dict.fromkeys(found))[:_MOST_METHODS]
