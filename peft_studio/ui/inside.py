"""The Inside tab: what the adapter of a run did to its model. The engine looks, `static/inside.js` draws."""

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute

from peft_studio.access.rights import Right
from peft_studio.jobs.manager import JobManager
from peft_studio.ui.context import Studio
from peft_studio.ui.http import endpoint
from peft_studio.ui.shell import island
from peft_studio.ui.tools import seen


def build(_studio: Studio) -> None:
    """Lays the tab out."""
    island("inside", elem_id="inside")


def inside_routes(manager: JobManager) -> list[BaseRoute]:
    """Routes below ``/studio``; each has the engine compute something of a run that whoever asks may see."""

    def inspect(request: Request) -> object:
        """The views of a run's adapter; with ``?other=RUN`` its changes beside another run's."""
        return _inspect(manager, request.path_params["run_id"], request.query_params.get("other", ""))

    return [endpoint("/studio/runs/{run_id}/inside", inspect, right=Right.ASK)]


def _inspect(manager: JobManager, run_id: str, other: str = "") -> dict[str, Any]:
    for each in filter(None, (run_id, other)):
        seen(manager, each)
    return manager.engine.inspect(run_id, other=other)


def inside_tools(manager: JobManager) -> list[Callable[..., Any]]:
    """Functions for programs and agents."""

    def inspect_run(run_id: str, other: str = "") -> dict[str, Any]:
        """Look into a finished run's adapter: how much it changed each weight, in how many directions, and the like.

        Args:
            run_id: Id of a run that has saved an adapter.
            other: Id of another run on the same base model, to tell how much both changed the same directions.
        """
        return _inspect(manager, run_id, other)

    return [inspect_run]
