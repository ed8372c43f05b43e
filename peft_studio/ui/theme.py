"""Type, spacing and colours in Gradio's terms; the colours themselves stand in ``static/tokens.css``."""

import gradio as gr

# Gradio's page has these before any style sheet: for light and for dark.
_FIRST_PAINT = {"body_background_fill": ("#f7f7f5", "#0f1114"), "body_text_color": ("#1c1d21", "#eceef2")}
_TOKENS = {
    "body_text_color_subdued": "ink2",
    "background_fill_primary": "card",
    "background_fill_secondary": "bg",
    "block_background_fill": "card",
    "block_border_color": "line",
    "block_label_text_color": "ink2",
    "block_title_text_color": "ink",
    "border_color_primary": "line",
    "border_color_accent": "acc",
    "input_background_fill": "field",
    "input_border_color": "field-line",
    "input_border_color_focus": "acc",
    "button_primary_background_fill": "ink",
    "button_primary_background_fill_hover": "ink-hover",
    "button_primary_text_color": "on-ink",
    "button_primary_border_color": "ink",
    "button_secondary_background_fill": "card",
    "button_secondary_background_fill_hover": "card-hover",
    "button_secondary_border_color": "field-line",
    "slider_color": "acc",
    "checkbox_background_color_selected": "check",
    "checkbox_border_color_selected": "check",
    "link_text_color": "acc",
}


def make_theme() -> gr.themes.Base:
    """The theme; fonts are the ones that Gradio itself serves."""
    values: dict[str, str] = {}
    for name, (light, dark) in _FIRST_PAINT.items():
        values |= {name: light, f"{name}_dark": dark}
    for name, token in _TOKENS.items():
        values |= {name: f"var(--ps-{token})", f"{name}_dark": f"var(--ps-{token})"}
    return gr.themes.Base(
        primary_hue="indigo", neutral_hue="stone", radius_size="md", text_size="md", spacing_size="md",
        font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400,)), "ui-monospace", "monospace"],
    ).set(
        **values, layout_gap="16px", form_gap_width="0px", input_radius="10px",
        block_radius="14px", block_shadow="none", block_label_text_weight="550", block_info_text_size="12px",
        button_large_radius="10px", button_large_text_size="14px", button_large_padding="10px 14px",
        button_border_width="1px",
    )  # fmt: skip
