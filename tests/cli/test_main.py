"""The command line as a user meets it: in its own process, with its exit codes and its JSON."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from peft_studio.cli.main import main
from peft_studio.config.presets import parse_preset
from peft_studio.runs.store import RunStore

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ask(lora_run: Any, capsys: Any) -> Any:
    """Runs a command in this process, in the run's home; returns what ``--json`` printed last."""

    def run(*argv: str) -> Any:
        assert main([*argv, "--json"], {"PEFT_STUDIO_HOME": str(lora_run.home)}) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


def test_train_prints_one_object(lora_run: Any) -> None:
    result = lora_run.result
    assert {"run_id", "run_dir", "status", "trainable_params", "total_params", "metrics"} <= set(result)
    assert result["status"] == "finished"
    assert Path(result["run_dir"]) == lora_run.folder
    assert (lora_run.folder / "adapter" / "adapter_model.safetensors").is_file()
    assert {"eval/loss", "base/eval/loss", "test/bleu", "base/test/bleu"} <= set(result["metrics"])


def test_estimate_agrees_with_the_run(lora_run: Any, ask: Any) -> None:
    found = ask("estimate", str(lora_run.preset))
    assert found["trainable_params"] == lora_run.result["trainable_params"]
    assert found["total_params"] == lora_run.result["total_params"]
    assert found["adapter_bytes"] == lora_run.result["adapter_bytes"]


def test_metrics_hold_every_step(lora_run: Any, ask: Any) -> None:
    values = ask("metrics", lora_run.id)
    losses = [item for item in values if item["name"] == "train/loss"]
    assert [item["step"] for item in losses] == [1, 2, 3, 4]
    assert [item["step"] for item in values if item["name"] == "eval/loss"] == [2, 4]


def test_same_seed_gives_the_same_losses(lora_run: Any, ask: Any, train: Any) -> None:
    again = train(lora_run.home, lora_run.preset)
    series = [ask("metrics", run) for run in (lora_run.id, again.id)]
    assert series[0] == series[1]
    assert again.result["metrics"] == lora_run.result["metrics"]


def test_runs_lists_the_run(lora_run: Any, ask: Any, studio: Any) -> None:
    assert lora_run.id in [run["id"] for run in ask("runs")]
    assert lora_run.id in studio("--home", str(lora_run.home), "runs").stdout


def test_generate_puts_the_base_first(lora_run: Any, ask: Any) -> None:
    argv = ("generate", "--run", lora_run.id, "--prompt", "food: Thai =>", "--max-new-tokens", "5")
    columns = ask(*argv)["columns"]
    assert [column["name"] for column in columns] == ["base", lora_run.id]
    assert all(isinstance(column["text"], str) and column["done"] for column in columns)


@pytest.mark.parametrize("what", ["methods", "models", "tasks", "data"])
def test_lists_need_no_heavy_library(what: str) -> None:
    code = (
        "import sys\nfrom peft_studio.cli.main import main\n"
        f"assert main([{what!r}, '--json'], {{}}) == 0\n"
        "print(sorted({'torch', 'transformers', 'peft', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    listed, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    assert all({"title"} <= set(item) for item in json.loads(listed))


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("train", "bistro-lorra"), "Did you mean 'bistro-lora'"),
        (("train", "missing.yaml"), "no preset file"),
        (("train", "bistro-lora", "--set", "method.rnak=4"), "Did you mean 'rank'"),
        (("train", "bistro-lora", "--set", "training.learning_rate=.inf"), "training.learning_rate"),
        (("train", "bistro-lora", "--set", "rank"), "section.key=value"),
        (("estimate", "bistro-lora", "--set", "method.name=lorra"), "Did you mean 'lora'"),
        (("generate", "--prompt", "  "), "prompt is empty"),
        (("generate", "--prompt", "x", "--temperature", "-1"), "sampling.temperature = -1.0"),
        (("generate", "--prompt", "x", "--run", "nope"), "no run 'nope'"),
        (("data", "fetch"), "Which data set?"),
        (("metrics", "nope"), "no run 'nope'"),
        (("export", "../x"), "no run '../x'"),
        (("stop", "nope"), "no run 'nope'"),
        (("delete", "nope"), "no run 'nope'"),
    ],
)
def test_errors_are_one_line_and_code_2(home: Path, argv: tuple[str, ...], expected: str, capsys: Any) -> None:
    assert main(list(argv), {"PEFT_STUDIO_HOME": str(home)}) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and expected in captured.err
    assert captured.out == ""
    assert not list((home / "runs").iterdir())


@pytest.mark.parametrize(
    "argv", [("models", "--search", "smol"), ("data", "--search", "news"), ("data", "fetch", "GEM/dart")]
)
def test_without_the_hub_its_commands_say_so(home: Path, argv: tuple[str, ...], monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(list(argv), {"PEFT_STUDIO_HOME": str(home)}) == 2
    *_progress, last = capsys.readouterr().err.splitlines()
    assert last == "error: The Hub cannot be reached from here; embedded models and local folders work."


def test_found_models_and_data_sets_are_listed(monkeypatch: Any, capsys: Any) -> None:
    from peft_studio.models import hub
    from peft_studio.models.catalog import HUB_CARDS

    hit = hub.DatasetHit("a/b", "A B", "mit", ("summarization",), 7)
    monkeypatch.setattr(hub, "search_models", lambda words: list(HUB_CARDS[:1]) if words == "smol" else [])
    monkeypatch.setattr(hub, "search_datasets", lambda words: [hit] if words == "news" else [])
    for command, words, name in (("models", "smol", HUB_CARDS[0].id), ("data", "news", "a/b")):
        assert main([command, "--search", words, "--json"], {}) == 0
        (found,) = json.loads(capsys.readouterr().out)
        assert found["id"] == name and "path" not in found
        assert main([command, "--search", words], {}) == 0
        assert name in capsys.readouterr().out
        assert main([command, "--search", "nothing", "--json"], {}) == 0
        assert json.loads(capsys.readouterr().out) == []


def test_a_fetched_data_set_is_ready_for_a_preset(home: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    import datasets
    import yaml

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"question": f"What is {at} and {at}?", "reply": f"It is {at + at}."} for at in range(30)]
    (tmp_path / "sums").mkdir()
    (tmp_path / "sums" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv, env = ["data", "fetch", str(tmp_path / "sums")], {"PEFT_STUDIO_HOME": str(home)}
    assert main([*argv, "--json"], env) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert Path(result["files"]["train"]).parent.parent == home / "datasets"
    task = result["task"]
    assert (task["input_column"], task["target_column"], task["kind"]) == ("question", "reply", "generation")
    sets = [f"task.{name}={json.dumps(value)}" for name, value in task.items()]
    assert parse_preset("bistro-lora", sets).task.train_file == result["files"]["train"]
    assert main([*argv, "--target", "question", "--input", "reply"], env) == 0
    section = capsys.readouterr().out.split("In a preset:\n")[1]
    assert yaml.safe_load(section)["task"]["target_column"] == "question"


def test_a_directory_that_is_no_model_is_refused_in_words(home: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "empty").mkdir()
    argv = ["train", "bistro-lora", "--set", f"model.id={tmp_path / 'empty'}"]
    assert main(argv, {"PEFT_STUDIO_HOME": str(home)}) == 2
    assert "empty" in capsys.readouterr().err
    assert not list((home / "runs").iterdir())


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path, studio: Any) -> None:
    (tmp_path / "file").write_text("")
    done = studio("train", "bistro-lora", home=tmp_path / "file" / "home")
    assert done.returncode == 2 and "cannot be written" in done.stderr


def test_ctrl_c_stops_and_saves(tiny_model: Path, tmp_path: Path, lora_run: Any) -> None:
    argv = ["train", str(lora_run.preset), "--set", "training.max_steps=5000", "--set", "training.eval_every=5000"]
    environment = {**os.environ, "PEFT_STUDIO_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "peft_studio", *argv, "--json"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test run in the background ignores it
    ) as process:
        end = time.monotonic() + 90
        while not any('"step"' in log.read_text() for log in tmp_path.glob("runs/*/events.jsonl")):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    result = json.loads(output.splitlines()[-1])
    assert result["status"] == "stopped" and process.returncode == 0
    assert (Path(result["run_dir"]) / "adapter" / "adapter_model.safetensors").is_file()


def test_stop_and_delete(home: Path, tiny_model: Path, capsys: Any) -> None:
    config = parse_preset("bistro-lora", [f"model.id={tiny_model}"])
    run = RunStore(home / "runs").create(config).id
    env = {"PEFT_STUDIO_HOME": str(home)}
    assert main(["stop", run, "--json"], env) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "stopped"
    assert main(["delete", run, "--json"], env) == 0
    assert not (home / "runs" / run).exists()


@pytest.mark.parametrize(
    "argv", [("methods",), ("methods", "--json"), ("tasks",), ("models",), ("data",), ("runs",), ("doctor", "å-ran")]
)
def test_a_terminal_that_knows_ascii_only(argv: tuple[str, ...], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    status = main(argv, {"PEFT_STUDIO_HOME": str(home)})
    told = {}
    for name, stream in streams.items():
        stream.flush()
        told[name] = stream.buffer.getvalue().decode("ascii")
    assert status == (2 if argv[0] == "doctor" else 0), told
    if argv == ("methods",):
        assert "(IA)3" in told["stdout"]
    if "--json" in argv:
        assert "(IA)³" in [method["title"] for method in json.loads(told["stdout"])]


@pytest.mark.parametrize(
    "argv",
    [
        ("train", "bistro-lora", "--set", f"training.max_steps={'9' * 5000}"),
        ("train", "bistro-lora", "--set", "training.learning_rate=.nan"),
        ("train", "bistro-lora", "--set", "training.learning_rate=1e999"),
        ("train", "bistro-lora", "--set", "task.id=[]"),
        ("import-run", "9" * 5000),
        ("queue", "move", "none", "--to", "9" * 5000),
        ("--home", "a\0b", "runs"),
    ],
)
def test_odd_values_have_words(argv: tuple[str, ...], home: Path, capsys: Any) -> None:
    assert main(argv, {"PEFT_STUDIO_HOME": str(home)}) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and len(told) > 30 and "Traceback" not in told and "Errno" not in told


def test_queue(home: Path, tiny_model: Path, capsys: Any) -> None:
    small = [f"training.{name}=2" for name in ("max_steps", "batch_size", "eval_rows", "early_stopping")]
    config = parse_preset("bistro-lora", [f"model.id={tiny_model}", *small])
    first, second = (RunStore(home / "runs").create(config).id for _ in range(2))

    def ask(*argv: str) -> Any:
        assert main([*argv, "--json"], {"PEFT_STUDIO_HOME": str(home)}) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    def refused(*argv: str) -> str:
        assert main(argv, {"PEFT_STUDIO_HOME": str(home)}) == 2
        return str(capsys.readouterr().err)

    assert [run["id"] for run in ask("queue")["queue"]] == [first, second]
    assert [run["id"] for run in ask("queue", "move", second, "--to", "front")["queue"]] == [second, first]
    assert [run["id"] for run in ask("queue", "move", second, "--to", "2")["queue"]] == [first, second]
    assert ask("queue", "hold", first)["queue"][1] == {
        "id": first, "queue_position": None, "priority": "normal", "held": True, "reason": "on hold",
    }  # fmt: skip
    assert not ask("queue", "release", first)["queue"][1]["held"]
    listed = ask("queue", "priority", second, "high")["queue"]
    assert [(run["id"], run["priority"]) for run in listed] == [(second, "high"), (first, "normal")]
    assert ask("queue", "pause")["paused"] and not ask("queue", "start")["paused"]
    assert "allowed: front, up, down, 1 to 2" in refused("queue", "move", first, "--to", "9")
    assert "Hold it instead" in refused("pause", first)
    assert "it is queued" in refused("extend", first, "5")
    assert ask("stop", first)["status"] == "stopped"
    done = ask("resume", first)  # no app is there to train it
    assert (done["status"], done["saved_step"], done["best_step"]) == ("finished", 2, 2)
    assert done["best_eval_loss"] == done["metrics"]["eval/loss"]
    assert ask("extend", first, "1")["metrics"]["eval/loss"] <= done["best_eval_loss"]
    assert main(["metrics", first], {"PEFT_STUDIO_HOME": str(home)}) == 0
    told = capsys.readouterr().out
    assert "tokenizer 13a" in told and told.count("  best") == 1
    assert "no run 'nope'" in refused("resume", "nope")
