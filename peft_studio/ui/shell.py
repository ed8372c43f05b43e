"""The frame around the tabs: scripts, header, and islands: places in the page that our own scripts draw."""

from typing import Any

import gradio as gr

SCRIPTS = (
    "core.js", "map.js", "data.js", "hub.js", "preview.js", "findings.js", "chart.js", "runs.js", "storage.js",
    "details.js", "compare.js", "generate.js", "library.js",
)  # fmt: skip
HEAD = "".join(f'<script src="studio/static/{name}"></script>' for name in SCRIPTS)

# An island can come to life before or after the scripts: whichever is second finds the other here.
_START = """
(window.studioIslands = window.studioIslands || []).push({element, props, watch, trigger});
if (window.studio) window.studio.launch();
"""


def island(kind: str, value: Any = None, elem_id: str | None = None, event: str = "", **props: Any) -> Any:
    """A place that ``studio.island(kind, ...)`` of our scripts draws; its ``value`` is data, never markup.

    Args:
        kind: Which script draws it.
        value: JSON-able data that it shows.
        elem_id: Id in the page.
        event: Name of an event that the script may trigger.
        **props: Further data that the script can read.
    """
    return gr.HTML(
        value,
        html_template=f'<div class="ps-island" data-island="{kind}"></div>',
        js_on_load=_START + (f"// triggers '{event}'" if event else ""),  # Gradio looks for the name in the text
        head=HEAD,
        elem_id=elem_id,
        elem_classes="ps-plain",
        apply_default_css=False,
        padding=False,
        **props,
    )
