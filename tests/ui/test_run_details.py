"""What a run's details say, from the files that a worker would have written."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from peft_studio.config.run_config import parse_config
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.events import EventWriter
from peft_studio.runs.paths import RunPaths
from peft_studio.ui.details import MAX_CLASSES, short_names, shown_labels
from peft_studio.ui.routes import routes

SCORES = {"test/accuracy": 75.0, "test/macro_f1": 73.3, "base/test/accuracy": 50.0, "base/test/macro_f1": 33.3}


@pytest.fixture
def client(manager: JobManager) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=routes(manager)), base_url="http://testserver") as found:
        yield found


def finished(manager: JobManager, metrics: dict[str, float], check: Any = None, task: str = "reviews") -> RunPaths:
    """A run that has been through its test."""
    data = {"method": {"name": "lora"}, "task": {"id": task}, "training": {}}
    if task == "reviews":
        data["model"] = {"id": "nano-encoder"}
    paths = manager.store.paths(manager.submit(parse_config(data), ""))
    writer = EventWriter(paths.events)
    writer.emit("step", step=1, loss=1.0, tokens=10, elapsed=0.1)
    writer.emit("saved", path="adapter", bytes=10, **({"check": check} if check else {}))
    writer.emit("eval", step=1, tokens=10, elapsed=0.1, metrics=metrics)
    writer.close()
    return paths


def write_answers(paths: RunPaths, pairs: Sequence[tuple[str, str]]) -> None:
    lines = [json.dumps({"prompt": "?", "target": target, "prediction": answer}) for target, answer in pairs]
    paths.predictions.write_text("\n".join([*lines, "not JSON", '{"target": 3}', ""]), encoding="utf-8")


def details(client: TestClient, paths: RunPaths) -> dict[str, Any]:
    answer = client.get(f"/studio/runs/{paths.id}/details")
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    return dict(answer.json())


def test_confusion_has_truth_in_rows(manager: JobManager, client: TestClient) -> None:
    paths = finished(manager, SCORES, {"rows": 4, "max_difference": 2e-6})
    pairs = [("negative", "negative"), ("negative", " positive "), ("positive", "positive"), ("positive", "maybe")]
    write_answers(paths, pairs)
    found = details(client, paths)
    assert found["confusion"] == {
        "labels": ["negative", "positive"], "counts": [[1, 1], [0, 1]], "other": [0, 1], "classes": 2, "rows": 4,
    }  # fmt: skip
    assert found["check"] == {"rows": 4, "max_difference": 2e-6}
    assert found["metrics"][0] == {"name": "accuracy", "value": 75.0, "base": 50.0}
    assert "label" in found["base"] and found["ranks"] is None


def test_many_classes_show_the_most_frequent() -> None:
    targets = [f"class {number:02}" for number in range(20) for _ in range(number + 1)]
    assert shown_labels(targets, ()) == [f"class {number:02}" for number in range(20 - MAX_CLASSES, 20)]
    assert shown_labels(["b", "a"], ("z", "b")) == ["z", "b", "a"]


def test_answers_with_text_have_no_confusion(manager: JobManager, client: TestClient) -> None:
    paths = finished(manager, {"test/bleu": 12.5}, task="bistro")
    write_answers(paths, [("one", "two")])
    found = details(client, paths)
    assert found["confusion"] is None and found["check"] is None
    assert found["metrics"] == [{"name": "bleu", "value": 12.5, "base": None}]
    assert found["base"] == "the base model"


def test_ranks_by_layer_and_part(manager: JobManager, client: TestClient) -> None:
    paths = finished(manager, {}, task="bistro")
    paths.adapter.mkdir()
    pattern = {
        f"model.layers.{layer}.{part}.lora_E": [True] * (layer + 1) + [False]
        for layer in (0, 1)
        for part in ("self_attn.q_proj", "mlp.up_proj")
    }
    (paths.adapter / "adapter_config.json").write_text(json.dumps({"rank_pattern": {**pattern, "head": 3}}))
    assert details(client, paths)["ranks"] == {
        "parts": ["q_proj", "up_proj"],
        "layers": [{"name": "layers.0", "cells": [[1, 2], [1, 2]]}, {"name": "layers.1", "cells": [[2, 3], [2, 3]]}],
        "kept": 6, "of": 10,
    }  # fmt: skip


@pytest.mark.parametrize("pattern", [{}, None, [1], {"model.layers.0.q_proj": 4}])
def test_no_ranks_without_a_schedule(manager: JobManager, client: TestClient, pattern: Any) -> None:
    paths = finished(manager, {}, task="bistro")
    paths.adapter.mkdir()
    (paths.adapter / "adapter_config.json").write_text(json.dumps({"rank_pattern": pattern}))
    assert details(client, paths)["ranks"] is None


def test_short_names_tell_apart() -> None:
    names = ["attention.output.dense", "output.dense", "attention.self.query"]
    assert short_names(names) == names
    assert short_names(["encoder.block.0", "encoder.block.1"], words=2) == ["block.0", "block.1"]
    both = ["encoder.block.0", "decoder.block.0"]
    assert short_names(both, words=2) == both


def test_a_run_that_has_done_nothing(manager: JobManager, client: TestClient) -> None:
    paths = manager.store.paths(manager.submit(parse_config({"method": {"name": "lora"}, "training": {}}), ""))
    found = details(client, paths)
    assert found["metrics"] == [] and found["check"] is None and found["confusion"] is None


@pytest.mark.parametrize("run", ["nothing", "%2e%2e", "..%2f..%2fetc", "a" * 300])
def test_unknown_runs_are_not_found(client: TestClient, run: str) -> None:
    assert client.get(f"/studio/runs/{run}/details").status_code == 404


def test_memory_as_foretold_and_as_measured(client: TestClient, manager: JobManager) -> None:
    paths = finished(manager, SCORES)
    assert details(client, paths)["memory"] is None
    writer = EventWriter(paths.events)
    writer.emit("stage", name="training", peak_memory_bytes=500)
    writer.close()
    manager._changed()
    assert details(client, paths)["memory"] == {"ledger": {}, "predicted": None, "measured": 500}
    paths.predicted.write_text('{"memory_bytes": 700}')  # of an older version
    manager._changed()
    assert details(client, paths)["memory"] == {"ledger": {}, "predicted": 700, "measured": 500}
    paths.predicted.write_text('{"memory_bytes": 700, "memory": {"runtime": 400, "weights": 300}}')
    found = details(client, paths)["memory"]
    assert found["ledger"] == {"runtime": 400, "weights": 300} and sum(found["ledger"].values()) == found["predicted"]
    assert manager.library.info(paths.id).predicted_memory_bytes == 700
    assert manager.library.info(paths.id).peak_memory_bytes == 500


def test_the_best_loss_what_was_saved_and_what_scored_it(manager: JobManager, client: TestClient) -> None:
    paths = manager.store.paths(manager.submit(parse_config({"method": {"name": "lora"}, "training": {}}), "mine"))
    writer = EventWriter(paths.events)
    for step, loss in ((1, 2.0), (2, 1.5), (3, 1.8)):
        writer.emit("step", step=step, loss=loss, tokens=10, elapsed=0.1)
        writer.emit("eval", step=step, tokens=10, elapsed=0.1, metrics={"eval/loss": loss})
    writer.emit("note", message="The fast path does not give what the library gives.")
    writer.emit("saved", path="adapter", bytes=10, step=2, metrics={"eval/loss": 1.5})
    writer.emit("eval", step=3, metrics={"test/bleu": 20.0, "test/chrf": 30.0}, tokenizers={"bleu": "zh"})
    writer.close()
    found = details(client, paths)
    assert found["validation"] == {"best": 1.5, "best_step": 2, "base": None, "saved": 1.5, "saved_step": 2}
    assert found["metrics"][0]["tokenizer"] == "zh" and "tokenizer" not in found["metrics"][1]
    assert found["notes"] == ["The fast path does not give what the library gives."]
    (listed,) = client.get("/studio/runs.json").json()
    assert (listed["best_eval_loss"], listed["eval_loss"], listed["saved_step"]) == (1.5, 1.5, 2)
    header, row = client.get("/studio/compare.csv").text.splitlines()
    told = dict(zip(header.split(","), row.split(","), strict=True))
    assert (told["best_eval_loss"], told["best_step"], told["tokenizer/bleu"]) == ("1.5", "2", "zh")


@pytest.mark.parametrize("since", ["9" * 5000, "²", "-1", "1e9"])
def test_odd_counts_ask_for_everything(manager: JobManager, client: TestClient, since: str) -> None:
    run = finished(manager, {}).id
    assert client.get(f"/studio/metrics.json?runs={run}:{since}").json()[0]["train"]["step"] == [1]
    assert len(client.get(f"/studio/runs.json?since={since}").json()["runs"]) == 1


def test_settings_of_runs_lie_side_by_side(manager: JobManager, client: TestClient) -> None:
    ranks = [
        manager.submit(parse_config({"method": {"name": "lora", "rank": rank}, "training": {}}), "") for rank in (4, 8)
    ]
    biases = manager.submit(parse_config({"method": {"name": "bitfit"}, "training": {"seed": 3}}), "")
    found = client.get(f"/studio/settings.json?runs={','.join([*ranks, biases])},nobody").json()
    assert set(found["runs"]) == {*ranks, biases}
    labels = found["labels"]
    assert (labels["method.name"], labels["training.max_steps"], labels["method.rank"]) == ("Method", "Steps", "Rank")
    assert found["says"]["training.max_steps"] == "Optimizer steps."
    assert [found["runs"][run]["method.rank"] for run in ranks] == [4, 8]
    assert found["runs"][biases]["method.name"] == "BitFit" and "method.rank" not in found["runs"][biases]
    assert found["runs"][biases]["training.seed"] == 3
    assert client.get("/studio/settings.json").json() == {"labels": {}, "says": {}, "runs": {}}
