"""Form controls made from pydantic models: bounds become sliders, choices radios, descriptions hints."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import gradio as gr
from pydantic import BaseModel
from pydantic.fields import FieldInfo

LARGEST_SLIDER = 2048
_RULES = ("ge", "gt", "le", "multiple_of")


@dataclass(frozen=True)
class Bounds:
    """What a number may be; ``None`` where there is no bound. A step of 1 allows any whole number."""

    low: float | None
    high: float | None
    open_low: bool
    step: int = 1


def bounds(info: FieldInfo) -> Bounds:
    """The bounds that a field's constraints state."""
    named: dict[str, Any] = {}
    for rule in info.metadata:
        named |= {name: getattr(rule, name) for name in _RULES if hasattr(rule, name)}
    return Bounds(named.get("gt", named.get("ge")), named.get("le"), "gt" in named, named.get("multiple_of", 1))


def label(name: str) -> str:
    """``virtual_tokens`` -> ``Virtual tokens``."""
    return name.replace("_", " ").capitalize()


def kind_of(info: FieldInfo) -> Any:
    """A field's type; that of an optional field without the ``None``."""
    kinds = [part for part in get_args(info.annotation) if part is not NoneType]
    return kinds[0] if NoneType in get_args(info.annotation) and len(kinds) == 1 else info.annotation


def control(name: str, info: FieldInfo, value: float | None = None, visible: bool = True, slider: bool = True) -> Any:
    """The control for one field.

    Args:
        name: The field's name.
        info: Its type, bounds and description.
        value: What it shows at first; the field's default when not given.
        visible: Whether it is shown; a hidden one keeps its value.
        slider: Whether a bounded number may be one; else it is a field, which takes less room.
    """
    kind = kind_of(info)
    if value is None:
        value = None if info.is_required() else info.get_default()
    common = {
        "label": info.title or label(name),
        "info": info.description,
        "elem_id": f"field-{name}",
        "visible": visible,
    }
    if kind is not info.annotation and kind is float:  # nothing is a value, too, which no slider can show
        return gr.Textbox(value="" if value is None else show_number(value), max_lines=1, **common)
    if get_origin(kind) is Literal:
        return gr.Radio(list(get_args(kind)), value=value, elem_classes="ps-choice", **common)
    if kind is bool:
        return gr.Checkbox(value=value, **common)
    limits = bounds(info)
    if slider and (kind is int or kind is float) and _fits_slider(kind is int, limits):
        fine = 0.01 if limits.high is not None and limits.high <= 1 else 0.05
        step = limits.step if kind is int else fine
        return _as_sent(gr.Slider(limits.low, limits.high, value=value, step=step, buttons=[], **common))
    if kind is int:
        return _as_sent(gr.Number(value=value, precision=0, **common))
    if kind is str:
        return gr.Textbox(value=value or "", max_lines=3, elem_classes="ps-wide", **common)
    return gr.Textbox(value="" if value is None else show_number(value), max_lines=1, **common)


def _as_sent(control: Any) -> Any:
    """Has a control hand on what a page sends: its model says in our words what is wrong, and rounds nothing."""
    control.preprocess = lambda value: value
    return control


def _fits_slider(whole: bool, limits: Bounds) -> bool:
    if limits.low is None or limits.high is None or limits.high > LARGEST_SLIDER:
        return False
    return whole or not (limits.open_low and limits.high > 1)  # a learning rate needs digits, not a slider


def controls(model: type[BaseModel], names: Iterable[str]) -> dict[str, Any]:
    """Controls for some fields of a model, by name."""
    return {name: control(name, model.model_fields[name]) for name in names}


def read_value(info: FieldInfo, value: object) -> object:
    """What a control holds, as the field's type where that is possible; validation is left to the model."""
    kind = kind_of(info)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value.strip().replace(",", ".") if isinstance(value, str) else value)
        except (ValueError, OverflowError):
            return value
    return value


def read_values(model: type[BaseModel], values: Mapping[str, object]) -> dict[str, object]:
    """What several controls hold, by field name; empty ones are left out, so that defaults apply."""
    fields = model.model_fields
    return {name: read_value(fields[name], value) for name, value in values.items() if value not in (None, "")}


def show_value(info: FieldInfo, value: Any) -> Any:
    """A config's value as its control shows it."""
    optional = kind_of(info) is not info.annotation
    is_text = kind_of(info) is float and (optional or not _fits_slider(False, bounds(info)))
    return show_number(value) if is_text and value is not None else value


def show_number(value: float) -> str:
    """``0.005`` -> ``5e-3``; numbers that are easy to read stay as they are."""
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:g}"
    mantissa, _, exponent = f"{value:.6e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"
