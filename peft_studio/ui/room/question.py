"""One question put to all of a class: a preset with one setting whose values are dealt out to the students."""

import csv
import io
import json
import threading
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute

from peft_studio.access.rights import Right
from peft_studio.access.room import Room
from peft_studio.access.visitors import Role, asker
from peft_studio.config.presets import list_presets, parse_preset
from peft_studio.errors import ConfigError, InvalidStateError, shown
from peft_studio.files import atomic_write, read_json
from peft_studio.jobs.manager import JobManager
from peft_studio.ui.http import endpoint, safe_cell
from peft_studio.ui.room.screen import QUESTION, room_of

MOST_VALUES = 12


class RoomQuestion:
    """The question of a class; kept in ``question.json``.

    Args:
        manager: Starts the runs.
    """

    def __init__(self, manager: JobManager) -> None:
        self._manager = manager
        self._path = manager.settings.home / "question.json"
        self._lock = threading.Lock()
        self._kept: dict[str, Any] = read_json(self._path) or {}

    def ask(self, preset: str, setting: str, values: list[str]) -> None:
        """Puts a question; its answers begin anew.

        Raises:
            StudioError: No such preset or setting, or a value is not allowed.
        """
        values = list(dict.fromkeys(value.strip() for value in values if value.strip()))
        if not 2 <= len(values) <= MOST_VALUES:
            raise ConfigError(f"A question has 2 to {MOST_VALUES} values, not {len(values)}.", "values")
        for value in values:
            parse_preset(preset, [f"{setting}={value}"])
        with self._lock:
            self._keep({"preset": preset, "setting": setting, "values": values, "dealt": {}, "runs": {}})

    def close(self) -> None:
        """Takes the question back; runs stay."""
        with self._lock:
            self._keep({})

    def part(self, who: str) -> dict[str, object] | None:
        """The question with a student's value, the one that fewest have; None when nothing is asked."""
        with self._lock:
            if not self._kept:
                return None
            dealt, values = self._kept["dealt"], self._kept["values"]
            if who not in dealt:
                counts = list(dealt.values())
                dealt[who] = min(values, key=counts.count)
                self._keep(self._kept)
            told = {name: self._kept[name] for name in ("preset", "setting")}
            return {**told, "value": dealt[who], "run": self._kept["runs"].get(who, "")}

    def start(self, who: str) -> str:
        """Starts a student's run, once; returns its id.

        Raises:
            StudioError: Nothing is asked, it was started before, or it cannot be started.
        """
        part = self.part(who)
        if part is None:
            raise InvalidStateError("No question is put to the room now.")
        config = parse_preset(str(part["preset"]), [f"{part['setting']}={part['value']}"])
        with self._lock:
            if who in self._kept.get("runs", {}):
                raise InvalidStateError("Your run was started already; it is in Runs.")
            run = self._manager.submit(config, f"{part['setting']} = {part['value']}"[:60])
            self._kept["runs"][who] = run
            self._keep(self._kept)
        return run

    def answers(self, room: Room) -> dict[str, object] | None:
        """The question with everybody's value and figures; None when nothing is asked."""
        with self._lock:
            kept = json.loads(json.dumps(self._kept))
        if not kept:
            return None
        infos = {info.id: info for info in self._manager.library.list()}
        rows = []
        for one in room.students():
            info = infos.get(kept["runs"].get(one.id, ""))
            rows.append({
                "name": one.name, "value": kept["dealt"].get(one.id, ""), "status": info.status if info else "",
                "best_eval_loss": info.best_eval_loss if info else None,
            })  # fmt: skip
        return {**{name: kept[name] for name in ("preset", "setting", "values")}, "answers": rows}

    def _keep(self, kept: dict[str, Any]) -> None:
        self._kept = kept
        atomic_write(self._path, json.dumps(kept, ensure_ascii=False))


def question_routes(manager: JobManager) -> list[BaseRoute]:
    """Routes by which a question is put, answered and taken along."""
    question = RoomQuestion(manager)

    def page(request: Request) -> object:
        room_of(request)
        return HTMLResponse(QUESTION)

    def part(request: Request) -> object:
        room_of(request)
        told = question.part(asker().id) if asker().role is Role.VISITOR else None
        return {"question": told, "paused": manager.queue.state().paused}

    def start(request: Request) -> object:
        room_of(request)
        if asker().role is not Role.VISITOR:
            raise InvalidStateError("The question is put to students.")
        return {"run": question.start(asker().id)}

    def answers(request: Request) -> object:
        return {"presets": list_presets(), "question": question.answers(room_of(request))}

    def ask(request: Request) -> object:
        room_of(request)
        given = request.query_params
        preset = given.get("preset", "")
        if preset not in list_presets():
            raise ConfigError(f"There is no preset {shown(preset)}.", "preset")
        question.ask(preset, given.get("setting", ""), given.get("values", "").split(","))
        return {"asked": preset}

    def close(request: Request) -> object:
        room_of(request)
        question.close()
        return {"closed": True}

    def table(request: Request) -> object:
        told = question.answers(room_of(request)) or {"answers": []}
        names = request.query_params.get("names") != "0"
        out = io.StringIO()
        fields = [*(["name"] if names else []), "value", "status", "best_eval_loss"]
        rows: Any = told["answers"]
        writer = csv.writer(out)
        writer.writerow(fields)
        writer.writerows([safe_cell(row[field]) for field in fields] for row in rows)
        return Response("\ufeff" + out.getvalue(), media_type="text/csv",
                        headers={"Content-Disposition": 'attachment; filename="answers.csv"'})  # fmt: skip

    return [
        endpoint("/studio/question", page),
        endpoint("/studio/question.json", part),
        endpoint("/studio/question/start", start, "POST", Right.TRAIN),
        endpoint("/studio/room/answers.json", answers, right=Right.RUN_APP),
        endpoint("/studio/room/answers.csv", table, right=Right.RUN_APP),
        endpoint("/studio/room/ask", ask, "POST", Right.RUN_APP),
        endpoint("/studio/room/close", close, "POST", Right.RUN_APP),
    ]
