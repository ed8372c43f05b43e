"""What travels between a Ray node and a run's folder: nothing is lost, doubled or seen half. Needs no cluster."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from job_kit import make_config, wait_for

from peft_studio.config.run_config import parse_config
from peft_studio.errors import ModelError
from peft_studio.files import read_json
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.store import RunStore

pytest.importorskip("ray")
from peft_studio.jobs.executors.ray import node as node_module
from peft_studio.jobs.executors.ray.mirror import Mirror, pack
from peft_studio.jobs.executors.ray.node import NodeRun


@pytest.fixture
def there(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeRun]:
    """A run on a node, whose object store is a list of bytes; ``home`` has it find ``fake_worker``."""
    store: list[bytes] = []
    context = SimpleNamespace(get_node_id=lambda: "n1")
    fake = {"put": lambda data: store.append(data) or len(store) - 1, "get": store.__getitem__}
    monkeypatch.setattr(node_module, "ray", SimpleNamespace(**fake, get_runtime_context=lambda: context))
    found = NodeRun(str(tmp_path / "node"), "r1")
    yield found
    assert found._guard.stdin is not None
    found._guard.stdin.close()


@pytest.fixture
def get() -> Callable[[Any], bytes]:
    """Gets bytes from the store of ``there``."""
    return lambda ref: node_module.ray.get(ref)


@pytest.fixture
def run(home: Path) -> RunPaths:
    """The same run in the app."""
    return RunStore(home / "runs").create(make_config())


def look(there: NodeRun, mirror: Mirror) -> Any:
    return there.news(mirror.sizes(), mirror.fetched, {}, None)


def running(there: NodeRun) -> None:
    """Has the node's supervisor seem to run."""
    there._has_ended = lambda: False  # type: ignore[method-assign]


def checkpoint(paths: RunPaths, step: int) -> None:
    paths.checkpoint.mkdir(exist_ok=True)
    (paths.checkpoint / f"step-{step}.safetensors").write_bytes(bytes([step]) * 1000)
    draft = paths.checkpoint / ".state.json"
    draft.write_text(json.dumps({"step": step}))
    draft.replace(paths.checkpoint / "state.json")


def test_growing_files_continue_where_the_copy_ends(there: NodeRun, run: RunPaths) -> None:
    run.events.write_bytes(b'{"kind":"step"}\n')  # of an earlier attempt, which is sent
    there.paths.events.write_bytes(b'{"kind":"step"}\n{"kind":"a"}\n{"kind":"b')
    running(there)
    mirror = Mirror(run)
    mirror.append(look(there, mirror).grown)
    mirror.append(look(there, mirror).grown)
    assert run.events.read_bytes() == b'{"kind":"step"}\n{"kind":"a"}\n'
    with there.paths.events.open("ab") as file:
        file.write(b'"}\n')
    mirror = Mirror(run)  # the app was started again
    mirror.append(look(there, mirror).grown)
    assert run.events.read_bytes() == b'{"kind":"step"}\n{"kind":"a"}\n{"kind":"b"}\n'


def test_half_a_line_arrives_when_nothing_can_follow(there: NodeRun, run: RunPaths) -> None:
    there.paths.events.write_bytes(b'{"kind":"a"}\n{"ki')
    mirror = Mirror(run)
    mirror.append(look(there, mirror).grown)
    assert run.events.read_bytes() == b'{"kind":"a"}\n{"ki'


def test_folders_change_places_complete(there: NodeRun, run: RunPaths, get: Callable[[Any], bytes]) -> None:
    mirror = Mirror(run)
    checkpoint(there.paths, 1)
    found = look(there, mirror)
    checkpoint(there.paths, 2)  # while the first is on its way
    (there.paths.checkpoint / "step-1.safetensors").unlink()
    assert not run.checkpoint.exists()
    assert look(there, mirror).items == found.items  # it stays on offer until it was fetched
    mirror.fetch(found.items, get)
    assert read_json(run.checkpoint / "state.json") == {"step": 1}
    assert (run.checkpoint / "step-1.safetensors").read_bytes() == b"\x01" * 1000
    mirror.fetch(look(there, mirror).items, get)
    assert sorted(path.name for path in run.checkpoint.iterdir()) == ["state.json", "step-2.safetensors"]
    assert not [path.name for path in run.root.iterdir() if path.name.startswith(".")]
    assert look(there, mirror).items == {}  # the store need not keep what was fetched
    mirror = Mirror(run)  # the app was started again
    assert "checkpoint" in look(there, mirror).items


def test_what_changes_while_it_is_read_is_not_offered(there: NodeRun, run: RunPaths) -> None:
    mirror = Mirror(run)
    checkpoint(there.paths, 1)
    put = node_module.ray.put
    node_module.ray.put = lambda data: (checkpoint(there.paths, 2), put(data))[1]
    assert look(there, mirror).items == {}
    node_module.ray.put = put
    assert set(look(there, mirror).items["checkpoint"][1]) == {
        "state.json", "step-1.safetensors", "step-2.safetensors"
    }  # fmt: skip


def test_a_disk_that_is_full_leaves_what_was_there(there: NodeRun, run: RunPaths, get: Callable[[Any], bytes]) -> None:
    mirror = Mirror(run)
    checkpoint(there.paths, 1)
    mirror.fetch(look(there, mirror).items, get)
    checkpoint(there.paths, 2)
    items = look(there, mirror).items

    def full(_ref: Any) -> bytes:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        mirror.fetch(items, full)
    assert read_json(run.checkpoint / "state.json") == {"step": 1}
    mirror.fetch(items, get)
    assert read_json(run.checkpoint / "state.json") == {"step": 2}
    assert not [path.name for path in run.root.iterdir() if path.name.startswith(".")]


def test_an_exchange_that_was_cut_short(run: RunPaths) -> None:
    checkpoint(run, 3)
    run.checkpoint.rename(run.root / ".checkpoint.old")
    Mirror(run)
    assert read_json(run.checkpoint / "state.json") == {"step": 3}


def test_what_is_final(there: NodeRun, run: RunPaths, get: Callable[[Any], bytes]) -> None:
    mirror = Mirror(run)
    there.paths.predictions.write_text("{}\n")
    there.paths.adapter.mkdir()  # an empty folder is one, too
    there.paths.exit.write_text('{"code": 0}')
    found = look(there, mirror)
    assert found.ended and not found.final
    mirror.fetch(found.items, get)
    found = look(there, mirror)
    assert found.final and found.exit == {"code": 0} and found.claim is None
    assert run.predictions.read_text() == "{}\n" and run.adapter.is_dir()


def test_names_of_a_node_lead_nowhere_else(run: RunPaths) -> None:
    before = sorted(run.root.parent.iterdir())
    item: Any = ({}, {"../../x": 1, "/etc/x": 1})
    Mirror(run).fetch({"..": item, "adapter": item}, lambda _ref: b"x")
    assert sorted(run.root.parent.iterdir()) == before and list(run.adapter.iterdir()) == []


def test_what_is_sent(there: NodeRun, home: Path, tiny_model: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("a,b\n1,2\n")
    values = make_config().model_dump(mode="json")
    values["task"] = {"id": "custom", "train_file": str(rows)}
    values |= {"model": {"id": str(tiny_model)}, "resources": {"cpus": 0.5, "device": "cpu"}}
    run = RunStore(home / "runs").create(parse_config(values))
    checkpoint(run, 4)
    run.events.touch()
    files, model = pack(run)
    text = files.pop("config.json")
    assert isinstance(text, bytes)
    task = json.loads(text)["config"]["task"]
    assert task["train_file"] == ".data/train_file/rows.csv"  # below the folder in which the worker runs
    sent = parse_config(json.loads(text)["config"])
    assert sent.resources.cpus is None and sent.resources.device == "cpu"
    assert files == {
        ".data/train_file/rows.csv": rows,
        "checkpoint/state.json": run.checkpoint / "state.json",
        "checkpoint/step-4.safetensors": run.checkpoint / "step-4.safetensors",
        "events.jsonl": run.events,
    }
    assert model == str(tiny_model)
    with pytest.raises(ModelError, match=r"nowhere does not exist on the Ray node"):
        there.begin("fake_worker", 1, str(tmp_path / "nowhere"), {})


def test_nothing_is_left_when_the_actor_has_gone(there: NodeRun, run: RunPaths) -> None:
    """However it went: the guard sees the end of a pipe. The worker is one that nobody asked to end."""
    files, _ = pack(run)
    text = json.loads(files["config.json"])
    text["name"] = json.dumps({"sleep": 0.01})
    text["config"]["training"]["max_steps"] = 100_000
    sent = {"config.json": json.dumps(text).encode(), "checkpoint/state.json": b"{}"}
    there.begin("fake_worker", 1, "", {name: node_module.ray.put(data) for name, data in sent.items()})
    assert "checkpoint" not in look(there, Mirror(run)).items  # what was sent and is as it was need not come back
    wait_for(lambda: there.paths.events.exists() and b'"step"' in there.paths.events.read_bytes())
    supervisor = there._supervisor
    assert supervisor is not None and not there._has_ended()
    there._guard.stdin.close()  # type: ignore[union-attr]
    wait_for(lambda: there._has_ended() and not there.paths.root.parent.exists())
    assert supervisor.wait() == -9
    assert there.paths.root.parent.parent.is_dir()  # with what is kept for other runs
