"""The figures of an experiment's answer: means with intervals, curves, costs, who beats whom, and a heat map."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from peft_studio.errors import ConfigError, did_you_mean
from peft_studio.experiments.canvas import FAINT, INK, Canvas, Style, style_of
from peft_studio.experiments.verdict import unit_of

WIDTH = 760
LEFT = 190  # of names
ROW = 30  # height of one
Answer = Mapping[str, Any]


def draw_figure(answer: Answer, name: str = "", cost: str = "trainable_params") -> Canvas:
    """One of the figures; a heat map of a grid, else the means, when none is named.

    Args:
        answer: As from `answer.answer_of`.
        name: One of ``FIGURES``.
        cost: What is across in ``pareto``.

    Raises:
        ConfigError: There is no such figure, or this experiment has none.
    """
    name = name or ("grid" if answer.get("grid") else "intervals")
    if name not in FIGURES:
        raise ConfigError(f"There is no figure {name!r}. {did_you_mean(name, FIGURES)}", "figure")
    if name == "pareto":
        return pareto(answer, cost)
    return FIGURES[name](answer)


def short(value: float | None, digits: int = 3) -> str:
    """A number for people, with a unit of a thousand, a million or a thousand millions."""
    if value is None:
        return "–"
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if sign == 'k' else size):.{digits}g} {sign}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.{digits}g}"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between two, about so many."""
    span = high - low or 1.0
    step = 10 ** math.floor(math.log10(span / count))
    step *= next(one for one in (1, 2, 5, 10) if span / (step * one) <= count)
    first = math.ceil(low / step)
    return [round(number * step, 10) for number in range(first, math.floor(high / step) + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _range(values: Sequence[float], margin: float = 0.08) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    pad = (high - low) * margin or abs(high) * margin or 1.0
    return low - pad, high + pad


def intervals(answer: Answer) -> Canvas:
    """The mean of each cell with its interval and its seeds, and the base model as a line."""
    rows = answer["table"]
    base, unit = answer["base"]["mean"], unit_of(answer["metric"])[0]
    canvas = Canvas(WIDTH, ROW * len(rows) + 70, f"{answer['question']} Means of {answer['metric']} with intervals.")
    known = [row for row in rows if row["mean"] is not None]
    values = [value for row in known for value in (*row["figures"], row["low"], row["high"]) if value is not None]
    low, high = _range([*values, *([base] if base is not None else [])])
    across, bottom = _scale(low, high, LEFT, WIDTH - 20), ROW * len(rows) + 20
    _axis_below(canvas, ticks(low, high), across, bottom, unit)
    if base is not None:
        canvas.line([(across(base), 12), (across(base), bottom)], Style(FAINT, dash=(4, 4)))
        canvas.text((across(base) + 4, 12), "base model", size=10, colour="#6b7280")
    for number, row in enumerate(rows):
        y, style = 20 + ROW * number + ROW / 2, style_of(number)
        canvas.text((LEFT - 10, y + 4), _cut(row["name"], 28), "end")
        if row["mean"] is None:
            canvas.text((LEFT, y + 4), "no figure yet", size=11, colour="#6b7280")
            continue
        if row["low"] is not None:
            canvas.line([(across(row["low"]), y), (across(row["high"]), y)], Style(style.stroke, width=3))
        for value in row["figures"]:
            canvas.line([(across(value), y - 6), (across(value), y + 6)], Style(style.stroke, width=1))
        canvas.mark((across(row["mean"]), y), number, Style(style.stroke, style.stroke))
    return canvas


def _axis_below(canvas: Canvas, marks: Sequence[float], across: Callable[[float], float], y: float, name: str) -> None:
    canvas.line([(LEFT, y), (WIDTH - 20, y)], Style(INK, width=1))
    for mark in marks:
        canvas.line([(across(mark), y), (across(mark), y + 4)], Style(INK, width=1))
        canvas.text((across(mark), y + 18), short(mark), "middle", 11)
    canvas.text((WIDTH - 20, y + 36), name, "end", 11)


def _axis_left(canvas: Canvas, marks: Sequence[float], up: Callable[[float], float], left: float, name: str) -> None:
    for mark in marks:
        canvas.line([(left, up(mark)), (WIDTH - 170, up(mark))], Style("#e5e7eb", width=1))
        canvas.text((left - 6, up(mark) + 4), short(mark), "end", 11)
    canvas.text((left - 44, 16), name, size=11)


def curves(answer: Answer) -> Canvas:
    """Mean validation losses over the steps, with the range of the seeds."""
    told = [(number, one) for number, one in enumerate(answer["curves"]) if one["steps"]]
    canvas = Canvas(WIDTH, 380, f"{answer['question']} Validation losses over the steps.")
    steps = [step for _, one in told for step in one["steps"]]
    losses = [value for _, one in told for value in (*one["low"], *one["high"])]
    across = _scale(min(steps, default=0), max(steps, default=1), 60, WIDTH - 170)
    low, high = _range(losses)
    up = _scale(low, high, 340, 24)
    _axis_left(canvas, ticks(low, high), up, 60, "validation loss (nats)")
    for mark in ticks(min(steps, default=0), max(steps, default=1), 6):
        canvas.text((across(mark), 358), short(mark), "middle", 11)
    canvas.text((WIDTH - 170, 374), "step", "end", 11)
    for number, one in told:
        style = style_of(number)
        upper = [(across(step), up(value)) for step, value in zip(one["steps"], one["high"], strict=True)]
        lower = [(across(step), up(value)) for step, value in zip(one["steps"], one["low"], strict=True)]
        if one["n"] > 1:
            canvas.shape([*upper, *reversed(lower)], Style("", style.stroke, opacity=0.15))
        canvas.line([(across(s), up(v)) for s, v in zip(one["steps"], one["mean"], strict=True)], style)
    _legend(canvas, [one["cell"] for one in answer["curves"]])
    return canvas


def _legend(canvas: Canvas, names: Sequence[str], marks: bool = False) -> None:
    for number, name in enumerate(names[:18]):
        y, style = 30 + 19 * number, style_of(number)
        if marks:
            canvas.mark((WIDTH - 150, y - 4), number, Style(style.stroke, style.stroke), 4)
        else:
            canvas.line([(WIDTH - 162, y - 4), (WIDTH - 136, y - 4)], style)
        canvas.text((WIDTH - 130, y), _cut(name, 20), size=11)


def pareto(answer: Answer, cost: str = "trainable_params") -> Canvas:
    """Quality over a cost, on a scale of powers of ten, with the frontier drawn; what another one beats is faint."""
    costs = {one["key"]: one for one in answer["pareto"]["costs"]}
    if cost not in costs:
        raise ConfigError(f"There is no cost {cost!r}. {did_you_mean(cost, costs)}", "cost")
    canvas = Canvas(WIDTH, 380, f"{answer['question']} {answer['metric']} over {costs[cost]['label'].lower()}.")
    points = [point for point in answer["pareto"]["points"] if point["cost"][cost] is not None]
    places = {row["name"]: number for number, row in enumerate(answer["table"])}
    positive = [math.log10(point["cost"][cost]) for point in points if point["cost"][cost] > 0]
    least, most = math.floor(min(positive, default=0.0)), math.ceil(max(positive, default=1.0))
    across = _scale(least, most if most > least else least + 1, 110, WIDTH - 190)
    low, high = _range([point["quality"] for point in points])
    up, unit = _scale(low, high, 330, 24), unit_of(answer["metric"])[0]
    _axis_left(canvas, ticks(low, high), up, 60, unit)
    for power in range(least, max(most, least + 1) + 1):
        canvas.text((across(power), 350), short(10.0**power), "middle", 11)
    if any(point["cost"][cost] == 0 for point in points):
        canvas.text((74, 350), "0", "middle", 11)
    label, sign = costs[cost]["label"], costs[cost]["unit"]
    canvas.text((WIDTH - 170, 370), f"{label} ({sign})" if sign else label, "end", 11)

    def place(point: Mapping[str, Any]) -> tuple[float, float]:
        value = point["cost"][cost]
        return (across(math.log10(value)) if value > 0 else 74), up(point["quality"])

    best = sorted((point for point in points if point["on_frontier"][cost]), key=lambda point: point["cost"][cost])
    corners: list[tuple[float, float]] = []
    for x, y in map(place, best):
        corners += [*([(x, corners[-1][1])] if corners else []), (x, y)]
    canvas.line(corners, Style(FAINT, width=1.5, dash=(5, 4)))
    for point in points:
        number = places.get(point["name"], len(places))
        opacity = 1.0 if point["on_frontier"][cost] else 0.25
        canvas.mark(place(point), number, Style(style_of(number).stroke, style_of(number).stroke, opacity=opacity))
    _legend(canvas, [*places, *(point["name"] for point in points if point["base"])], marks=True)
    return canvas


def matrix(answer: Answer) -> Canvas:
    """Who beats whom: + where the row is better than the column, - where it is worse, = where nobody can tell."""
    names = [row["name"] for row in sorted(answer["table"], key=_rank(answer))]
    size, top = max(26, min(60, (WIDTH - LEFT - 20) // max(1, len(names)))), 40
    canvas = Canvas(WIDTH, top + size * len(names) + 30, f"{answer['question']} Who beats whom.")
    found = {(duel["better"], duel["worse"]): duel for duel in answer["duels"]}
    for row, name in enumerate(names):
        y = top + size * row
        canvas.text((LEFT - 8, y + size / 2 + 4), _cut(f"{row + 1}. {name}", 28), "end")
        canvas.text((LEFT + size * (row + 0.5), top - 8), str(row + 1), "middle", 11)
        for column, other in enumerate(names):
            ahead, behind = found.get((name, other)), found.get((other, name))
            duel = ahead or behind
            sign, fill = "", ""
            if duel is not None:
                sign, fill = ("=", "#e5e7eb") if duel["tie"] else ("+", "#7dc3a8") if ahead else ("-", "#f0b088")
            canvas.box((LEFT + size * column, y), (size, size), Style("#9ca3af", fill, 0.5))
            canvas.text((LEFT + size * (column + 0.5), y + size / 2 + 5), sign, "middle", 14, "#111827")
    words = "+ the row is better than the column   - it is worse   = they cannot be told apart"
    canvas.text((LEFT, top + size * len(names) + 20), words, size=11)
    return canvas


def _rank(answer: Answer) -> Callable[[Mapping[str, Any]], float]:
    sign = 1 if answer["lower_is_better"] else -1
    return lambda row: math.inf if row["mean"] is None else sign * row["mean"]


def grid(answer: Answer) -> Canvas:
    """A heat map of the means over two things that are varied, with the numbers in it.

    Raises:
        ConfigError: One thing is varied.
    """
    told = answer.get("grid")
    if not told:
        raise ConfigError("This experiment varies one thing, so it has no heat map.", "figure")
    across, down = told["x"]["values"], told["y"]["values"]
    means = [value for row in told["cells"] for value in row if value is not None]
    low, high = min(means, default=0.0), max(means, default=1.0)
    wide, top = (WIDTH - LEFT - 20) / len(across), 50
    canvas = Canvas(WIDTH, top + 40 * len(down) + 20, f"{answer['question']} Means of {answer['metric']}.")
    canvas.text((LEFT, 16), f"{answer['metric']}: {told['x']['field']} across, {told['y']['field']} down", size=11)
    for column, value in enumerate(across):
        canvas.text((LEFT + wide * (column + 0.5), top - 8), _cut(_told(value), 14), "middle", 11)
    for row, value in enumerate(down):
        canvas.text((LEFT - 8, top + 40 * row + 24), _cut(_told(value), 28), "end")
        for column, mean in enumerate(told["cells"][row]):
            corner = (LEFT + wide * column, top + 40 * row)
            share = 0.0 if mean is None or high == low else (mean - low) / (high - low)
            canvas.box(corner, (wide, 40), Style("#ffffff", _heat(share) if mean is not None else "", 1))
            dark = share > 0.55
            colour = "#ffffff" if dark else "#111827"
            words, size = short(mean) if mean is not None else "–", 12
            canvas.text(
                (corner[0] + wide / 2, corner[1] + 24), words, "middle", size, colour if mean is not None else INK
            )
    return canvas


def _told(value: object) -> str:
    return str(value.get("name", value)) if isinstance(value, Mapping) else str(value)


def _heat(share: float) -> str:
    """From light to dark blue, which every eye sees as less and more."""
    light, dark = (226, 238, 248), (8, 64, 129)
    mixed = [round(one + (other - one) * share) for one, other in zip(light, dark, strict=True)]
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


FIGURES: Mapping[str, Callable[[Answer], Canvas]] = {
    "intervals": intervals, "curves": curves, "pareto": pareto, "matrix": matrix, "grid": grid,
}  # fmt: skip
