"""Questions about answers by the page's own routes; the engine is stood in for, its own tests are below training."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from peft_studio.config.run_config import parse_config
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.event_log import parse_events
from peft_studio.runs.events import EventWriter
from peft_studio.runs.reader import RunInfo
from peft_studio.ui.answers.adapter_choices import AskableRows, adapters, offered, usable
from peft_studio.ui.answers.ask import ask_routes
from peft_studio.ui.context import Studio

HOST = {"Origin": "http://testserver"}


def finished(manager: JobManager, method: str = "lora", **more: Any) -> str:
    """A run that has saved an adapter."""
    given = {"model": {"id": "nano-lm"}, "method": {"name": method}, "training": {}, **more}
    paths = manager.store.create(parse_config(given), name=f"my {method}")
    paths.adapter.mkdir()
    (paths.adapter / "adapter_model.safetensors").write_bytes(b"12345678")
    writer = EventWriter(paths.events)
    writer.emit("started", trainable_params=5)
    writer.emit("saved", path="adapter", step=1, bytes=8)
    writer.emit("finished", step=1, summary={})
    writer.close()
    (paths.root / "exit.json").write_text('{"code": 0, "signal": null}')
    return paths.id


@pytest.fixture
def client(manager: JobManager, gated: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    asked: list[dict[str, Any]] = []

    def inspect(run: str, op: str = "inspect", **more: Any) -> dict[str, Any]:
        asked.append({"run": run, "op": op, **more})
        if op == "mix":
            Path(more["folder"]).mkdir()
            (Path(more["folder"]) / "adapter_model.safetensors").write_bytes(b"87654321")
        return {"parameters": 7} if op == "mix" else {"told": op}

    monkeypatch.setattr(manager.engine, "inspect", inspect)
    with gated(ask_routes(manager), manager.settings.home) as found:
        found.asked = asked
        yield found


def test_questions_reach_the_engine(manager: JobManager, client: Any) -> None:
    run = finished(manager)
    given = {"prompt": "a", "text": "b", "runs": [run]}
    assert client.post("/studio/ask/tokens", json=given, headers=HOST).json() == {"told": "tokens"}
    given = {"prompt": "a", "strength": 0.5, "run": run, "ends": True}
    assert client.post("/studio/ask/strength", json=given, headers=HOST).json() == {"told": "strength"}
    assert client.post("/studio/ask/merge", json={"run": run}, headers=HOST).json() == {"told": "check_merge"}
    assert client.post("/studio/ask/step", json={"run": run, "step": 3}, headers=HOST).json() == {"told": "step"}
    assert [one["op"] for one in client.asked] == ["tokens", "strength", "check_merge", "step"]
    assert client.asked[1]["strength"] == 0.5 and client.asked[1]["ends"] and client.asked[3]["step"] == 3


@pytest.mark.parametrize(
    ("path", "given", "words"),
    [
        ("tokens", {"prompt": "a", "text": 3, "runs": []}, "it is to be a text"),
        ("tokens", {"prompt": "a", "text": "b" * 9000, "runs": []}, "8,000 are allowed"),
        ("tokens", {"prompt": "a", "text": "b", "runs": "x"}, "list of ids"),
        ("tokens", {"prompt": "a", "text": "b", "runs": list("123456")}, "at most 5"),
        ("merge", {"run": "no-such-run"}, "no-such-run"),
        ("mix", {"runs": ["a"], "weights": [1], "way": "cat", "name": ""}, "a mix takes 2 to 5"),
        ("mix", {"runs": ["a", "b"], "weights": [1], "way": "cat", "name": ""}, "numbers are needed"),
        ("mix", {"runs": ["a", "b"], "weights": 1, "way": "cat", "name": ""}, "list of numbers"),
    ],
)
def test_what_is_wrong_is_said(client: Any, path: str, given: dict[str, Any], words: str) -> None:
    answer = client.post(f"/studio/ask/{path}", json=given, headers=HOST)
    assert answer.status_code in (404, 409) and words in answer.json()["error"]
    assert not client.asked


def test_a_body_that_is_no_object(client: Any) -> None:
    for body in (b"[]", b"{", b"x" * (2 << 20)):
        assert "body" in client.post("/studio/ask/merge", content=body, headers=HOST).json()["error"]


def test_a_mix_is_a_run_that_says_what_it_is_of(manager: JobManager, client: Any) -> None:
    one, other = finished(manager), finished(manager)
    given = {"runs": [one, other], "weights": [0.75, 0.25], "way": "cat", "name": ""}
    run = client.post("/studio/ask/mix", json=given, headers=HOST).json()["run"]
    info = manager.library.info(run)
    assert (info.status, info.name, info.adapter_bytes) == ("finished", "Mix of my lora and my lora", 8)
    started = parse_events(manager.store.paths(run).events.read_bytes().splitlines())[0]
    assert [(part["run"], part["weight"]) for part in started["mixed"]] == [(one, 0.75), (other, 0.25)]
    assert any(f"0.75 × my lora ({one})" in note for note in manager.library.notes(run))
    assert not [path for path in manager.settings.runs_dir.iterdir() if path.name.startswith(".")]


def test_only_what_fits_together_is_offered(manager: JobManager) -> None:
    first = finished(manager)
    second = finished(manager, "ia3")
    far = finished(manager, model={"id": "nano-seq2seq"}, task={"id": "headlines"})
    label = finished(manager, task={"id": "reviews"})
    studio = Studio(manager, manager.settings)
    runs: list[RunInfo] = usable(studio)
    assert {info.id for info in runs} == {first, second, far, label}
    fit, why = offered(runs, [first])
    assert {info.id for info in fit} == {first, second}
    assert "1 on another base model than nano-lm" in why and "1 that answer in another way" in why
    (name, _), *_ = [pair for pair in adapters(studio) if pair[1] == far]
    assert "nano-seq2seq" in name and "headlines" in name
    assert offered(runs, []) == (runs, "")


def test_rows_of_a_run_s_own_test_set(manager: JobManager, tmp_path: Path) -> None:
    lines = ["question,answer", *(f"q{number},a{number}" for number in range(20))]
    (tmp_path / "own.csv").write_text("\n".join(lines) + "\n")
    task = {"id": "custom", "kind": "generation", "train_file": str(tmp_path / "own.csv"),
            "input_column": "question", "target_column": "answer"}  # fmt: skip
    run = finished(manager, task=task)
    sets = AskableRows(Studio(manager, manager.settings))
    title, name = sets.choices([run])[-1]
    assert name == f"run:{run}" and title.startswith("Test rows of my lora")
    row = sets.row(name, 1)
    assert row is not None and row.target.strip() == "a" + row.prompt.strip()[1:]
    assert sets.row(name, 999) is None
