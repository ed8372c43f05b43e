"""The frame around the tabs: scripts, header, and islands: places in the page that our own scripts draw."""

import hashlib
from pathlib import Path
from typing import Any

import gradio as gr

from peft_studio.ui.words import LOCALES

STATIC = Path(__file__).parent / "static"
_SHEETS = (
    "tokens gradio parts controls form costs data preview chart runs generate details compare learn experiments inside"
)
STYLES = tuple(STATIC / f"{name}.css" for name in _SHEETS.split())  # the later ones have the last word


def _version(*paths: Path) -> str:
    """Changes with any of the files; it stands in their addresses, so that a browser never mixes two versions."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


STATIC_VERSION = _version(*STATIC.iterdir(), *LOCALES.glob("*/*.json"))
SCRIPTS = f"studio/static/{STATIC_VERSION}"
# All modules are fetched at once, and not one import after the other.
HEAD = "".join(f'<link rel="modulepreload" href="{SCRIPTS}/{path.name}">' for path in sorted(STATIC.glob("*.js")))
HEAD += f'<script type="module" src="{SCRIPTS}/main.js"></script>'

# Gradio runs this text as a function, where only a dynamic import can reach a module.
_START = f"""
import(new URL("{SCRIPTS}/islands.js", document.baseURI).href)
  .then(({{ mount }}) => mount({{ element, props, watch, trigger }}));
"""


def island(kind: str, value: Any = None, elem_id: str | None = None, event: str = "", **props: Any) -> Any:
    """A place that ``island(kind, ...)`` in one of our scripts draws; its ``value`` is data, never markup.

    Args:
        kind: Which script draws it.
        value: JSON-able data that it shows.
        elem_id: Id in the page.
        event: Name of an event that the script may trigger.
        **props: Further data that the script can read.
    """
    template = f'<div class="ps-island" data-island="{kind}"></div>'
    start = _START + (f"// triggers '{event}'" if event else "")  # Gradio looks for the name in the text
    return gr.HTML(
        value, html_template=template, js_on_load=start, elem_id=elem_id, elem_classes="ps-plain",
        apply_default_css=False, padding=False, **props,
    )  # fmt: skip
