"""The room of a class: its tab, and the routes where students come in and answer, and the teacher sees it all."""

import io
from typing import Any
from urllib.parse import parse_qs

import gradio as gr
import segno
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute

from peft_studio.access.doors import OPEN
from peft_studio.access.entrance import Entrance
from peft_studio.access.rights import Right, may
from peft_studio.access.visitors import Role, asker
from peft_studio.errors import ConfigError, InvalidStateError, LimitError, NotAllowedError, StudioError
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.reader import RunInfo
from peft_studio.ui.context import QUIET, Studio
from peft_studio.ui.http import endpoint
from peft_studio.ui.room.askable import askable
from peft_studio.ui.room.place import room_of, way_in
from peft_studio.ui.room.question import BEST, RoomQuestion
from peft_studio.ui.room.report import csv_of, report
from peft_studio.ui.shell import island

_MOST_BYTES = 4096  # of a name and a code
_SHOWN_RUNS = 5  # of each student


def build(studio: Studio) -> None:
    """Lays the teacher's tab out; a page that a student opens does not show it."""
    island("room", elem_id="room")

    def show_to_teacher() -> Any:
        return gr.Tab(visible=may(studio.settings.access, asker(), Right.RUN_APP))

    studio.on_load.append(lambda page: page.load(show_to_teacher, None, studio.tab["room"], **QUIET))


def room_routes(manager: JobManager, question: RoomQuestion | None) -> list[BaseRoute]:
    """Routes below ``/studio`` of a class; none outside of one, where there is no question."""
    if question is None:
        return []
    way_and_students, answers = _room_routes(manager, question), _question_routes(manager, question)
    return [endpoint("/studio/join", join, "POST", OPEN), *way_and_students, *answers]


def _room_routes(manager: JobManager, question: RoomQuestion) -> list[BaseRoute]:
    """What the teacher sees, and does to students."""

    def shown(request: Request) -> object:
        room, way = room_of(request), way_in(request, manager.settings)
        infos = manager.library.list()
        students = room.students()
        return {
            "code": room.code, "address": way.address, "trouble": way.trouble,
            "paused": manager.queue.state().paused,
            "students": [{"id": one.id, "name": one.name, "seen": one.seen, "runs": _runs_of(one.id, infos)}
                         for one in students],
            "question": question.answers(students, {info.id: info for info in infos}),
        }  # fmt: skip

    def picture(request: Request) -> object:
        room_of(request)
        out = io.BytesIO()
        segno.make(way_in(request, manager.settings).address, error="m").save(
            out, kind="svg", scale=8, border=4, light="#fff"
        )
        return Response(out.getvalue(), media_type="image/svg+xml")

    def remove(request: Request) -> object:
        room_of(request).remove(request.path_params["student"])
        return {"removed": request.path_params["student"]}

    def rename(request: Request) -> object:
        room_of(request).rename(request.path_params["student"], request.query_params.get("name", ""))
        return {"renamed": request.path_params["student"]}

    one = "/studio/room/students/{student}"
    return [
        endpoint("/studio/room.json", shown, right=Right.RUN_APP),
        endpoint("/studio/room.svg", picture, right=Right.RUN_APP),
        endpoint(f"{one}/remove", remove, "POST", Right.RUN_APP),
        endpoint(f"{one}/rename", rename, "POST", Right.RUN_APP),
    ]


def _runs_of(who: str, infos: list[RunInfo]) -> list[dict[str, object]]:
    """The latest runs of a student, as the teacher's table needs them."""
    names = ["id", "title", "status", "step", "max_steps", "loss", "best_eval_loss"]
    mine = [info for info in infos if info.owner == who][:_SHOWN_RUNS]
    return [{"name": info.name, **{name: getattr(info, name) for name in names}} for info in mine]


def _question_routes(manager: JobManager, question: RoomQuestion) -> list[BaseRoute]:
    """How a question is put, answered and taken along."""

    def start(request: Request) -> object:
        room_of(request)
        if asker().role is not Role.VISITOR:
            raise InvalidStateError("The question is put to students.")
        return {"run": question.start(asker().id)}

    def ask(request: Request) -> object:
        room_of(request)
        given = request.query_params
        values = given.get("values", "").replace("，", ",").replace("、", ",").split(",")
        question.ask(given.get("preset", ""), given.get("setting", ""), values, given.get("words", ""))
        return {"asked": given.get("preset", "")}

    def close(request: Request) -> object:
        room_of(request)
        question.close()
        return {"closed": True}

    def answers(request: Request) -> dict[str, Any] | None:
        return question.answers(room_of(request).students(), {info.id: info for info in manager.library.list()})

    def table(request: Request) -> object:
        text = csv_of(answers(request), request.query_params.get("names") != "0")
        return Response(text, media_type="text/csv", headers=_file("answers.csv"))

    def frozen(request: Request) -> object:
        told, given = answers(request), request.query_params
        if told is None:
            raise InvalidStateError("No question is put to the room now.")
        page = report(told, given.get("metric") or BEST, given.get("names") != "0", given.get("language", "en"))
        return HTMLResponse(page, headers=_file("answers.html"))

    return [
        endpoint("/studio/question/start", start, "POST", Right.TRAIN),
        endpoint("/studio/room/presets.json", lambda _request: askable(), right=Right.RUN_APP),
        endpoint("/studio/room/answers.csv", table, right=Right.RUN_APP),
        endpoint("/studio/room/answers.html", frozen, right=Right.RUN_APP),
        endpoint("/studio/room/ask", ask, "POST", Right.RUN_APP),
        endpoint("/studio/room/close", close, "POST", Right.RUN_APP),
    ]


def _file(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


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
