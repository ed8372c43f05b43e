"""The routes of the Inside tab: what is asked of the engine, for whom, and what is refused before."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from peft_studio.config.run_config import parse_config
from peft_studio.jobs.manager import JobManager
from peft_studio.ui.inside import inside_routes, inside_tools


@pytest.fixture
def asked(manager: JobManager, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, dict[str, Any]]]:
    """What the engine is asked, which answers nothing."""
    found: list[tuple[str, str, dict[str, Any]]] = []

    def inspect(run: str, op: str = "inspect", **more: Any) -> dict[str, Any]:
        found.append((run, op, more))
        return {"views": {}}

    monkeypatch.setattr(manager.engine, "inspect", inspect)
    return found


def test_the_engine_is_asked_for_a_run_that_is_there(manager: JobManager, asked: list[Any]) -> None:
    run = manager.submit(parse_config({"method": {"name": "lora"}, "training": {}}), "")
    with TestClient(Starlette(routes=inside_routes(manager)), base_url="http://testserver") as client:
        path = f"/studio/runs/{run}/inside"
        assert client.get(f"{path}/inspect?step=4&other={run}").json() == {"views": {}}
        assert client.get(f"{path}/forgetting").status_code == 200
        assert asked == [(run, "inspect", {"step": 4, "other": run}), (run, "forgetting", {"step": None, "other": ""})]
        refused = {
            f"{path}/soul": (404, "There is no 'soul' of an adapter; allowed: inspect"),
            f"{path}/inspect?step=-1": (409, "step = '-1' is no step"),
            f"{path}/inspect?other=nobody": (404, "nobody"),
            "/studio/runs/nobody/inside/inspect": (404, "nobody"),
        }
        for address, (status, words) in refused.items():
            answer = client.get(address)
            assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text
    assert len(asked) == 2


def test_programs_ask_the_same(manager: JobManager, asked: list[Any]) -> None:
    run = manager.submit(parse_config({"method": {"name": "lora"}, "training": {}}), "")
    inspect_run, measure_forgetting = inside_tools(manager)
    inspect_run(run)
    measure_forgetting(run)
    assert [(each, op) for each, op, _ in asked] == [(run, "inspect"), (run, "forgetting")]
