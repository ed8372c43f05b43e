"""The engine as its own process: answers, streams, errors, early closing, and its end."""

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent
PARENT = "import subprocess, sys\nprint(subprocess.Popen(sys.argv[1:]).pid, flush=True)\nsys.stdin.read()"


class Client:
    """Asks an engine."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, request: Any) -> Iterator[dict[str, Any]]:
        """The lines of an answer as they come."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(60)
            connection.connect(str(self.path))
            connection.sendall((request if isinstance(request, str) else json.dumps(request)).encode() + b"\n")
            with connection.makefile("rb") as file:
                for line in file:
                    yield json.loads(line)

    def ask(self, request: Any) -> dict[str, Any]:
        """The last line of an answer."""
        *_, last = self.lines(request)
        return last


@pytest.fixture(scope="module")
def engine(lora_run: Any) -> Iterator[tuple[Client, int, subprocess.Popen]]:
    """A client, the engine's process id, and the engine's parent."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "engine"
        command = [sys.executable, "-m", "peft_studio.engine", "--socket", str(path), "--home", str(lora_run.home)]
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, *command],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert parent.stdin and parent.stdout
        pid = int(parent.stdout.readline())
        end = time.monotonic() + 60
        while not path.exists():
            assert time.monotonic() < end and psutil.pid_exists(pid)
            time.sleep(0.05)
        yield Client(path), pid, parent
        parent.stdin.close()
        parent.wait(10)
        parent.stdout.close()


def generation(run: Any, **changes: Any) -> dict[str, Any]:
    """A request for text."""
    sampling = {"max_new_tokens": 8} | changes.pop("sampling", {})
    request = {"op": "generate", "runs": [run.id], "prompt": "food: Thai =>", "sampling": sampling}
    return request | changes


def test_preview_shows_tokens(engine: Any, tiny_model: Path) -> None:
    config = {"model": {"id": str(tiny_model)}, "method": {"name": "lora"}, "training": {"max_length": 512}}
    found = engine[0].ask({"op": "preview", "config": config})
    assert len(found["rows"]) == 5 and found["splits"]["train"]["cut"] == 0
    wrong = engine[0].ask({"op": "preview", "config": {**config, "task": {"id": "custom", "train_file": "/no.csv"}}})
    assert wrong["error"]["type"] == "DataError"


def test_ping(engine: Any) -> None:
    client, pid, _ = engine
    assert client.ask({"op": "ping"}) == {"ok": True, "pid": pid}


def test_estimate_agrees_with_the_run(engine: Any, lora_run: Any) -> None:
    client, _, _ = engine
    config = json.loads((lora_run.folder / "config.json").read_text())["config"]
    found = client.ask({"op": "estimate", "config": config})
    assert found["trainable_params"] == lora_run.result["trainable_params"]
    assert found["adapter_bytes"] == lora_run.result["adapter_bytes"]


def test_text_streams_base_first(engine: Any, lora_run: Any) -> None:
    client, _, _ = engine
    states = [line["columns"] for line in client.lines(generation(lora_run, sampling={"max_new_tokens": 60}))]
    assert [column["name"] for column in states[-1]] == ["base", lora_run.id]
    assert all(column["done"] for column in states[-1])
    for earlier, later in itertools.pairwise(states):
        assert all(b["text"].startswith(a["text"]) for a, b in zip(earlier, later, strict=True))


def test_text_is_the_same_for_a_seed_with_other_columns_beside_it(engine: Any, lora_run: Any) -> None:
    client, _, _ = engine
    sampling = {"max_new_tokens": 20, "temperature": 1.0, "seed": 4}
    both = client.ask(generation(lora_run, sampling=sampling))["columns"]
    again = client.ask(generation(lora_run, sampling=sampling))["columns"]
    assert [column["text"] for column in both] == [column["text"] for column in again]


def test_estimates_are_quick_while_text_streams(engine: Any, lora_run: Any) -> None:
    client, _, _ = engine
    config = {"method": {"name": "lora", "rank": 4}, "training": {}}
    client.ask({"op": "estimate", "config": config})
    stream = client.lines(generation(lora_run, sampling={"max_new_tokens": 400, "temperature": 2.0}))
    next(stream)
    begun = time.perf_counter()
    found = client.ask({"op": "estimate", "config": config | {"method": {"name": "lora", "rank": 5}}})
    seconds = time.perf_counter() - begun
    stream.close()
    assert found["trainable_params"] > 0
    assert seconds < 3  # 0.15 on an idle machine; see bench


def test_closing_early_stops_the_work(engine: Any, lora_run: Any) -> None:
    client, pid, _ = engine
    before = len(psutil.Process(pid).threads())
    stream = client.lines(generation(lora_run, sampling={"max_new_tokens": 450, "temperature": 2.0}))
    next(stream)
    stream.close()
    end = time.monotonic() + 5
    while len(psutil.Process(pid).threads()) > before + 1:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("request_", "kind", "words"),
    [
        ({"op": "dance"}, "EngineError", "no operation 'dance'"),
        ("[1, 2]", "EngineError", "no operation"),
        ("{", "EngineError", "not a JSON line"),
        ({"op": "estimate", "config": {"method": {"name": "lorra"}}}, "ConfigError", "Did you mean 'lora'"),
        ({"op": "estimate", "config": None}, "ConfigError", "mapping"),
        ({"op": "generate", "runs": ["nope"], "prompt": "x"}, "RunNotFoundError", "no run 'nope'"),
        ({"op": "generate", "runs": ["../x"], "prompt": "x"}, "RunNotFoundError", "no run"),
        ({"op": "generate", "model": "no-such", "prompt": "x"}, "ModelError", "no-such"),
        ({"op": "generate", "model": "nano-lm", "prompt": " "}, "ConfigError", "empty"),
        ({"op": "generate", "prompt": "x", "sampling": {"top_p": 2.0}}, "ConfigError", "sampling.top_p = 2.0"),
    ],
)
def test_errors_come_as_json(engine: Any, request_: Any, kind: str, words: str) -> None:
    client, _, _ = engine
    error = client.ask(request_)["error"]
    assert error["type"] == kind and words in error["message"]


def test_a_model_that_is_not_whole_is_refused_by_every_operation(
    engine: Any, tiny_model: Path, tmp_path: Path
) -> None:
    client, _, _ = engine
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    config = {"model": {"id": str(folder)}, "method": {"name": "lora"}, "training": {}}
    assert client.ask({"op": "check", "config": config}) == {"ok": True}
    weights = load_file(folder / "model.safetensors")
    save_file({f"module.{name}": part for name, part in weights.items()}, folder / "model.safetensors")
    requests = [{"op": name, "config": config} for name in ("check", "estimate", "preview")]
    for request in (*requests, {"op": "generate", "model": str(folder), "prompt": "x"}):
        error = client.ask(request)["error"]
        assert error["type"] == "ModelError" and "names begin with 'module.'" in error["message"]


def test_runs_of_another_base_model_are_refused(engine: Any, lora_run: Any) -> None:
    client, _, _ = engine
    error = client.ask(generation(lora_run, model="nano-lm"))["error"]
    assert error["type"] == "ConfigError" and "trained on" in error["message"]


def test_a_run_that_appears_later_is_found(engine: Any, lora_run: Any, train: Any) -> None:
    client, _, _ = engine
    later = train(lora_run.home, lora_run.preset)
    columns = client.ask(generation(later, runs=[later.id, lora_run.id]))["columns"]
    assert [column["name"] for column in columns] == ["base", later.id, lora_run.id]
    assert columns[1]["text"] == columns[2]["text"]


def test_ends_when_its_parent_has_gone(engine: Any) -> None:
    _, pid, parent = engine
    process = psutil.Process(pid)
    parent.kill()
    parent.wait()
    os.sched_yield()
    assert process.wait(20) is not None or not process.is_running()


def test_ends_when_the_app_went_before_it_was_up(home: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with tempfile.TemporaryDirectory() as folder:
        command = ["--socket", f"{folder}/engine", "--home", str(home), "--app", str(gone.pid)]
        ended = subprocess.run(
            [sys.executable, "-m", "peft_studio.engine", *command], cwd=ROOT, timeout=90, check=False
        )
    assert ended.returncode == 0
