"""The answers of a class to take along: one HTML file that asks nobody for anything, and a table as CSV."""

import csv
import html
import io
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from peft_studio.ui.http import safe_cell, told
from peft_studio.ui.room.question import BEST
from peft_studio.ui.words import dictionary

_BEST_WORDS = "Lowest validation loss"
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 800, 340, 90, 60


def title_of(metric: str) -> str:
    """A metric in words."""
    return _BEST_WORDS if metric == BEST else metric.partition("/")[2].replace("_", " ")


def by_value(question: dict[str, Any], metric: str) -> list[tuple[str, list[float]]]:
    """The figures of a metric for each value of the setting, smallest first."""
    found: dict[str, list[float]] = {value: [] for value in question["values"]}
    for row in question["answers"]:
        score = row["metrics"].get(metric)
        if row["value"] in found and score is not None and math.isfinite(score):
            found[row["value"]].append(score)
    return [(value, sorted(scores)) for value, scores in found.items()]


def csv_of(question: dict[str, Any] | None, names: bool) -> str:
    """The answers, one student in a line; without names where that is asked for."""
    rows: Sequence[dict[str, Any]] = question["answers"] if question else ()
    metrics = sorted({name for row in rows for name in row["metrics"]})
    fields = [*(["name"] if names else []), "value", "status", "step"]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*fields, *map(safe_cell, metrics)])
    for row in rows:
        cells = [*(row[name] for name in fields), *(row["metrics"].get(name) for name in metrics)]
        writer.writerow([safe_cell(cell) for cell in cells])
    return "\ufeff" + out.getvalue()


def report(question: dict[str, Any], metric: str, names: bool, language: str) -> str:
    """One HTML page with question, plot and tables; nothing in it is fetched from anywhere, and no script runs.

    Args:
        question: As `RoomQuestion.answers` tells it.
        metric: By which it is answered.
        names: Whether students are named.
        language: Of `words.LANGUAGES`.
    """
    words = dictionary(language)

    def say(text: str) -> str:
        return html.escape(words.get(text, text))

    groups = by_value(question, metric)
    parts = [
        f"<h1>{say('A question to the class')}</h1>",
        f"<p>{html.escape(told(question['words']))}</p>" if question["words"] else "",
        f"<p><b>{html.escape(question['preset'])}</b>, <code>{html.escape(question['setting'])}</code> · "
        f"{time.strftime('%Y-%m-%d %H:%M')}</p>",
        _plot(groups, f"{question['setting']}: {words.get(title_of(metric), title_of(metric))}"),
        f"<h2>{say(title_of(metric))}</h2>",
        _table([say(text) for text in ("Its value", "Answers", "Lowest", "Median", "Highest")],
               [[value, str(len(found)), *_spread(found)] for value, found in groups]),
        f"<h2>{say('Everybody')}</h2>",
        _everybody(question, metric, names, say),
    ]  # fmt: skip
    lang = "zh-CN" if language == "zh" else "en"
    return _PAGE.format(lang=lang, title=say("A question to the class"), body="\n".join(filter(None, parts)))


def _spread(found: list[float]) -> list[str]:
    return [f"{one:.4g}" for one in (found[0], statistics.median(found), found[-1])] if found else ["–"] * 3


def _everybody(question: dict[str, Any], metric: str, names: bool, say: Callable[[str], str]) -> str:
    rows = []
    for number, row in enumerate(question["answers"], 1):
        score = row["metrics"].get(metric)
        figures = [
            row["value"] or "–",
            row["status"] or "–",
            str(row["step"]),
            "–" if score is None else f"{score:.4g}",
        ]
        rows.append([row["name"] if names else str(number), *figures])
    return _table([say(text) for text in ("Name", "Its value", "Status", "Step", title_of(metric))], rows)


def _table(heads: list[str], rows: list[list[str]]) -> str:
    """A table; heads are markup already, cells are text."""
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    lines = ("".join(f"<td>{html.escape(told(cell))}</td>" for cell in row) for row in rows)
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody></table>"
    )


def _plot(groups: list[tuple[str, list[float]]], title: str) -> str:
    """Dots above each value, a line at their median."""
    every = [score for _, found in groups for score in found]
    if not every:
        return ""
    low, high = min(every), max(every)
    span = high - low or 1.0
    wide = (_WIDTH - _LEFT - 20) / len(groups)

    def at(score: float) -> float:
        return 20 + (_HEIGHT - _BOTTOM - 40) * (1 - (score - low) / span)

    parts = [f'<text x="4" y="{at(one) + 5:.1f}">{one:.4g}</text>' for one in dict.fromkeys((low, high))]
    for number, (value, found) in enumerate(groups):
        middle = _LEFT + (number + 0.5) * wide
        parts.append(f'<text x="{middle:.1f}" y="{_HEIGHT - 38}" text-anchor="middle">{html.escape(value)}</text>')
        if found:
            line = at(statistics.median(found))
            parts.append(f'<path d="M{middle - 26:.1f} {line:.1f}h52" stroke="currentColor" stroke-width="2"/>')
        for place, score in enumerate(found):
            shift = (place - (len(found) - 1) / 2) * min(12.0, wide / (len(found) + 1))
            parts.append(f'<circle cx="{middle + shift:.1f}" cy="{at(score):.1f}" r="6" class="dot"/>')
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{html.escape(title)}</text>')
    label = html.escape(title)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


_PAGE = """<!doctype html>
<html lang="{lang}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, "Noto Sans CJK SC", sans-serif; max-width: 56rem;
margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
svg {{ width: 100%; height: auto; font: 15px system-ui, sans-serif; fill: currentColor; }}
.dot {{ fill: #3f5bd8; fill-opacity: .75; stroke: currentColor; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid #8886; overflow-wrap: anywhere; }}
@media print {{ body {{ margin: 0; }} }}</style></head>
<body><main>
{body}
</main></body></html>
"""
