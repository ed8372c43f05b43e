"""The Runs tab; its island is drawn by ``static/runs.js`` from the page's own routes."""

from peft_studio.ui.context import Studio
from peft_studio.ui.shell import island


def build(studio: Studio) -> None:
    """Lays the tab out."""
    island("chart", elem_id="runs-chart")
    island("runs", elem_id="runs")
