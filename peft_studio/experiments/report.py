"""An experiment as one HTML file that stands alone: no script, no request to anywhere, every text escaped."""

import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from peft_studio.experiments.charts import FIGURES, draw_figure, short
from peft_studio.experiments.cost import in_words
from peft_studio.experiments.tables import short_rows, told

_STYLE = """
:root{color-scheme:light dark;--line:#d1d5db;--soft:#6b7280;--back:#fff;--ink:#1f2937}
@media(prefers-color-scheme:dark){:root{--line:#4b5563;--soft:#9ca3af;--back:#111827;--ink:#e5e7eb}}
body{font:15px/1.5 system-ui,-apple-system,'Segoe UI','Noto Sans',sans-serif;color:var(--ink);background:var(--back);
max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}p.soft,figcaption,td.soft{color:var(--soft)}
.scroll{overflow-x:auto}table{border-collapse:collapse}th,td{text-align:left;padding:.3rem .7rem;
border-bottom:1px solid var(--line);font-variant-numeric:tabular-nums}figure{margin:1rem 0}
figure svg{max-width:100%;height:auto;color:var(--ink)!important}li{margin:.2rem 0}
pre{overflow-x:auto;border:1px solid var(--line);padding:.7rem}
"""
_CAPTIONS = {
    "intervals": "Mean of each, with its interval; thin marks are single seeds.",
    "grid": "Means over the two things that were varied.",
    "matrix": "Who beats whom.",
    "curves": "Validation loss over the steps: mean, and the range of the seeds.",
    "pareto": "Quality against trainable parameters; faint ones are beaten by another that costs no more.",
}


def as_html(answer: Mapping[str, Any]) -> str:
    """The whole answer as a page."""
    title = escape(answer["question"])
    seconds = answer["seconds"]
    made = time.strftime("%Y-%m-%d", time.gmtime(answer["created"]))
    took = f"{in_words(seconds['took'])} of runs" + (
        f", told before: {in_words(seconds['told'])}" if seconds["told"] else ""
    )
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main><h1>{title}</h1>",
        f'<p class="soft">{escape(_facts(answer))} Begun on {made}; {escape(took)}.</p>',
        "<h2>Answer</h2>", _listed([*answer["words"], *answer["holes"]] or ["There is no answer yet."]),
        "<h2>Table</h2>", _table(short_rows(answer)),
        f'<p class="soft">{escape(answer["interval"].get("how") or "")}</p>',
        "<h2>Figures</h2>", *_figures(answer),
        *_search(answer["search"]),
        "<h2>What it costs</h2>", _table(_cost_rows(answer)),
        "<h2>Settings that differ</h2>", _table(_setting_rows(answer["table"])),
        "<h2>The plan</h2>", f"<pre>{escape(_yaml(answer['plan']))}</pre>",
        "</main></body></html>",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def _facts(answer: Mapping[str, Any]) -> str:
    plan, runs = answer["plan"], answer["runs"]
    rules = [f"{plan['seeds']} seed{'' if plan['seeds'] == 1 else 's'} each, the same rows in the same order"]
    rules += ["an own learning rate each, searched on validation rows"] if plan["own_rates"] else []
    rules += [f"sized to {plan['equal_parameters']:,} parameters"] if plan["equal_parameters"] else []
    state = "" if answer["state"] == "finished" else f" So far {runs['over']} of {runs['of']} runs are over."
    return f"Decided by {answer['metric']}; {'; '.join(rules)}.{state}"


def _listed(words: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(one)}</li>" for one in words) + "</ul>"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _figures(answer: Mapping[str, Any]) -> list[str]:
    names = [name for name in FIGURES if name != "grid" or answer.get("grid")]
    return [
        f"<figure>{draw_figure(answer, name).svg()}<figcaption>{_CAPTIONS[name]}</figcaption></figure>"
        for name in names
    ]


def _search(found: Sequence[Mapping[str, Any]]) -> list[str]:
    if not found:
        return []
    rows = [("cell", "round", "rate", "validation loss")]
    rows += [
        (one["cell"], str(one["round"] + 1), f"{one['rate']:g}", "failed" if one["failed"] else told(one["loss"]))
        for one in found
    ]
    return ["<h2>Search for learning rates</h2>", _table(rows)]


def _cost_rows(answer: Mapping[str, Any]) -> list[tuple[str, ...]]:
    costs = answer["pareto"]["costs"]
    head = ("", *(f"{one['label']} ({one['unit']})" if one["unit"] else one["label"] for one in costs))
    return [head, *((row["name"], *(short(row[one["key"]]) for one in costs)) for row in answer["table"])]


def _setting_rows(table: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    names = list(dict.fromkeys(name for row in table for name in row["settings"]))
    told_of = [(row["name"], *(str(row["settings"].get(name, "")) for name in names)) for row in table]
    return [("", *names), *told_of]


def _yaml(plan: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(plan), sort_keys=False, allow_unicode=True, width=100)
