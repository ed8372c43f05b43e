"""Experiments by the page's own routes."""

from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient

from peft_studio.experiments.conductor import Conductor
from peft_studio.experiments.lab import Lab
from peft_studio.ui.lab.routes import MOST_BYTES, experiment_routes
from tests.experiments.conftest import PLAN, estimate, finish, make_lab

HOST = {"Origin": "http://testserver"}


@pytest.fixture
def studio_lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def client(studio_lab: Lab, gated: Callable[..., TestClient]) -> Iterator[TestClient]:
    with gated(experiment_routes(studio_lab), studio_lab.manager.settings.home) as found:
        yield found


def test_from_a_plan_to_its_answer(studio_lab: Lab, client: TestClient) -> None:
    cost = client.post("/studio/experiments/cost", json=PLAN, headers=HOST).json()
    assert (cost["runs"], cost["search_runs"]) == (4, 0) and cost["seconds"] > 0
    assert [one["trainable_params"] for one in cost["cells"]] == [8000, 77] and cost["problems"] == []
    made = client.post("/studio/experiments", json=PLAN, headers=HOST).json()["id"]
    (row,) = client.get("/studio/experiments").json()["experiments"]
    assert (row["id"], row["state"], row["mine"], row["actions"]) == (made, "waiting", True, ["stop", "delete"])
    conductor = Conductor(studio_lab)
    conductor._at_once = 9
    conductor.tick()
    for part, run in studio_lab.store.load(made).runs.items():
        finish(studio_lab, run, "aaab" if part.cell else "bbbb", loss=1.0 + part.seed)
    assert client.get(f"/studio/experiments/{made}").json()["computing"]
    studio_lab.settle(made)
    answer = client.get(f"/studio/experiments/{made}").json()
    assert answer["state"] == "finished" and answer["words"][0].startswith("(IA)³ beats LoRA by 75.0")
    assert answer["curves"][0]["mean"] == pytest.approx([1.5 + 1 / 30, 1.5 + 1 / 60], rel=1e-4)
    assert answer["curves"][0]["low"][0] < answer["curves"][0]["high"][0]
    points = {point["name"]: point for point in answer["pareto"]["points"]}
    assert points["base model"]["on_frontier"]["trainable_params"] and points["base model"]["base"]
    assert points["(IA)³"]["on_frontier"]["trainable_params"] and not points["LoRA"]["on_frontier"]["trainable_params"]
    assert answer["table"][0]["settings"]["method.rank"] == 8 and "training.seed" not in answer["table"][0]["settings"]
    assert client.post(f"/studio/experiments/{made}/delete", json={"runs": True}, headers=HOST).json() == {
        "deleted": True, "runs_deleted": 4,
    }  # fmt: skip
    assert client.get(f"/studio/experiments/{made}").status_code == 404


def test_two_things_make_a_grid(studio_lab: Lab, client: TestClient) -> None:
    vary = [{"field": "method.rank", "values": [2, 8]}, {"field": "task.train_rows", "values": [10, 30, 0]}]
    plan = {**PLAN, "base": {**PLAN["base"], "method": {"name": "lora"}}, "vary": vary, "seeds": 1}
    made = client.post("/studio/experiments", json=plan, headers=HOST).json()["id"]
    answer = client.get(f"/studio/experiments/{made}").json()
    assert answer["grid"]["x"] == {"field": "task.train_rows", "values": [10, 30, 0]}
    assert answer["grid"]["cells"] == [[None] * 3] * 2
    assert [row["name"] for row in answer["table"]][:3] == ["rank 2, 10 rows", "rank 2, 30 rows", "rank 2, all rows"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b"x" * (MOST_BYTES + 1), "at most"),
        (b"[]", "mapping of keys"),
        (b'{"question": "?", "vary": [{"field": "task.rows", "values": [1]}]}', "train_rows"),
    ],
)
def test_what_is_wrong_is_said(client: TestClient, body: bytes, words: str) -> None:
    for path in ("experiments", "experiments/cost"):
        answer = client.post(f"/studio/{path}", content=body, headers=HOST)
        assert answer.status_code == 409 and words in answer.json()["error"]


@pytest.mark.parametrize("name", ["nothing", "..", "%2e%2e", "a" * 300, "%00"])
def test_unknown_ones_are_not_found(client: TestClient, name: str) -> None:
    assert client.get(f"/studio/experiments/{name}").status_code == 404
    assert client.post(f"/studio/experiments/{name}/stop", headers=HOST).status_code == 404


def test_estimates_are_asked_for_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    asked: list[object] = []
    lab = make_lab(tmp_path_factory.mktemp("once"))
    lab = Lab(lab.manager, lambda config: asked.append(config) or estimate(config))  # type: ignore[func-returns-value]
    sized = {**PLAN, "equal_parameters": 6_100}
    first = lab.cost(sized)
    count = len(asked)
    assert lab.cost(sized) == first and len(asked) == count
    assert first["cells"][0]["trainable_params"] == 6000 and not first["cells"][1]["sizable"]
    assert "no size that could be set" in first["problems"][0]
