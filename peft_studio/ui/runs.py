"""The Runs tab; its islands are drawn by scripts in ``static`` from the page's own routes."""

from peft_studio.ui.context import Studio
from peft_studio.ui.shell import island


def build(studio: Studio) -> None:
    """Lays the tab out."""
    island("chart", elem_id="runs-chart")
    island("runs", elem_id="runs")
    island("storage", elem_id="storage")
