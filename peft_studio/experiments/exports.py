"""An experiment's answer as a file to take away."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_studio.errors import ConfigError, did_you_mean
from peft_studio.experiments.charts import draw_figure
from peft_studio.experiments.notebook import as_notebook
from peft_studio.experiments.report import as_html
from peft_studio.experiments.tables import as_csv, as_markdown

TYPES: Mapping[str, str] = {
    "html": "text/html; charset=utf-8", "ipynb": "application/x-ipynb+json", "csv": "text/csv; charset=utf-8",
    "md": "text/markdown; charset=utf-8", "json": "application/json", "yaml": "text/yaml; charset=utf-8",
    "svg": "image/svg+xml", "png": "image/png",
}  # fmt: skip
"""Media types by the endings of files."""


@dataclass(frozen=True)
class ExportedFile:
    """A file.

    Attributes:
        name: Without a folder.
        content: Its bytes.
        media_type: What it is.
    """

    name: str
    content: bytes
    media_type: str


def export(
    answer: Mapping[str, Any], kind: str, runs_dir: Path, figure: str = "", cost: str = "trainable_params"
) -> ExportedFile:
    """Makes a file of an answer.

    Args:
        answer: As from `answer.answer_of`.
        kind: One of ``TYPES``.
        runs_dir: The folder of the runs.
        figure: Which figure, for ``svg`` and ``png``; see `charts.draw_figure`.
        cost: What is across in the figure ``pareto``.

    Raises:
        ConfigError: There is no such kind or figure.
    """
    if kind not in TYPES:
        raise ConfigError(f"There is no export as {kind!r}. {did_you_mean(kind, TYPES)}", "as")
    if kind == "png":
        content = draw_figure(answer, figure, cost).png()
    else:
        content = _text(answer, kind, runs_dir, figure, cost).encode()
    name = f"experiment-{answer['id']}{f'-{figure}' if figure else ''}.{kind}"
    return ExportedFile(name, content, TYPES[kind])


def _text(answer: Mapping[str, Any], kind: str, runs_dir: Path, figure: str, cost: str) -> str:
    if kind == "html":
        return as_html(answer)
    if kind == "ipynb":
        return as_notebook(answer, runs_dir)
    if kind == "csv":
        return as_csv(answer)
    if kind == "md":
        return as_markdown(answer)
    if kind == "svg":
        return draw_figure(answer, figure, cost).svg()
    if kind == "json":
        return json.dumps(answer, indent=2, ensure_ascii=False) + "\n"
    import yaml

    return yaml.safe_dump(dict(answer["plan"]), sort_keys=False, allow_unicode=True, width=118)
