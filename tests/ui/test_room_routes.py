"""A class from outside: joining, the teacher's screen, and what a student may not."""

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from peft_studio.access.entrance import Entrance
from peft_studio.access.gate import Gate
from peft_studio.access.room import Room
from peft_studio.access.shares import Shares
from peft_studio.access.visitors import asker
from peft_studio.config.presets import parse_preset
from peft_studio.jobs.manager import JobManager
from peft_studio.settings import Access, Settings, prepare_home
from peft_studio.ui.room.place import Way, way_in
from peft_studio.ui.room.question import BEST
from peft_studio.ui.room.report import report
from peft_studio.ui.routes import all_routes

HERE = "http://127.0.0.1:7860"
PAGE = {"Accept": "text/html"}
OURS = {"Origin": HERE}


async def page(_request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{asker().role} {asker().name}")


@pytest.fixture
def app(tmp_path: Path) -> Starlette:
    settings = Settings(home=tmp_path, access=Access.CLASS, join_code="KT49PX", teacher_key="chalk and a board")
    prepare_home(settings)
    entrance = Entrance(settings, Shares(tmp_path), Room(settings))
    gate = Middleware(Gate, settings=settings, entrance=entrance)
    return Starlette(routes=[*all_routes(JobManager(settings)), Route("/", page)], middleware=[gate])


def browser(app: Starlette) -> TestClient:
    return TestClient(app, base_url=HERE, client=("127.0.0.1", 50000))


def student(app: Starlette, name: str) -> TestClient:
    found = browser(app)
    assert found.post("/studio/join", data={"name": name, "code": "kt49px"}, headers=OURS).text == f"visitor {name}"
    return found


def test_nobody_gets_the_join_page_and_nothing_else(app: Starlette) -> None:
    nobody = browser(app)
    answer = nobody.get("/", headers=PAGE)
    assert answer.status_code == 401 and 'action="studio/join"' in answer.text
    assert 'action="../studio/join"' in nobody.get("/studio/room", headers=PAGE).text
    assert nobody.get("/studio/room.json").status_code == 401


def test_a_wrong_code_is_said_and_the_name_kept_as_text(app: Starlette) -> None:
    answer = browser(app).post("/studio/join", data={"name": '"><b>', "code": "no"}, headers=OURS)
    assert answer.status_code == 403 and "not the room&#x27;s code" in answer.text
    assert "<b>" not in answer.text and "set-cookie" not in answer.headers
    foreign = browser(app).post("/studio/join", data={}, headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403 and foreign.json()["error"].startswith("This request came from another site")
    assert browser(app).post("/studio/join", content=b"x" * 5000, headers=OURS).status_code == 409


def test_the_teacher_sees_renames_and_removes_and_a_student_does_not(app: Starlette) -> None:
    ann, teacher = student(app, "Ann"), browser(app)
    assert teacher.get("/?token=chalk and a board").text == "teacher Teacher"
    told = teacher.get("/studio/room.json").json()
    assert told["code"] == "KT49PX" and [one["name"] for one in told["students"]] == ["Ann"] and not told["paused"]
    who = told["students"][0]["id"]
    assert "<svg" in teacher.get("/studio/room.svg").text
    assert told["address"] == f"{HERE}/" and "listens on this machine alone" in told["trouble"]
    paths = [f"/studio/room/students/{who}/{verb}" for verb in ("rename?name=Anna", "remove")]
    for path in ("/studio/room.json", "/studio/room.svg", "/studio/room/presets.json", "/studio/room/answers.html"):
        assert ann.get(path).status_code == 403
    for path in (*paths, "/studio/queue/pause"):
        assert ann.post(path, headers=OURS).status_code == 403
    assert teacher.post("/studio/queue/pause", headers=OURS).status_code == 200
    assert teacher.get("/studio/room.json").json()["paused"]
    assert teacher.post(paths[0], headers=OURS).status_code == 200
    assert teacher.get("/studio/room.json").json()["students"][0]["name"] == "Anna"
    assert teacher.post(paths[1], headers=OURS).status_code == 200
    assert ann.get("/", headers=PAGE).status_code == 401


def part(student: TestClient) -> Any:
    return student.get("/studio/runs.json?since=0").json()["question"]


def test_a_question_is_dealt_out_and_answered_once(app: Starlette) -> None:
    teacher = browser(app)
    teacher.get("/?token=chalk and a board")
    ann, bo, cy = (student(app, name) for name in ("=Ann", "Bo", "Cy"))
    asked = "/studio/room/ask?preset=bistro-lora&setting=training.seed&values="
    assert part(ann) is None and "question" not in teacher.get("/studio/runs.json?since=0").json()
    assert ann.post(f"{asked}1,2", headers=OURS).status_code == 403
    assert teacher.post(f"{asked}1,many", headers=OURS).status_code == 409
    assert teacher.post(f"{asked}1", headers=OURS).status_code == 409
    assert teacher.post(asked.replace("lora", "lore") + "1,2", headers=OURS).json()["error"].startswith("There is no")
    assert teacher.post(f"{asked}1，2&words=Why?", headers=OURS).status_code == 200
    assert [part(one)["value"] for one in (ann, bo, cy)] == ["1", "2", "1"] and part(ann)["words"] == "Why?"
    assert bo.post("/studio/question/start", headers=OURS).status_code == 200
    assert bo.post("/studio/question/start", headers=OURS).status_code == 409
    assert teacher.post("/studio/question/start", headers=OURS).status_code == 409
    rows = {row["name"]: row for row in teacher.get("/studio/room.json").json()["question"]["answers"]}
    assert rows["Bo"]["status"] == "queued" and rows["Cy"]["status"] == "" and rows["Cy"]["value"] == "1"
    assert "'=Ann,1" in teacher.get("/studio/room/answers.csv").text
    assert "Bo" not in teacher.get("/studio/room/answers.csv?names=0").text
    assert "Bo" in teacher.get("/studio/room/answers.html").text
    assert teacher.post("/studio/room/close", headers=OURS).status_code == 200
    assert part(bo) is None and teacher.get("/studio/room/answers.html").status_code == 409


def test_in_a_paused_room_a_student_is_told_why_nothing_starts(app: Starlette) -> None:
    ann, teacher = student(app, "Ann"), browser(app)
    teacher.get("/?token=chalk and a board")
    teacher.post("/studio/room/ask?preset=bistro-lora&setting=method.rank&values=1,2", headers=OURS)
    teacher.post("/studio/queue/pause", headers=OURS)
    assert ann.get("/studio/runs.json?since=0").json()["paused"]
    refused = ann.post("/studio/question/start", headers=OURS)
    assert refused.status_code == 409 and refused.json()["error"].startswith("The room is paused")
    teacher.post("/studio/queue/start", headers=OURS)
    assert ann.post("/studio/question/start", headers=OURS).status_code == 200


def test_what_can_be_asked_is_allowed(app: Starlette) -> None:
    teacher = browser(app)
    teacher.get("/?token=chalk and a board")
    presets = {one["preset"]: one["settings"] for one in teacher.get("/studio/room/presets.json").json()}
    assert {"method.rank", "method.name", "training.seed"} <= {one["name"] for one in presets["bistro-lora"]}
    for preset, settings in presets.items():
        for one in settings:
            for value in one["values"]:
                parse_preset(preset, [f"{one['name']}={value}"])


def test_the_address_is_one_that_students_reach(app: Starlette) -> None:
    def way(host: str, opened: str, public_url: str = "") -> Way:
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "scheme": "http",
                 "server": ("127.0.0.1", 7860), "headers": [(b"host", opened.encode())]}  # fmt: skip
        return way_in(Request(scope), Settings(access=Access.CLASS, host=host, public_url=public_url))

    assert way("0.0.0.0", "10.0.0.5:7860") == Way("http://10.0.0.5:7860/")
    assert way("127.0.0.1", "localhost:7860", "https://class.example") == Way("https://class.example/")
    assert way("10.0.0.5", "127.0.0.1:7860") == Way("http://10.0.0.5:7860/")
    found = way("0.0.0.0", "127.0.0.1:7860")
    assert bool(found.trouble) == ("127.0.0.1" in found.address)


def test_a_report_asks_nobody_for_anything_and_runs_no_script() -> None:
    answers = [
        {"name": "<script>alert(1)</script>", "value": "1", "status": "finished", "step": 9, "metrics": {BEST: 2.0}},
        {"name": "Bo", "value": "2", "status": "", "step": 0, "metrics": {}},
    ]
    asked = {
        "preset": "bistro-lora",
        "setting": "method.rank",
        "values": ["1", "2"],
        "words": "<b>",
        "answers": answers,
    }
    page = report(asked, BEST, names=True, language="zh")
    assert "<script" not in page and "<b>&" not in page and "&lt;script&gt;" in page and 'lang="zh-CN"' in page
    assert not re.search(r"(src|href|url)\s*[=(]", page) and "<circle" in page
    assert "script" not in report(asked, BEST, names=False, language="en").partition("<body>")[2]


def test_outside_of_a_class_there_is_no_room(manager: JobManager) -> None:
    gate = Middleware(Gate, settings=manager.settings.model_copy(update={"no_token": True}))
    plain = browser(Starlette(routes=all_routes(manager), middleware=[gate]))
    assert plain.get("/studio/room.json").status_code == 404
    assert plain.post("/studio/join", data={"name": "Ann"}, headers=OURS).status_code == 404
