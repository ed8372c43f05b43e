"""The Compare tab; its island is drawn by ``static/compare.js`` from the page's own routes."""

from peft_studio.ui.context import Studio
from peft_studio.ui.shell import island


def build(studio: Studio) -> None:
    """Lays the tab out."""
    island("compare", elem_id="compare")
