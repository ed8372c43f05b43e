"""Routes of a class: where one comes in, and what its teacher sees and does."""

import io
from urllib.parse import parse_qs

import segno
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute

from peft_studio.access.doors import OPEN
from peft_studio.access.entrance import Entrance
from peft_studio.access.rights import Right
from peft_studio.errors import ConfigError, LimitError, NotAllowedError, StudioError
from peft_studio.jobs.manager import JobManager
from peft_studio.settings import Access
from peft_studio.ui.http import endpoint
from peft_studio.ui.room.question import question_routes
from peft_studio.ui.room.screen import SCREEN, room_of

_MOST_BYTES = 4096  # of a name and a code


def room_routes(manager: JobManager) -> list[BaseRoute]:
    """Routes below ``/studio`` of a class; none outside of one."""
    if manager.settings.access is not Access.CLASS:
        return []

    def shown(request: Request) -> object:
        room = room_of(request)
        runs: dict[str, list[dict[str, object]]] = {}
        for run in manager.library.list():
            told = {"title": run.title, "status": run.status, "step": run.step, "max_steps": run.max_steps,
                    "loss": run.loss, "eval_loss": run.eval_loss}  # fmt: skip
            runs.setdefault(run.owner, []).append(told)
        students = [
            {"id": one.id, "name": one.name, "seen": one.seen, "runs": runs.get(one.id, [])[:5]}
            for one in room.students()
        ]
        return {"code": room.code, "students": students, "paused": manager.queue.state().paused}

    def picture(request: Request) -> object:
        room_of(request)
        out = io.BytesIO()
        segno.make(str(request.base_url), error="m").save(out, kind="svg", scale=8, border=4, light="#fff")
        return Response(out.getvalue(), media_type="image/svg+xml")

    def screen(request: Request) -> object:
        room_of(request)
        return HTMLResponse(SCREEN)

    def remove(request: Request) -> object:
        room_of(request).remove(request.path_params["student"])
        return {"removed": request.path_params["student"]}

    def rename(request: Request) -> object:
        room_of(request).rename(request.path_params["student"], request.query_params.get("name", ""))
        return {"renamed": request.path_params["student"]}

    one = "/studio/room/students/{student}"
    return [
        endpoint("/studio/join", join, "POST", OPEN),
        endpoint("/studio/room", screen, right=Right.RUN_APP),
        endpoint("/studio/room.json", shown, right=Right.RUN_APP),
        endpoint("/studio/room.svg", picture, right=Right.RUN_APP),
        endpoint(f"{one}/remove", remove, "POST", Right.RUN_APP),
        endpoint(f"{one}/rename", rename, "POST", Right.RUN_APP),
        *question_routes(manager),
    ]


async def join(request: Request) -> Response:
    """Takes a name and a code; whoever asks is nobody yet, so that no right is asked for."""
    room = room_of(request)
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise ConfigError(f"A name and a code take at most {_MOST_BYTES} bytes.")
    given = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    name, code = (given.get(field, [""])[0] for field in ("name", "code"))
    try:
        visitor = room.join(name, code, request.client.host if request.client else "")
    except StudioError as exc:
        status = 429 if isinstance(exc, LimitError) else 403 if isinstance(exc, NotAllowedError) else 400
        return room.join_page(request.scope, str(exc), name, status)
    entrance: Entrance = request.scope["state"]["entrance"]
    return RedirectResponse("../", 303, {"Set-Cookie": entrance.cookies.header(visitor), "Cache-Control": "no-store"})
