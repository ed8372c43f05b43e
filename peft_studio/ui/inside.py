"""The Inside tab: what the adapter of a run did to its model. The engine looks, `static/inside.js` draws."""

from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute

from peft_studio.access.rights import Right
from peft_studio.errors import ConfigError, shown
from peft_studio.jobs.manager import JobManager
from peft_studio.ui.context import Studio
from peft_studio.ui.http import endpoint
from peft_studio.ui.shell import island
from peft_studio.ui.tools import seen

PARTS = ("inspect", "answers", "forgetting", "surgery")
"""What the engine can be asked of an adapter; see `training.inspection.inspector`."""


def build(_studio: Studio) -> None:
    """Lays the tab out."""
    island("inside", elem_id="inside")


def inside_routes(manager: JobManager) -> list[BaseRoute]:
    """Routes below ``/studio``; each has the engine compute something of a run that whoever asks may see."""

    def look(request: Request) -> object:
        """One of ``PARTS``; ``?step=`` at a snapshot, ``?other=RUN`` beside the changes of another run."""
        part, query = request.path_params["part"], request.query_params
        if part not in PARTS:
            raise HTTPException(404, f"There is no {part!r} of an adapter; allowed: {', '.join(PARTS)}.")
        step, other = _step(query.get("step", "")), query.get("other", "")
        return _asked(manager, request.path_params["run_id"], part, step, other)

    return [endpoint("/studio/runs/{run_id}/inside/{part}", look, right=Right.ASK)]


def _step(text: str) -> int | None:
    if text and not (text.isdecimal() and len(text) < 10):
        raise ConfigError(f"step = {shown(text)} is no step; allowed: a whole number, or nothing for the end.", "step")
    return int(text) if text else None


def _asked(
    manager: JobManager, run_id: str, part: str = "inspect", step: int | None = None, other: str = ""
) -> dict[str, Any]:
    for each in filter(None, (run_id, other)):
        seen(manager, each)
    return manager.engine.inspect(run_id, part, step=step, other=other)


def inside_tools(manager: JobManager) -> list[Callable[..., Any]]:
    """Functions for programs and agents."""

    def inspect_run(run_id: str, other: str = "") -> dict[str, Any]:
        """Look into a finished run's adapter: how much it changed each weight, in how many directions, and the like.

        Args:
            run_id: Id of a run that has saved an adapter.
            other: Id of another run on the same base model, to tell how much both changed the same directions.
        """
        return _asked(manager, run_id, other=other)

    def measure_forgetting(run_id: str) -> dict[str, Any]:
        """Tell what a run's model forgot: its loss on held-out general text before, during and after training.

        Args:
            run_id: Id of a run that has saved an adapter of a model that writes.
        """
        return _asked(manager, run_id, "forgetting")

    return [inspect_run, measure_forgetting]
