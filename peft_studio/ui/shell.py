"""The frame around the tabs: theme, scripts, header, and islands: places that our own scripts draw."""

import gzip
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute

from peft_studio.access.doors import OPEN
from peft_studio.ui.http import as_response, endpoint
from peft_studio.ui.words import LOCALES, dictionary

STATIC = Path(__file__).parent / "static"
_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}
_SHEETS = "tokens gradio parts controls form costs data preview chart runs generate details compare learn"
_SHEETS += " experiments"
_SHEETS += " inside"
_SHEETS += " glossary"
_SHEETS += " ask"
_SHEETS += " room"
STYLES = tuple(STATIC / f"{name}.css" for name in _SHEETS.split())  # the later ones have the last word


# Gradio's page has these before any style sheet: for light and for dark.
_FIRST_PAINT = {"body_background_fill": ("#f7f7f5", "#0f1114"), "body_text_color": ("#1c1d21", "#eceef2")}
_FALLBACKS = (
    "ui-sans-serif", "system-ui", "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "Noto Sans CJK SC",
    "Source Han Sans SC", "sans-serif",
)  # fmt: skip
"""Fonts of the system, those with Chinese characters among them."""
_TOKENS = {
    "ink2": "body_text_color_subdued block_label_text_color",
    "card": "background_fill_primary block_background_fill button_secondary_background_fill",
    "bg": "background_fill_secondary",
    "line": "block_border_color border_color_primary",
    "ink": "block_title_text_color button_primary_background_fill button_primary_border_color",
    "acc": "border_color_accent input_border_color_focus slider_color link_text_color",
    "field": "input_background_fill",
    "field-line": "input_border_color button_secondary_border_color",
    "ink-hover": "button_primary_background_fill_hover",
    "on-ink": "button_primary_text_color",
    "card-hover": "button_secondary_background_fill_hover",
    "check": "checkbox_background_color_selected checkbox_border_color_selected",
}
"""What Gradio colours with each of ours."""


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


def make_theme() -> gr.themes.Base:
    """The theme; fonts are the ones that Gradio itself serves."""
    values: dict[str, str] = {}
    for name, (light, dark) in _FIRST_PAINT.items():
        values |= {name: light, f"{name}_dark": dark}
    for token, names in _TOKENS.items():
        for name in names.split():
            values |= {name: f"var(--ps-{token})", f"{name}_dark": f"var(--ps-{token})"}
    return gr.themes.Base(
        primary_hue="indigo", neutral_hue="stone", radius_size="md", text_size="md", spacing_size="md",
        font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), *_FALLBACKS],
        font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400,)), "ui-monospace", "monospace"],
    ).set(
        **values, layout_gap="16px", form_gap_width="0px", input_radius="10px",
        block_radius="14px", block_shadow="none", block_label_text_weight="550", block_info_text_size="12px",
        button_large_radius="10px", button_large_text_size="14px", button_large_padding="10px 14px",
        button_border_width="1px",
    )  # fmt: skip


def static_routes() -> list[BaseRoute]:
    """Our scripts, their words in other languages, and plotly.js."""
    return [
        endpoint("/studio/static/plotly.min.js", plotly_file),
        endpoint("/studio/static/{version}/words/{language}.json", words_file, right=OPEN),
        endpoint("/studio/static/{version}/{name}", static_file, right=OPEN),
    ]


def static_file(request: Request) -> Response:
    """A script of ours, by an address that changes with it."""
    path = STATIC / request.path_params["name"]
    if path.parent != STATIC or path.suffix != ".js" or not path.is_file():
        return PlainTextResponse("Not found", 404)
    # A page of an earlier version may ask with its own address for what is newer now.
    fresh = request.path_params["version"] == STATIC_VERSION
    return FileResponse(path, media_type="text/javascript", headers=_FOREVER if fresh else None)


def words_file(request: Request) -> Response:
    """The page's dictionary of a language; empty for English and for what is none."""
    answer = as_response(dictionary(request.path_params["language"]))
    if request.path_params["version"] == STATIC_VERSION:
        answer.headers.update(_FOREVER)
    return answer


def plotly_file(_request: Request) -> Response:
    """plotly.js out of the installed ``plotly`` package."""
    return Response(_plotly(), media_type="text/javascript", headers={"Content-Encoding": "gzip", **_FOREVER})


@lru_cache(maxsize=1)
def _plotly() -> bytes:
    import importlib.util

    spec = importlib.util.find_spec("plotly")  # found, not imported: only a file of it is needed
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("The plotly package is not installed.")
    path = Path(spec.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
    return gzip.compress(path.read_bytes(), 6)
