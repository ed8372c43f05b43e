"""Type, spacing and colours in Gradio's terms; the colours themselves stand in ``static/tokens.css``."""

import gradio as gr

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
