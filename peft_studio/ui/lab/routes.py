"""The routes of experiments, below ``/studio/experiments``.

``GET experiments`` lists, ``POST experiments`` starts, ``POST experiments/cost`` tells what one would cost,
``GET experiments/ID`` answers as `experiments.answer` does, and ``POST experiments/ID/stop|resume|delete`` change one.
"""

import json
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from peft_studio.access.rights import Right
from peft_studio.errors import ConfigError
from peft_studio.experiments.exports import export
from peft_studio.experiments.lab import Lab
from peft_studio.ui.http import endpoint, told_json

MOST_BYTES = 200_000
"""Of a plan: 64 cells with whole configs have a third of that."""
ACTIONS = ("stop", "resume", "delete")


def experiment_routes(lab: Lab) -> list[BaseRoute]:
    """The routes; what one may see and do with an experiment, `Lab` finds out."""

    async def start(request: Request) -> object:
        return await _off_loop(lambda plan: {"id": lab.start(plan)}, await _body(request))

    async def cost(request: Request) -> object:
        return await _off_loop(lab.cost, await _body(request))

    async def act(request: Request) -> object:
        action, body = request.path_params["action"], await _body(request)
        if action not in ACTIONS:
            raise HTTPException(404, f"There is no action {action!r}; allowed: {', '.join(ACTIONS)}.")
        return await _off_loop(lambda told: _act(lab, request.path_params["experiment_id"], action, told), body)

    def take(request: Request) -> Response:
        asked = request.query_params
        kind = asked.get("as", "html")
        lab.find(_id(request), Right.TAKE if kind == "ipynb" else Right.SEE)  # a notebook holds rows and scripts
        answer = told_json(lab.answer(_id(request)))
        runs = lab.manager.settings.runs_dir
        file = export(answer, kind, runs, asked.get("figure", ""), asked.get("cost", "trainable_params"))
        headers = {"Content-Disposition": f'attachment; filename="{file.name}"'}
        return Response(file.content, media_type=file.media_type, headers=headers)

    return [
        endpoint("/studio/experiments", lambda _request: {"experiments": lab.all()}),
        endpoint("/studio/experiments/ready", lambda _request: {"ready": lab.ready()}),
        endpoint("/studio/experiments", start, "POST", Right.TRAIN),
        endpoint("/studio/experiments/cost", cost, "POST", Right.ASK),
        endpoint("/studio/experiments/{experiment_id}", lambda request: lab.answer(_id(request))),
        endpoint("/studio/experiments/{experiment_id}/export", take),
        endpoint("/studio/experiments/{experiment_id}/{action}", act, "POST"),
    ]


def _id(request: Request) -> str:
    return str(request.path_params["experiment_id"])


def _act(lab: Lab, experiment_id: str, action: str, told: object) -> dict[str, Any]:
    if action == "delete":
        with_runs = isinstance(told, dict) and told.get("runs") is True
        return {"deleted": True, "runs_deleted": lab.delete(experiment_id, with_runs)}
    return {"state": lab.stop(experiment_id) if action == "stop" else lab.resume(experiment_id)}


async def _off_loop(work: Callable[[object], object], body: object) -> object:
    from starlette.concurrency import run_in_threadpool

    return await run_in_threadpool(work, body)


async def _body(request: Request) -> object:
    """A request's JSON; None when it has none.

    Raises:
        ConfigError: It is none, or too long.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise ConfigError(f"A plan takes at most {MOST_BYTES:,} bytes.")
    try:
        return json.loads(body) if body else None
    except (ValueError, RecursionError) as exc:
        raise ConfigError("The body of the request is not JSON.") from exc
