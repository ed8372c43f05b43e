"""The table of actions: routes, named endpoints, commands and the manager agree with it."""

import argparse
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from peft_studio.access.rights import Right
from peft_studio.cli.main import _parser
from peft_studio.errors import InvalidStateError
from peft_studio.jobs.actions import ACTIONS, Action, Parameter, actions_on
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.status import RunState, Status, allowed_actions
from peft_studio.settings import Settings, prepare_home
from peft_studio.ui import http
from peft_studio.ui.api import endpoint
from peft_studio.ui.routes import all_routes

HOST = "http://testserver"
FOREIGN: tuple[dict[str, str], ...] = ({}, {"Origin": "http://evil.example"}, {"Origin": "null"})
ROUTES = Path(http.__file__).parent


@pytest.fixture
def idle(tmp_path: Path) -> JobManager:
    """A manager that starts nothing."""
    settings = Settings(home=tmp_path)
    prepare_home(settings)
    return JobManager(settings)


@pytest.fixture
def client(idle: JobManager, gated: Callable[..., TestClient]) -> Iterator[TestClient]:
    with gated(all_routes(idle), idle.settings.home) as found:
        yield found


def ours(manager: JobManager) -> list[Route]:
    routes = all_routes(manager)
    assert all(isinstance(route, Route) for route in routes)
    return [route for route in routes if isinstance(route, Route)]


ASKING = {
    "/studio/ask/tokens", "/studio/ask/strength", "/studio/ask/step", "/studio/ask/merge", "/studio/experiments/cost",
}  # fmt: skip
"""What one may ask of the models where nothing may be changed."""


def filled(route: Route) -> str:
    values = {"action": "explode", "version": "0", "name": "nothing.js", "language": "zh"}
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], "nothing"), route.path)


def test_every_route_is_made_by_the_wrapper() -> None:
    for path in ROUTES.glob("*.py"):
        if path.name != "http.py":
            text = path.read_text(encoding="utf-8")
            assert not any(word in text for word in (" Route(", "[Route(", "JSONResponse", '"origin"')), path


def test_no_change_without_the_right(idle: JobManager, client: TestClient, gated: Callable[..., TestClient]) -> None:
    changing = [route for route in ours(idle) if route.methods != {"GET", "HEAD"}]
    assert len(changing) >= len([action for action in ACTIONS if action.url])
    for route in changing:
        assert route.methods == {"POST"}
        for headers in FOREIGN:
            answer = client.post(filled(route), headers=headers)
            assert answer.status_code == 403, route.path
            assert "another site" in answer.json()["error"] and answer.headers["cache-control"] == "no-store"
    onlooker = gated(all_routes(idle), idle.settings.home, access="demo")
    answers = {route.path: onlooker.post(filled(route), headers={"Origin": HOST}).status_code for route in changing}
    assert {path for path, status in answers.items() if status != 403} == ASKING


def test_errors_have_one_shape(idle: JobManager, client: TestClient) -> None:
    for route in ours(idle):
        post = "POST" in (route.methods or ())
        answer = client.request("POST" if post else "GET", filled(route), headers={"Origin": HOST})
        if answer.status_code == 200:
            assert not post or "queue" in route.path, route.path
        elif "static" not in route.path:
            assert answer.status_code in (400, 404, 409), route.path
            assert answer.json()["error"].endswith("."), route.path
        kept = "immutable" in answer.headers["cache-control"]  # what never changes under its address
        assert answer.headers["cache-control"] in ("no-store", "no-cache") or (kept and "static" in route.path)


def test_every_action_with_a_url_has_a_route(idle: JobManager) -> None:
    paths = {route.path for route in ours(idle) if "POST" in (route.methods or ())}
    above = {"run": "/studio/runs/{run_id}/", "queue": "/studio/queue/", "home": "/studio/"}
    assert {above[action.on] + action.name for action in ACTIONS if action.url} <= paths


def test_what_a_status_allows_is_in_the_table() -> None:
    states = [RunState(status, interrupted=cut) for status in Status for cut in (False, True)]
    allowed = {
        name for state in states for flag in (False, True) for name in allowed_actions(state, flag, claimed=not flag)
    }
    assert allowed | {"release"} <= set(actions_on("run"))


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: f"{action.on}-{action.name}")
def test_the_manager_takes_what_the_table_gives(action: Action) -> None:
    signature = inspect.signature(getattr(JobManager, action.method))
    given = dict.fromkeys([*action.given, *(one.name for one in action.parameters)])
    run: tuple[Any, ...] = ("id",) if action.on == "run" else ()
    if action.name == "import":
        run = ("file",)
    signature.bind(None, *run, **given)
    assert isinstance(action.right, Right) and action.words.endswith(".")
    assert not action.tells or action.tells in get_type_hints(RunInfo)


@pytest.mark.parametrize("action", [action for action in ACTIONS if action.endpoint], ids=lambda one: one.endpoint)
def test_endpoints_have_the_tables_parameters(idle: JobManager, action: Action) -> None:
    function = endpoint(idle, action)
    names = list(inspect.signature(function).parameters)
    assert function.__name__ == action.endpoint
    assert names == (["run_id"] if action.on == "run" else []) + [one.name for one in action.parameters]
    assert set(get_type_hints(function)) == {*names, "return"}


def test_endpoints_do_what_they_say(idle: JobManager) -> None:
    made = {action.endpoint: endpoint(idle, action) for action in ACTIONS if action.endpoint}
    config = {"method": {"name": "lora"}, "training": {}}
    run = made["start_run"](config, "a name")
    assert idle.library.info(run).name == "a name" and made["start_run"](config=config) != run
    assert made["prioritize_run"](run, "high") == 1
    assert made["stop_run"](run_id=run) == "stopped" and made["resume_run"](run) == "queued"
    with pytest.raises(InvalidStateError, match="1 to 1,000,000"):
        made["extend_run"](run, -1)


def test_commands_are_the_tables() -> None:
    found: dict[str, argparse.ArgumentParser] = {}

    def visit(parser: argparse.ArgumentParser, words: str) -> None:
        found[words] = parser
        for group in (part for part in parser._actions if isinstance(part, argparse._SubParsersAction)):
            for name, below in group.choices.items():
                visit(below, f"{words} {name}".strip())

    visit(_parser(), "")
    for action in ACTIONS:
        if action.command:
            parser = found[action.command]
            assert parser.description == action.words
            names = {part.dest for part in parser._actions}
            assert {one.name for one in action.parameters} <= names and ("run" in names) == (action.on == "run")
    assert {words for words in found if words.startswith("queue ")} <= {action.command for action in ACTIONS}


@pytest.mark.parametrize(
    ("one", "text", "value"),
    [
        (Parameter("n", int, least=1, most=9), "3", 3), (Parameter("n", int, least=1, most=9), 9, 9),
        (Parameter("on", bool, default=True), None, True), (Parameter("on", bool, default=True), "0", False),
        (Parameter("to", str, allowed=("a", "b")), "b", "b"), (Parameter("to", str, default=""), None, ""),
    ],
)  # fmt: skip
def test_parameters_are_read(one: Parameter, text: Any, value: Any) -> None:
    assert one.read(text) == value


@pytest.mark.parametrize("text", ["", None, "0", "10", "-1", "1e3", "x" * 99, "1" * 99, 0])
def test_a_number_out_of_bounds_is_told(text: Any) -> None:
    with pytest.raises(InvalidStateError, match=r"steps = .* is not possible; allowed: 1 to 9\."):
        Parameter("more_steps", int, query="steps", least=1, most=9).read(text)
    with pytest.raises(InvalidStateError, match=r"allowed: a, b\."):
        Parameter("to", str, allowed=("a", "b")).read(text)


def test_names_are_unique() -> None:
    for key in ("endpoint", "command"):
        names = [getattr(action, key) for action in ACTIONS if getattr(action, key)]
        assert len(names) == len(set(names))
    for what in get_args(get_type_hints(Action)["on"]):
        names = [action.name for action in ACTIONS if action.on == what]
        assert len(names) == len(set(names))
