"""The tree of errors: told in full, and the same on the other side of a process boundary."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import gradio as gr
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from peft_studio import errors
from peft_studio.errors import ConfigError, EngineError, HubOfflineError, StudioError, error_from
from peft_studio.processes.engine_answer import Answer, Line
from peft_studio.ui.context import guard_api
from peft_studio.ui.http import endpoint

CLASSES = [
    found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, StudioError)
]  # fmt: skip


def example(kind: type[StudioError]) -> StudioError:
    """One with other words than usual and a value for every attribute."""
    error = kind("Value 'ä' <is> not allowed.")
    vars(error).update({name: 7.5 if name == "retry_seconds" else f"method.{name}" for name in vars(error)})
    return error


def same(one: StudioError, other: StudioError) -> bool:
    return (type(one), str(one), vars(one)) == (type(other), str(other), vars(other))


def drawn() -> Iterator[tuple[str, str]]:
    """Class and base of every line of the docstring's tree."""
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"^    ((?:│   |    )*(?:[├└]── )?)([A-Z]\w+Error)\b", line):
            depth = len(found[1]) // 4
            above[depth:] = [found[2]]
            yield found[2], above[depth - 1] if depth else "Exception"


def test_the_docstring_draws_every_class_below_its_base() -> None:
    assert dict(drawn()) == {kind.__name__: kind.__bases__[0].__name__ for kind in CLASSES}


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_is_made_of_its_dict(kind: type[StudioError]) -> None:
    told = json.loads(json.dumps(example(kind).to_dict()))
    assert same(error_from(told), example(kind))


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_crosses_the_engine(kind: type[StudioError]) -> None:
    engine_module = pytest.importorskip("peft_studio.engine")

    class Engine:
        def answer(self, _request: object) -> Iterator[dict[str, object]]:
            raise example(kind)

    ours, theirs = socket.socketpair()
    ours.sendall(b'{"op": "estimate"}\n')
    serving = Thread(target=engine_module._serve_one, args=(Engine(), theirs))
    serving.start()
    answer = Answer(lambda: Line(ours, None), lambda *_: None, lambda _: None)
    with pytest.raises(StudioError) as raised:
        next(answer)
    answer._lines.close()
    serving.join()
    assert same(raised.value, example(kind))


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_crosses_routes_and_endpoints(kind: type[StudioError]) -> None:
    def refuse(_request: object = None) -> object:
        raise example(kind)

    answer = TestClient(Starlette(routes=[endpoint("/x", refuse)])).get("/x")
    told = answer.json()
    assert answer.status_code in (400, 403, 404, 409, 429, 503) and answer.headers["cache-control"] == "no-store"
    assert same(error_from({"message": told.pop("error"), **told}), example(kind))
    with pytest.raises(gr.Error) as raised:
        guard_api(refuse)()
    assert raised.value.message == str(example(kind))
    assert raised.value.title == " ".join([kind.__name__, *map(str, vars(example(kind)).values())])


def test_what_is_none_of_ours_becomes_the_engines() -> None:
    for name in ("Mapping", "os", "Exception", "", None):
        assert same(error_from({"type": name, "message": "why"}), EngineError("why"))
    assert str(error_from({})) and isinstance(error_from({"type": "ConfigError"}), ConfigError)


def test_an_offline_hub_has_words_of_its_own() -> None:
    assert "cannot be reached" in str(HubOfflineError()) and str(HubOfflineError("so")) == "so"


def test_no_class_is_made_outside_the_tree() -> None:
    pattern = re.compile(r"^class (\w+)\((?:\w*Error|Exception)\)", re.M)
    made = {
        name
        for path in Path(errors.__file__).parent.rglob("*.py")
        for name in pattern.findall(path.read_text(encoding="utf-8"))
        if not name.startswith("_")
    }
    assert made <= {kind.__name__ for kind in CLASSES}
