"""Colours, type and spacing in Gradio's terms. The same colours stand in ``static/studio.css`` for our own parts."""

import gradio as gr

_LIGHT_DARK = {
    "body_background_fill": ("#f7f7f5", "#0f1114"),
    "body_text_color": ("#1c1d21", "#eceef2"),
    "body_text_color_subdued": ("#5f6169", "#a3a8b3"),
    "background_fill_primary": ("#ffffff", "#16191e"),
    "background_fill_secondary": ("#f7f7f5", "#0f1114"),
    "block_background_fill": ("#ffffff", "#16191e"),
    "block_border_color": ("#e8e6e1", "#252a32"),
    "block_label_text_color": ("#5f6169", "#a3a8b3"),
    "block_title_text_color": ("#1c1d21", "#eceef2"),
    "border_color_primary": ("#e8e6e1", "#252a32"),
    "border_color_accent": ("#3f5bd8", "#8ea2ff"),
    "input_background_fill": ("#ffffff", "#0f1114"),
    "input_border_color": ("#dedbd5", "#2b313a"),
    "input_border_color_focus": ("#3f5bd8", "#8ea2ff"),
    "button_primary_background_fill": ("#1c1d21", "#eceef2"),
    "button_primary_background_fill_hover": ("#33353c", "#ffffff"),
    "button_primary_text_color": ("#ffffff", "#0f1114"),
    "button_primary_border_color": ("#1c1d21", "#eceef2"),
    "button_secondary_background_fill": ("#ffffff", "#16191e"),
    "button_secondary_background_fill_hover": ("#f7f7f5", "#1d2128"),
    "button_secondary_border_color": ("#dedbd5", "#2b313a"),
    "slider_color": ("#3f5bd8", "#8ea2ff"),
    "checkbox_background_color_selected": ("#3f5bd8", "#5b74ee"),
    "checkbox_border_color_selected": ("#3f5bd8", "#5b74ee"),
    "link_text_color": ("#3f5bd8", "#8ea2ff"),
}


def make_theme() -> gr.themes.Base:
    """The theme; fonts are the ones that Gradio itself serves."""
    values: dict[str, str] = {}
    for name, (light, dark) in _LIGHT_DARK.items():
        values |= {name: light, f"{name}_dark": dark}
    return gr.themes.Base(
        primary_hue="indigo",
        neutral_hue="stone",
        radius_size="md",
        text_size="md",
        spacing_size="md",
        font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400,)), "ui-monospace", "monospace"],
    ).set(
        **values,
        block_radius="14px",
        block_shadow="none",
        block_label_text_weight="550",
        block_info_text_size="12px",
        input_radius="10px",
        button_large_radius="10px",
        button_large_text_size="14px",
        button_large_padding="10px 14px",
        button_border_width="1px",
        layout_gap="16px",
        form_gap_width="0px",
    )
