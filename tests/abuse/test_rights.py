"""Every route and every function of the built app, ours and Gradio's, as owner, visitor, teacher and nobody."""

import functools
import inspect
import re
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.context import LocalContext
from starlette.requests import Request
from starlette.routing import BaseRoute

from peft_studio.access.doors import CLOSED, OPEN, door_of
from peft_studio.access.rights import Right, may
from peft_studio.access.visitors import NOBODY, OWNER, Visitor, asking
from peft_studio.config.run_config import parse_config
from peft_studio.experiments.lab import Lab
from peft_studio.runs.paths import RunPaths
from peft_studio.settings import Access
from peft_studio.ui.context import FUNCTIONS, keep_rights, name_of
from tests.abuse.conftest import ANN, BEN, TEACHER, TOKEN, Inside, Served

UNKNOWN = "20250101-000000-lora-000000"
CONFIG = {"method": {"name": "lora"}, "training": {"max_steps": 2}}
pytestmark = pytest.mark.filterwarnings("ignore:.*no_silent_downcasting")
PEOPLE = (ANN, TEACHER, OWNER, NOBODY)


def routes_of(routes: list[BaseRoute], start: str = "") -> Iterator[tuple[str, str]]:
    """Method and pattern of every route, also of those that routers hold."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        below = inner.routes if inner is not None else getattr(route, "routes", None)
        if below is not None:
            yield from routes_of(below, start if inner is not None else start + route.path)  # type: ignore[attr-defined]
            continue
        for method in getattr(route, "methods", None) or ("GET",):
            yield method, start + route.path  # type: ignore[attr-defined]


def filled(pattern: str, run_id: str = "nothing") -> str:
    return re.sub(r"{\w+(:path)?}", "x", pattern.replace("{run_id}", run_id).replace("{action}", "stop"))


def run_of(app: Inside, visitor: Visitor) -> RunPaths:
    with asking(visitor):
        paths = app.manager.store.paths(app.manager.submit(parse_config(CONFIG)))
    paths.log.write_text("said by the worker\n")
    return paths


def test_every_address_has_its_row(public: Inside) -> None:
    found = {pattern for _, pattern in routes_of(public.web.routes)}
    assert len(found) > 80 and "/gradio_api/queue/join" in found and "/studio/runs.json" in found
    assert not [pattern for pattern in found if door_of(filled(pattern)) is None]


def test_addresses_by_role(public: Inside, classroom: Inside) -> None:
    for method, pattern in set(routes_of(public.web.routes)):
        path = filled(pattern)
        door = door_of(path)
        if door is not OPEN:
            answer = classroom.client.request(method, path, headers=classroom.headers(None))
            assert answer.status_code == 401, (method, path)
        if door is CLOSED:
            for who in (ANN, OWNER):
                assert public.client.request(method, path, headers=public.headers(who)).status_code == 404, path
        elif isinstance(door, Right) and not may(Access.PUBLIC, ANN, door):
            assert public.client.request(method, path, headers=public.headers(ANN)).status_code == 404, path


def test_no_change_comes_from_another_site(public: Inside) -> None:
    for method, pattern in set(routes_of(public.web.routes)):
        if method not in ("GET", "HEAD"):
            for origin in ("http://evil.example", "null", "http://localhost:3000"):
                headers = {**public.headers(OWNER), "Origin": origin}
                answer = public.client.request(method, filled(pattern), headers=headers)
                assert answer.status_code == 403 and "another site" in answer.text, pattern
                assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_others_runs_are_not_there(public: Inside) -> None:
    paths = run_of(public, ANN)
    for method, pattern in sorted(set(routes_of(public.web.routes))):
        if not pattern.startswith("/studio/") or "{run_id}" not in pattern:
            continue
        theirs = public.client.request(method, filled(pattern, paths.id), headers=public.headers(BEN))
        nobodys = public.client.request(method, filled(pattern, UNKNOWN), headers=public.headers(BEN))
        assert theirs.status_code == nobodys.status_code and nobodys.status_code in (403, 404), pattern
        assert theirs.text.replace(paths.id, "") == nobodys.text.replace(UNKNOWN, "")
        assert str(public.manager.settings.home) not in theirs.text
    ben, ann = public.headers(BEN), public.headers(ANN)
    for path in ("runs.json", "runs.json?since=0", f"metrics.json?runs={paths.id}:0", f"findings.json?runs={paths.id}",
                 "compare.csv", "storage.json"):  # fmt: skip
        assert paths.id not in public.client.get(f"/studio/{path}", headers=ben).text, path
        assert paths.id in public.client.get(f"/studio/{path}", headers=ann).text, path


PLAN = {"question": "Ann's?", "base": CONFIG, "vary": [{"field": "method.rank", "values": [1, 2]}], "seeds": 1}


def test_others_experiments_are_not_there(public: Inside, classroom: Inside) -> None:
    for app in (public, classroom):
        patch = pytest.MonkeyPatch()
        patch.setattr(app.manager.engine, "estimate", lambda *_: {"trainable_params": 1, "tokens_per_row": 9})
        ann, ben = app.headers(ANN), app.headers(BEN)
        lab = Lab(app.manager, lambda _config: {"trainable_params": 1})
        with asking(ANN):
            made = lab.start(PLAN)
        for method, pattern in sorted(set(routes_of(app.web.routes))):
            if "{experiment_id}" in pattern:
                theirs, nobodys = (
                    app.client.request(method, filled(pattern.replace("{experiment_id}", one)), headers=ben)
                    for one in (made, UNKNOWN)
                )
                assert theirs.status_code == nobodys.status_code == 404, pattern
                assert theirs.text.replace(made, "") == nobodys.text.replace(UNKNOWN, "")
        assert made not in app.client.get("/studio/experiments", headers=ben).text
        assert made in app.client.get("/studio/experiments", headers=ann).text
        assert made not in call(app, "list_experiments", [], BEN) and made in call(app, "list_experiments", [], ANN)
        for name in ("get_experiment", "stop_experiment"):
            assert "There is no experiment" in call(app, name, [made], BEN)
        assert app.client.post(f"/studio/experiments/{made}/stop", headers=ann).json() == {"state": "stopped"}
        patch.undo()
    teacher = classroom.headers(TEACHER)
    assert classroom.client.get(f"/studio/experiments/{made}", headers=teacher).json()["owner_name"] == "Ann"
    answer = classroom.client.post(f"/studio/experiments/{made}/delete", headers=teacher)
    assert answer.json()["deleted"] is True


def test_own_runs_by_right(public: Inside) -> None:
    paths, ann = run_of(public, ANN), public.headers(ANN)
    statuses = {
        action: public.client.post(f"/studio/runs/{paths.id}/{action}", headers=ann).status_code
        for action in ("front", "up", "down", "prioritize", "hold", "release", "star", "stop", "delete")
    }
    refused = {action for action, status in statuses.items() if status == 403}
    assert refused == {"front", "up", "down", "prioritize"} and statuses["delete"] == 200
    for path in ("queue/pause", "queue/start", "import"):
        assert public.client.post(f"/studio/{path}", headers=ann).status_code == 403
        assert "a visitor" in public.client.post(f"/studio/{path}", headers=ann).json()["error"]


def test_a_teacher_has_the_room(classroom: Inside) -> None:
    paths = run_of(classroom, ANN)
    teacher = classroom.headers(TEACHER)
    assert paths.id in classroom.client.get("/studio/runs.json", headers=teacher).text
    assert classroom.client.get(f"/studio/log/{paths.id}", headers=teacher).text == "said by the worker"
    assert classroom.client.post(f"/studio/runs/{paths.id}/front", headers=teacher).status_code == 200
    assert classroom.client.post(f"/studio/runs/{paths.id}/stop", headers=classroom.headers(BEN)).status_code == 404
    assert str(classroom.manager.settings.home) not in classroom.client.get("/studio/me.json", headers=teacher).text


def test_a_link_shows_runs_and_no_more(public: Inside) -> None:
    paths, ann, ben = run_of(public, ANN), public.headers(ANN), public.headers(BEN)
    assert public.client.post(f"/studio/share?runs={paths.id}", headers=ben).status_code == 404
    link = public.client.post(f"/studio/share?runs={paths.id}", headers=ann).json()["share"]
    opened = public.client.get("/studio/me.json", params={"share": link}, headers=ben)
    ben["Cookie"] = opened.headers["set-cookie"].partition(";")[0]
    assert paths.id in public.client.get("/studio/runs.json?since=0", headers=ben).text
    assert public.client.get(f"/studio/runs/{paths.id}/details", headers=ben).status_code == 200
    (shown,) = [run for run in public.client.get("/studio/runs.json", headers=ben).json() if run["id"] == paths.id]
    assert shown["actions"] == [] and shown["rights"] == []
    reads = [("GET", path) for path in (f"log/{paths.id}", f"export/{paths.id}.zip", f"archive/{paths.id}.zip")]
    for method, path in (*reads, ("POST", f"runs/{paths.id}/delete"), ("POST", f"share?runs={paths.id}")):
        assert public.client.request(method, f"/studio/{path}", headers=ben).status_code == 403, path
    back = {"share": link}
    assert public.client.post("/studio/unshare", params=back, headers=ben).json() == {"withdrawn": 0}
    assert public.client.post("/studio/unshare", params=back, headers=ann).json() == {"withdrawn": 1}
    assert public.client.post(f"/studio/unshare?runs={paths.id}", headers=ann).json() == {"withdrawn": 0}
    assert paths.id not in public.client.get("/studio/runs.json", headers=ben).text


def test_mine_is_mine(public: Inside) -> None:
    visitors = [Visitor(name, ANN.role) for name in ("v-mine", "v-other")]
    (paths, other), (mine, others) = (run_of(public, one) for one in visitors), map(public.headers, visitors)
    use = public.client.get("/studio/mine.json", headers=mine).json()
    waits = next(one for one in use["limits"] if one["name"] == "most_queued")
    assert use["runs"] == 1 and use["idle_days"] == 14 and waits == {"name": "most_queued", "used": 1, "limit": 4}
    packed = public.client.get("/studio/mine.zip", headers=mine)
    assert packed.headers["content-type"] == "application/zip" and other.id.encode() not in packed.content
    assert public.client.post("/studio/mine/delete", headers=mine).json() == {"busy": []}
    assert not paths.root.exists() and other.root.exists()
    assert public.client.get("/studio/mine.json", headers=others).json()["runs"] == 1
    assert public.client.post("/studio/mine/delete", headers=others).json() == {"busy": []}


def inner(function: Callable[..., object]) -> Callable[..., object]:
    return inspect.unwrap(function)


def test_every_function_has_its_row(public: Inside) -> None:
    names = {name_of(inner(one.fn)) for one in public.page.fns.values() if one.fn is not None}
    on_space = {name for name in FUNCTIONS if name.endswith(("_check_login_status", "push_with_session"))}
    in_class = {"room.build.show_to_teacher"}
    assert names == set(FUNCTIONS) - on_space - in_class and len(on_space) == 2


@pytest.mark.parametrize("access", list(Access))
@pytest.mark.parametrize("who", PEOPLE, ids=lambda who: who.role.value)
def test_functions_by_role(public: Inside, access: Access, who: Visitor) -> None:
    done: list[str] = []

    def stub(function: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(function.func if isinstance(function, functools.partial) else function)
        def notes(*_args: object) -> None:
            done.append(name_of(function))

        return notes

    request = Request({"type": "http", "headers": [], "state": {"visitor": who}})
    for listener in public.page.fns.values():
        if listener.fn is None:
            continue
        name = name_of(inner(listener.fn))
        one = SimpleNamespace(fn=stub(inner(listener.fn)), api_visibility=listener.api_visibility)
        keep_rights(SimpleNamespace(fns={0: one}), access)  # type: ignore[arg-type]
        done.clear()
        token = LocalContext.request.set(gr.Request(request))
        try:
            if may(access, who, FUNCTIONS[name]):
                one.fn()
                assert done == [name]
            else:
                with pytest.raises(gr.Error, match="You may not"):
                    one.fn()
                assert done == []
        finally:
            LocalContext.request.reset(token)


def call(app: Inside, name: str, data: list[object], visitor: Visitor) -> str:
    """What a named endpoint answers, through Gradio's queue."""
    headers = app.headers(visitor)
    event = app.client.post(f"/gradio_api/call/{name}", json={"data": data}, headers=headers).json()["event_id"]
    return app.client.get(f"/gradio_api/call/{name}/{event}", headers=headers).text


def test_functions_work_for_whoever_asks(public: Inside) -> None:
    paths = run_of(public, ANN)
    index = next(key for key, one in public.page.fns.items() if one.api_name == "list_runs")
    for visitor, sees in ((ANN, True), (BEN, False), (OWNER, True)):
        assert (paths.id in call(public, "list_runs", [], visitor)) == sees
        for way in ("run/list_runs", "api/list_runs", "run/predict"):
            body = {"data": [], "fn_index": index}
            answer = public.client.post(f"/gradio_api/{way}", json=body, headers=public.headers(visitor))
            assert (paths.id in answer.text) == sees, way
    assert "event: error" in call(public, "stop_run", [paths.id], BEN)
    assert public.manager.library.info(paths.id).status == "queued"
    assert "There is no run" in call(public, "generate", ["hello", [paths.id], {}], BEN)
    assert "You may not" in call(public, "prioritize_run", [paths.id, "high"], ANN)


def test_runs_started_over_the_queue_are_whose_who_asked(public: Inside) -> None:
    answer = call(public, "start_run", [CONFIG, "mine"], BEN)
    (mine,) = [info for info in public.manager.library.all() if info.id in answer]
    assert mine.owner == BEN.id


def test_visitors_read_no_path_of_this_machine(public: Inside) -> None:
    paths = run_of(public, BEN)
    home, ben = str(public.manager.settings.home), public.headers(BEN)
    for path in ("/config", "/gradio_api/info", "/studio/me.json", "/studio/runs.json", "/studio/storage.json",
                 f"/studio/runs/{paths.id}/details", f"/studio/log/{paths.id}"):  # fmt: skip
        answer = public.client.get(path, headers=ben)
        assert home not in answer.text, path
    assert home in public.client.get("/studio/me.json", headers=public.headers(OWNER)).text


def test_a_served_app_is_gated(served: Served) -> None:
    def ask(head: str, wait: float = 5.0) -> bytes:
        with socket.create_connection(("127.0.0.1", served.port), timeout=wait) as sock:
            sock.sendall(head.replace("\n\n", "\nConnection: close\n\n").replace("\n", "\r\n").encode())
            return b"".join(iter(lambda: sock.recv(65536), b""))

    host = f"Host: 127.0.0.1:{served.port}\n"
    assert b" 421 " in ask("GET / HTTP/1.1\nHost: evil.example\n\n")
    assert b" 421 " in ask(f"GET /studio/runs.json HTTP/1.1\nHost: evil.example:{served.port}\n\n")
    first = ask(f"GET /studio/me.json HTTP/1.1\n{host}X-Forwarded-For: 127.0.0.1\n\n")
    assert b'"role":"visitor"' in first and b"HttpOnly" in first and b"frame-ancestors 'self'" in first
    owner = ask(f"GET /studio/me.json HTTP/1.1\n{host}Authorization: Bearer {TOKEN}\n\n")
    assert b'"role":"owner"' in owner and TOKEN not in (served.home / "app.log").read_text()
    assert b" 413 " in ask(f"POST /gradio_api/queue/join HTTP/1.1\n{host}Content-Length: 999999999\n\n")
    begun = time.monotonic()
    assert b" 403 " in ask(f"POST /studio/import HTTP/1.1\n{host}Origin: http://127.0.0.1:{served.port}\n"
                           "Content-Length: 1000\n\n")  # fmt: skip
    assert time.monotonic() - begun < 5
