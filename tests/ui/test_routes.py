"""The page's own routes, without Gradio and without workers."""

import io
import zipfile
from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient

from peft_studio.config.run_config import parse_config
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.events import EventWriter
from peft_studio.runs.paths import RunPaths
from peft_studio.ui.http import file_name, safe_cell
from peft_studio.ui.routes import routes
from peft_studio.ui.shell import SCRIPTS

HOST = "http://testserver"


@pytest.fixture
def client(manager: JobManager, gated: Callable[..., TestClient]) -> Iterator[TestClient]:
    with gated(routes(manager), manager.settings.home) as found:
        yield found


def fake_run(manager: JobManager, steps: int = 3, name: str = "") -> RunPaths:
    """A run with some steps, as a worker would have written it."""
    paths = manager.store.paths(manager.submit(parse_config({"method": {"name": "lora"}, "training": {}}), name))
    writer = EventWriter(paths.events)
    for step in range(1, steps + 1):
        writer.emit("step", step=step, loss=5.0 / step, tokens=step * 100, elapsed=step * 0.1)
    writer.emit("eval", step=steps, tokens=steps * 100, elapsed=steps * 0.1, metrics={"eval/loss": 1.5})
    writer.close()
    return paths


def test_runs_and_curves(manager: JobManager, client: TestClient) -> None:
    run = fake_run(manager).id
    (listed,) = client.get("/studio/runs.json").json()
    assert (listed["id"], listed["step"], listed["eval_loss"]) == (run, 3, 1.5)
    (curve,) = client.get(f"/studio/metrics.json?runs={run}:0,unknown:0,../..:0").json()
    assert curve["train"]["step"] == [1, 2, 3]
    (later,) = client.get(f"/studio/metrics.json?runs={run}:{curve['next']}").json()
    assert later["train"]["step"] == [] and later["next"] == curve["next"]
    assert client.get("/studio/metrics.json").json() == []


def test_only_this_host_may_change_runs(manager: JobManager, client: TestClient) -> None:
    run = fake_run(manager).id
    for headers in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert client.post(f"/studio/runs/{run}/stop", headers=headers).status_code == 403
    assert client.post(f"/studio/runs/{run}/explode", headers={"Origin": HOST}).status_code == 404
    assert client.post(f"/studio/runs/{run}/stop", headers={"Origin": HOST}).json() == {"ok": True}
    assert manager.library.info(run).status == "stopped"
    assert client.post(f"/studio/runs/{run}/delete", headers={"Origin": HOST}).json() == {"ok": True}
    assert client.get("/studio/runs.json").json() == []


@pytest.mark.parametrize("run", ["nothing", "..", "%2e%2e", "..%2f..%2fetc", "a" * 300])
def test_unknown_runs_are_not_found(client: TestClient, run: str) -> None:
    assert client.get(f"/studio/log/{run}").status_code == 404
    assert client.post(f"/studio/runs/{run}/delete", headers={"Origin": HOST}).status_code == 404


def test_log_is_plain_text(manager: JobManager, client: TestClient) -> None:
    paths = fake_run(manager)
    paths.log.write_text("<script>alert(1)</script>\n")
    answer = client.get(f"/studio/log/{paths.id}")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script>" in answer.text


def test_csv_cannot_carry_a_formula(manager: JobManager, client: TestClient) -> None:
    fake_run(manager, name="=HYPERLINK(1)")
    text = client.get("/studio/compare.csv").text
    assert "eval/loss" in text.splitlines()[0]
    assert "'=HYPERLINK(1)" in text
    cells = {
        "@x": "'@x",
        "\tx": "'\tx",
        "\rx": "'\rx",
        "\n=x": "'\n=x",
        "＝x": "'＝x",
        " +1": "' +1",
        "-1": "'-1",
        "ok": "ok",
        None: "",
        -1.5: -1.5,
    }
    assert {value: safe_cell(value) for value in cells} == cells


def test_names_of_downloads_are_plain() -> None:
    assert file_name('../a"b\r\nSet-Cookie: x/ü.zip') == "_a_b__Set-Cookie__x__.zip"


def test_export_without_an_adapter_says_so(manager: JobManager, client: TestClient) -> None:
    answer = client.get(f"/studio/export/{fake_run(manager).id}.zip")
    if answer.status_code == 200:
        zipfile.ZipFile(io.BytesIO(answer.content))
    else:
        assert "adapter" in answer.json()["error"]


def test_static_files(client: TestClient) -> None:
    script = client.get(f"/{SCRIPTS}/main.js")
    assert (
        script.headers["content-type"].startswith("text/javascript") and "immutable" in script.headers["cache-control"]
    )
    assert client.get("/studio/static/000000000000/main.js").headers["cache-control"] == "no-store"
    for missing in ("nothing.js", "tokens.css", "..%2froutes.py", "..%2f..%2fapp.js"):
        assert client.get(f"/{SCRIPTS}/{missing}").status_code == 404
    plotly = client.get("/studio/static/plotly.min.js")
    assert plotly.headers["content-encoding"] == "gzip" and "plotly.js" in plotly.text[:200]


def test_queue_buttons(manager: JobManager, client: TestClient) -> None:
    first, second = (manager.submit(parse_config({"method": {"name": "lora"}, "training": {}})) for _ in range(2))

    def ask(path: str) -> int:
        return client.post(f"/studio/{path}", headers={"Origin": HOST}).status_code

    def places() -> dict[str, int | None]:
        manager._index.changed()
        return {run["id"]: run["queue_position"] for run in client.get("/studio/runs.json").json()}

    assert ask(f"runs/{second}/front") == 200 and places() == {first: 2, second: 1}
    assert ask(f"runs/{second}/down") == 200 and places() == {first: 1, second: 2}
    assert ask(f"runs/{second}/up") == 200 and places() == {first: 2, second: 1}
    assert ask(f"runs/{second}/hold") == 200 and places() == {first: 1, second: None}
    assert ask(f"runs/{second}/release") == 200 and places() == {first: 2, second: 1}
    assert client.post("/studio/queue/pause", headers={"Origin": "http://evil.example"}).status_code == 403
    assert ask("queue/pause") == 200 and client.get("/studio/queue.json").json()["paused"] is True
    assert ask("queue/start") == 200 and client.get("/studio/queue.json").json()["paused"] is False
    assert ask("queue/explode") == 404


@pytest.mark.parametrize("action", ["pause", "extend?steps=5", "extend", "extend?steps=-1", "extend?steps=1e3"])
def test_what_a_queued_run_cannot_do_is_said(manager: JobManager, client: TestClient, action: str) -> None:
    run = fake_run(manager).id
    answer = client.post(f"/studio/runs/{run}/{action}", headers={"Origin": HOST})
    assert answer.status_code == 409 and len(answer.json()["error"]) > 20
    assert manager.library.info(run).status == "queued"


def test_resume_after_stop_in_the_queue(manager: JobManager, client: TestClient) -> None:
    run = manager.submit(parse_config({"method": {"name": "lora"}, "training": {}}))
    for action, status in (("stop", "stopped"), ("resume", "queued")):
        assert client.post(f"/studio/runs/{run}/{action}", headers={"Origin": HOST}).json() == {"ok": True}
        assert manager.library.info(run).status == status
