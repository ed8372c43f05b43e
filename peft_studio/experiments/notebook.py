"""An experiment as a Jupyter notebook that computes its statistics again and repeats its runs with plain libraries.

The format is nbformat 4.5, https://nbformat.readthedocs.io/en/latest/format_description.html, written as plain JSON.
"""

import base64
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft_studio.archives.adapter_archive import script_files, script_rows
from peft_studio.errors import StudioError
from peft_studio.experiments.tables import as_markdown
from peft_studio.runs.paths import RunPaths

MOST_ROW_BYTES = 3_000_000
"""Of packed rows in a notebook; a task with more is left to its own files."""
_DATA = """import base64, gzip, json, pathlib, subprocess, sys

RESULTS = json.loads({results!r})
METRIC, LOWER_IS_BETTER = {metric!r}, {lower!r}
for row in RESULTS:
    print(f"{{row['name']:30}} {{row['mean']}}  {{row['figures']}}")"""
_STATISTICS = """# Intervals over seeds, and the exact share of exchanged names that gives a difference as large
import numpy as np
from scipy.stats import bootstrap, permutation_test

for row in RESULTS:
    if len(set(row["figures"])) > 1:
        found = bootstrap((row["figures"],), np.mean, method="percentile", rng=0).confidence_interval
        print(f"{row['name']:30} [{found.low:.4g}, {found.high:.4g}]")
for number, one in enumerate(RESULTS):
    for other in RESULTS[number + 1 :]:
        if min(len(one["figures"]), len(other["figures"])) > 1:
            pairs = len(one["figures"]) == len(other["figures"])
            found = permutation_test(
                (one["figures"], other["figures"]), lambda a, b: np.mean(a) - np.mean(b),
                permutation_type="samples" if pairs else "independent", rng=0,
            )
            gap = np.mean(one["figures"]) - np.mean(other["figures"])
            print(f"{one['name']} - {other['name']}: {gap:.4g}, p = {found.pvalue:.3g}")"""
_PLOT = """# The curves, where matplotlib is installed
import matplotlib.pyplot as plt

CURVES = json.loads({curves!r})
for curve in CURVES:
    line, = plt.plot(curve["steps"], curve["mean"], label=curve["cell"])
    plt.fill_between(curve["steps"], curve["low"], curve["high"], alpha=0.15, color=line.get_color())
plt.xlabel("step"), plt.ylabel("validation loss (nats)"), plt.legend()"""
_FILES = """# What repeats a run of each: its configuration of PEFT, a script over transformers and peft, the rows
FILES = json.loads(gzip.decompress(base64.b64decode({files!r})))
ROWS = json.loads(gzip.decompress(base64.b64decode({rows!r})))
HERE = pathlib.Path("experiment")
for cell, files in FILES.items():
    (HERE / cell).mkdir(parents=True, exist_ok=True)
    for name, text in (files | ROWS).items():
        (HERE / cell / name).write_text(text, encoding="utf-8")
print(*FILES)"""
_REPEAT = """BASE = {base!r}  # a folder or a Hub id{note}
for cell in FILES:
    command = [sys.executable, "reproduce.py", *(["--base", str(pathlib.Path(BASE).resolve())] if BASE else [])]
    done = subprocess.run(command, cwd=HERE / cell, capture_output=True, text=True)
    print(cell, (done.stdout.splitlines() or [done.stderr[-500:]])[-1])"""


def as_notebook(answer: Mapping[str, Any], runs_dir: Path) -> str:
    """The notebook.

    Args:
        answer: As from `answer.answer_of`.
        runs_dir: The folder of the runs.
    """
    results = [{key: row[key] for key in ("name", "mean", "spread", "figures", "runs")} for row in answer["table"]]
    curves = [one for one in answer["curves"] if one["steps"]]
    files, rows, left_out = _files(answer, runs_dir)
    model = str((answer["plan"]["base"].get("model") or {}).get("id") or "nano-lm")
    embedded = "/" not in model
    note = f": {model} comes with PEFT Studio, in peft_studio/models/{model}" if embedded else ""
    cells = [
        _text(as_markdown(answer)),
        _code(_DATA.format(results=json.dumps(results), metric=answer["metric"], lower=answer["lower_is_better"])),
        _code(_STATISTICS),
        _code(_PLOT.format(curves=json.dumps(curves))),
        _text("## Repeat it\n\nOne run of each, the one of the first seed, with plain libraries."
              + (f" Not of {left_out}: they train in ways of their own, or have no adapter yet." if left_out else "")),
    ]  # fmt: skip
    if files:
        cells += [
            _code(_FILES.format(files=_packed(files), rows=_packed(rows))),
            _code(_REPEAT.format(base="" if not embedded else model, note=note)),
        ]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    book = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(book, indent=1, ensure_ascii=False) + "\n"


def _files(answer: Mapping[str, Any], runs_dir: Path) -> tuple[dict[str, dict[str, str]], dict[str, str], str]:
    """Files of each cell's first run by folder, the rows that all of them share, and names of what cannot be had."""
    files: dict[str, dict[str, str]] = {}
    rows: list[dict[str, str]] = []
    missing = []
    for row in answer["table"]:
        paths = RunPaths(runs_dir / row["runs"][0]) if row["runs"] else None
        try:
            found = script_files(paths) if paths is not None and paths.root.is_dir() else {}
            shared = script_rows(paths) if found and paths is not None else {}
        except StudioError:
            found, shared = {}, {}
        if not found:
            missing.append(row["name"])
            continue
        if shared not in rows:
            rows.append(shared)
        files[f"{row['index']}-{_plain(row['name'])}"] = found | ({} if shared == rows[0] else shared)
    first = rows[0] if rows and len(_packed(rows[0])) <= MOST_ROW_BYTES else {}
    return files, first, ", ".join(missing)


def _plain(name: str) -> str:
    return "".join(sign if sign.isalnum() and sign.isascii() else "-" for sign in name).strip("-").lower()[:40]


def _packed(value: object) -> str:
    return base64.b64encode(gzip.compress(json.dumps(value).encode(), mtime=0)).decode()


def _text(words: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": words.splitlines(keepends=True)}


def _code(lines: str) -> dict[str, Any]:
    return {
        "cell_type": "code", "metadata": {}, "execution_count": None, "outputs": [],
        "source": lines.splitlines(keepends=True),
    }  # fmt: skip
