"""Disk use, stars, freeing, and runs as files, through the page's routes."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from peft_studio.config.run_config import parse_config
from peft_studio.errors import InvalidStateError
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.paths import RunPaths
from peft_studio.ui import storage
from peft_studio.ui.routes import routes
from peft_studio.ui.storage import storage_routes
from peft_studio.ui.train import with_changes

HOST = "http://testserver"
OURS = {"Origin": HOST}


@pytest.fixture
def client(manager: JobManager, gated: Callable[..., TestClient]) -> Iterator[TestClient]:
    every = [*storage_routes(manager), *routes(manager)]
    with gated(every, manager.settings.home) as found:
        yield found


def finished(manager: JobManager, losses: list[float] | None = None) -> RunPaths:
    """A finished run with a checkpoint."""
    data = {"method": {"name": "lora"}, "training": {"learning_rate": 1.0}}
    paths = manager.store.paths(manager.submit(parse_config(data)))
    lines = [{"v": 1, "kind": "step", "step": step, "loss": loss} for step, loss in enumerate(losses or [1.0], 1)]
    lines.append({"v": 1, "kind": "finished", "step": len(lines), "summary": {}})
    paths.events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    paths.exit.write_text('{"code": 0, "signal": null}')
    (paths.root / "checkpoint").mkdir()
    (paths.root / "checkpoint" / "state.bin").write_bytes(b"x" * 1234)
    manager._index.changed(paths.id)
    return paths


def test_sizes_stars_and_freeing(manager: JobManager, client: TestClient) -> None:
    run = finished(manager).id
    use = client.get("/studio/storage.json").json()
    assert (use["runs"][0]["id"], use["runs"][0]["checkpoint"], use["starred"]) == (run, 1234, [])
    assert client.post(f"/studio/runs/{run}/star", headers=OURS).json() == {"ok": True}
    assert client.get("/studio/storage.json").json()["starred"] == [run]
    client.post(f"/studio/runs/{run}/star?on=0", headers=OURS)
    assert client.get("/studio/storage.json").json()["starred"] == []
    assert client.post(f"/studio/runs/{run}/free", headers=OURS).json() == {"ok": True, "freed": 1234}
    assert client.get("/studio/storage.json").json()["runs"][0]["checkpoint"] == 0


def test_only_this_host_may_change_anything(manager: JobManager, client: TestClient) -> None:
    run = finished(manager).id
    for path in (f"/studio/runs/{run}/free", f"/studio/runs/{run}/star", "/studio/import"):
        for headers in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            assert client.post(path, headers=headers).status_code == 403
    assert client.get("/studio/storage.json").json()["runs"][0]["checkpoint"] == 1234
    for path in ("/studio/archive/nothing.zip", "/studio/archive/..%2f..zip"):
        assert client.get(path).status_code == 404
    assert client.post("/studio/runs/nothing/star", headers=OURS).status_code == 404


def test_a_run_leaves_and_comes_back(manager: JobManager, client: TestClient) -> None:
    run = finished(manager).id
    answer = client.get(f"/studio/archive/{run}.zip")
    assert (
        answer.headers["content-type"] == "application/zip"
        and "config.json" in zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    )
    client.post(f"/studio/runs/{run}/delete", headers=OURS)
    back = client.post("/studio/import", headers=OURS, content=answer.content)
    assert back.json() == {"run_id": run}
    assert client.get("/studio/runs.json").json()[0]["status"] == "finished"
    assert list(manager.settings.cache_dir.glob("transfer-*")) == []


def test_an_upload_that_is_no_run(manager: JobManager, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = client.post("/studio/import", headers=OURS, content=b"nonsense")
    assert answer.status_code == 409 and "not a zip of a run" in answer.json()["error"]
    monkeypatch.setattr(storage, "MAX_UPLOAD", 5)
    assert client.post("/studio/import", headers=OURS, content=b"nonsense").status_code == 413
    chunks = client.post("/studio/import", headers=OURS, content=iter([b"abc", b"defg"]))
    assert chunks.status_code == 413
    assert list(manager.settings.cache_dir.glob("transfer-*")) == [] and manager.library.list() == []


def test_a_queued_run_is_not_exported(manager: JobManager, client: TestClient) -> None:
    run = manager.submit(parse_config({"method": {"name": "lora"}, "training": {}}))
    answer = client.get(f"/studio/archive/{run}.zip")
    assert answer.status_code == 409 and "queued" in answer.json()["error"]
    assert list(manager.settings.cache_dir.glob("transfer-*")) == []


def test_findings(manager: JobManager, client: TestClient) -> None:
    run = finished(manager, [2.5] * 5 + [9.0] * 40).id
    damage, found = client.get(f"/studio/findings.json?runs={run},unknown").json()[run]
    assert damage["id"] == "damaged"  # it only pretends to have finished
    assert found["id"] == "diverged" and found["settings"] == {"training.learning_rate": 0.01}
    assert client.get(f"/studio/runs/{run}/details").json()["findings"] == [damage, found]
    assert client.get("/studio/findings.json").json() == {}


def test_changes_reach_the_form() -> None:
    data = {"training": {"learning_rate": 1.0, "batch_size": 4}, "method": {"name": "lora"}}
    changed = with_changes(data, {"training.learning_rate": 0.01, "nothing.x": 1})
    assert changed == {"training": {"learning_rate": 0.01, "batch_size": 4}, "method": {"name": "lora"}}
    assert with_changes(data, None) is data


def save_adapter_of(paths: RunPaths) -> None:
    """Gives a run an adapter, of one number."""
    paths.adapter.mkdir()
    (paths.adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "task_type": "CAUSAL_LM"}')
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    content = len(header).to_bytes(8, "little") + header + bytes(4)
    (paths.adapter / "adapter_model.safetensors").write_bytes(content)


def test_rows_are_in_an_export_when_asked_for(manager: JobManager, client: TestClient) -> None:
    paths = finished(manager)
    save_adapter_of(paths)
    for query, there in (("", False), ("?rows=0", False), ("?rows=1", True)):
        answer = client.get(f"/studio/export/{paths.id}.zip{query}")
        names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
        assert ("train.jsonl" in names) == there and "README.md" in names


def test_a_merged_model_comes_as_a_zip(
    manager: JobManager, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = finished(manager)
    address = f"/studio/merged/{paths.id}.zip"

    def merge(run: str, folder: Path) -> float:
        assert run == paths.id
        (folder / "model.safetensors").write_bytes(b"weights")
        return 2e-6

    monkeypatch.setattr(manager.engine, "merge", merge)
    assert client.post(address).status_code == 403
    assert "not saved an adapter" in client.post(address, headers=OURS).json()["error"]
    save_adapter_of(paths)
    answer = client.post(address, headers=OURS)
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.read("model.safetensors") == b"weights"
    assert "2.0e-06" in archive.read("README.md").decode()

    def refuse(_run: str, _folder: Path) -> float:
        raise InvalidStateError("Houlsby adapters cannot be merged.")

    monkeypatch.setattr(manager.engine, "merge", refuse)
    refused = client.post(address, headers=OURS)
    assert (refused.status_code, refused.json()["error"]) == (409, "Houlsby adapters cannot be merged.")
    cache = manager.settings.cache_dir
    assert not [*cache.glob("transfer-*"), *cache.glob("merged-*")]
