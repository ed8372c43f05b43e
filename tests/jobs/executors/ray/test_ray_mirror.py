"""What travels between a Ray node and a run's folder: nothing is lost, doubled or seen half. Needs no Ray."""

import json
from pathlib import Path
from typing import Any

import pytest
from job_kit import make_config

from peft_studio.config.run_config import parse_config
from peft_studio.files import read_json
from peft_studio.jobs.executors.ray.mirror import Mirror, pack, sizes
from peft_studio.jobs.executors.ray.node import NodeRun
from peft_studio.jobs.executors.ray.outbox import Outbox
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.store import RunStore


@pytest.fixture
def node(tmp_path: Path) -> RunPaths:
    """A run's folder on a node."""
    folder = tmp_path / "node" / "r1"
    folder.mkdir(parents=True)
    return RunPaths(folder)


@pytest.fixture
def run(home: Path) -> RunPaths:
    """The same run in the app."""
    return RunStore(home / "runs").create(make_config())


def news(node: NodeRun, mirror: Mirror) -> dict[str, Any]:
    return node.news(mirror.offsets(), mirror.fetched)


def checkpoint(paths: RunPaths, step: int) -> None:
    paths.checkpoint.mkdir(exist_ok=True)
    (paths.checkpoint / f"step-{step}.safetensors").write_bytes(bytes([step]) * 1000)
    draft = paths.checkpoint / ".state.json"
    draft.write_text(json.dumps({"step": step}))
    draft.replace(paths.checkpoint / "state.json")


def test_growing_files_continue_where_the_copy_ends(node: RunPaths, run: RunPaths) -> None:
    run.events.write_bytes(b'{"kind":"step"}\n')  # of an earlier attempt
    base = sizes(run)
    there = NodeRun(str(node.root))
    node.events.write_bytes(b'{"kind":"a"}\n{"kind":"b')
    mirror = Mirror(run, base)
    mirror.append(news(there, mirror))
    mirror.append(news(there, mirror))
    assert run.events.read_bytes() == b'{"kind":"step"}\n{"kind":"a"}\n'
    with node.events.open("ab") as file:
        file.write(b'"}\n')
    mirror = Mirror(run, base)  # the app was started again
    mirror.append(news(there, mirror))
    assert run.events.read_bytes() == b'{"kind":"step"}\n{"kind":"a"}\n{"kind":"b"}\n'


def test_folders_change_places_complete(node: RunPaths, run: RunPaths) -> None:
    there, mirror = NodeRun(str(node.root)), Mirror(run, sizes(run))
    checkpoint(node, 1)
    found = news(there, mirror)
    checkpoint(node, 2)  # while the first is on its way
    (node.checkpoint / "step-1.safetensors").unlink()
    mirror.fetch(found["items"], there.read, seconds=0)  # no time for a single piece
    assert not run.checkpoint.exists()
    mirror.fetch(found["items"], there.read, seconds=9)
    assert read_json(run.checkpoint / "state.json") == {"step": 1}
    assert (run.checkpoint / "step-1.safetensors").read_bytes() == b"\x01" * 1000
    mirror.fetch(news(there, mirror)["items"], there.read, seconds=9)
    mirror.fetch(news(there, mirror)["items"], there.read, seconds=9)
    assert sorted(path.name for path in run.checkpoint.iterdir()) == ["state.json", "step-2.safetensors"]
    assert not [path.name for path in run.root.iterdir() if path.name.startswith(".")]


def test_an_exchange_that_was_cut_short(run: RunPaths) -> None:
    checkpoint(run, 3)
    run.checkpoint.rename(run.root / ".checkpoint.old")
    Mirror(run, sizes(run))
    assert read_json(run.checkpoint / "state.json") == {"step": 3}


def test_what_is_final(node: RunPaths, run: RunPaths) -> None:
    there, mirror = NodeRun(str(node.root)), Mirror(run, sizes(run))
    node.predictions.write_text("{}\n")
    node.exit.write_text('{"code": 0}')
    (node.root / ".ended").touch()
    found = news(there, mirror)
    assert not found["final"]
    mirror.fetch(found["items"], there.read, seconds=9)
    found = news(there, mirror)
    assert found["final"]
    mirror.finish(found["exit"])
    assert read_json(run.exit) == {"code": 0} and run.predictions.read_text() == "{}\n"


def test_names_of_a_node_lead_nowhere_else(run: RunPaths) -> None:
    mirror = Mirror(run, sizes(run))
    before = sorted(run.root.parent.iterdir())
    item = {"stamp": "s", "files": {"../../x": 1, "/etc/x": 1}, "is_folder": True}
    mirror.fetch({"..": item, "adapter": item}, lambda *_: b"x", seconds=9)
    assert sorted(run.root.parent.iterdir()) == before and list(run.adapter.iterdir()) == []


def test_what_is_sent(home: Path, tiny_model: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("a,b\n1,2\n")
    values = make_config().model_dump(mode="json")
    values["task"] = {"id": "custom", "train_file": str(rows)}
    values |= {"model": {"id": str(tiny_model)}, "resources": {"cpus": 0.5, "device": "cpu"}}
    run = RunStore(home / "runs").create(parse_config(values))
    checkpoint(run, 4)
    text, files, model = pack(run, "/tmp/there")
    sent = parse_config(json.loads(text)["config"])
    assert sent.task.train_file == "/tmp/there/.data/train_file/rows.csv" and sent.resources.cpus is None
    assert sent.resources.device == "cpu"
    assert files == {
        ".data/train_file/rows.csv": rows,
        "checkpoint/state.json": run.checkpoint / "state.json",
        "checkpoint/step-4.safetensors": run.checkpoint / "step-4.safetensors",
    }
    assert model == str(tiny_model)
    refusal = NodeRun(str(tmp_path)).begin("fake_worker", 1, str(tmp_path / "nowhere"), sizes(run))
    assert "nowhere" in refusal and "does not exist on the Ray node" in refusal


def test_a_copy_stays_whole_when_the_worker_replaces_the_file(node: RunPaths) -> None:
    outbox = Outbox(node)
    node.predictions.write_text("old")
    items, complete = outbox.look({})
    stamp = items["predictions.jsonl"]["stamp"]
    assert not complete
    draft = node.root / ".draft"
    draft.write_text("newer")
    draft.replace(node.predictions)
    items, _ = outbox.look({})
    assert items["predictions.jsonl"]["stamp"] == stamp
    assert outbox.read("predictions.jsonl", stamp, "predictions.jsonl", 0, 99) == b"old"
    items, complete = outbox.look({"predictions.jsonl": stamp})
    assert items["predictions.jsonl"]["stamp"] != stamp and not complete
    assert outbox.look({"predictions.jsonl": items["predictions.jsonl"]["stamp"]})[1]
