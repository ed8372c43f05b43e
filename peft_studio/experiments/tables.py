"""An experiment's table as text: Markdown, CSV, and rows for whatever else shows it."""

import csv
import io
from collections.abc import Mapping
from typing import Any

Answer = Mapping[str, Any]
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell must not begin with, or a spreadsheet would compute it."""


def short_rows(answer: Answer) -> list[tuple[str, ...]]:
    """The table as people read it, with its head."""
    head = ("cell", answer["metric"], "spread", "interval", "runs", "rate", "trainable")
    return [head, *(_short(row) for row in answer["table"])]


def _short(row: Mapping[str, Any]) -> tuple[str, ...]:
    lost = row["failed"] + row["missing"]
    runs = f"{row['n']} of {row['of']}" + (f" ({lost} lost)" if lost else "")
    ends = "" if row["low"] is None else f"[{told(row['low'])}, {told(row['high'])}]"
    return (
        row["name"], told(row["mean"]), told(row["spread"]), ends, runs,
        f"{row['rate']:g}" if row["rate"] else "", f"{row['trainable_params']:,}" if row["trainable_params"] else "",
    )  # fmt: skip


def told(value: float | None) -> str:
    """A figure for people."""
    return "" if value is None else f"{value:.4g}" if abs(value) < 10 else f"{value:.2f}"


def as_csv(answer: Answer) -> str:
    """The whole table with exact figures, a row for each cell; cells that a spreadsheet would compute are quoted."""
    settings = list(dict.fromkeys(name for row in answer["table"] for name in row["settings"]))
    keys = ("name", "mean", "spread", "low", "high", "n", "failed", "missing", "rate", "trainable_params", "share",
            "adapter_bytes", "peak_memory_bytes", "train_seconds", "answer_seconds")  # fmt: skip
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*keys, *settings, "figures", "runs"])
    for row in answer["table"]:
        cells = [row[key] for key in keys] + [row["settings"].get(name) for name in settings]
        cells += [" ".join(map(repr, row["figures"])), " ".join(row["runs"])]
        writer.writerow([_safe(cell) for cell in cells])
    return out.getvalue()


def _safe(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def as_markdown(answer: Answer) -> str:
    """The question, the table and the answer in words."""
    rows = short_rows(answer)
    lines = ["| " + " | ".join(_plain(cell) for cell in row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    said = [f"- {_plain(one)}" for one in (*answer["words"], *answer["holes"])]
    how = answer["interval"].get("how")
    foot = [f"Intervals: {how}", ""] if how else []
    return "\n".join([f"# {_plain(answer['question'])}", "", *lines, "", *said, "", *foot])


def _plain(text: object) -> str:
    """A text in which Markdown and HTML have no meaning."""
    plain = " ".join(str(text).split())
    for sign in "\\|<>`*_[]":
        plain = plain.replace(sign, {"<": "&lt;", ">": "&gt;"}.get(sign, f"\\{sign}"))
    return plain
