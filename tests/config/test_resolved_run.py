"""What a config names is looked up once, and read when it is first asked for."""

import json
from pathlib import Path
from typing import Any

import pytest

from peft_studio.config import resolved_run
from peft_studio.config.resolved_run import ResolvedRun, resolve
from peft_studio.config.run_config import parse_config
from peft_studio.errors import ConfigError, ModelError
from peft_studio.methods import METHODS
from peft_studio.models.catalog import MODELS
from peft_studio.tasks import TASKS


def run_on(model: str | Path, task: dict[str, Any] | None = None) -> ResolvedRun:
    data = {"model": {"id": str(model)}, "task": task or {"id": "bistro"}, "method": {"name": "ia3"}}
    return resolve(parse_config(data))


def test_names_become_entries() -> None:
    run = run_on("nano-lm")
    assert (run.method, run.task, run.card) == (METHODS["ia3"], TASKS["bistro"], MODELS["nano-lm"])
    assert run.layout is not None and (run.layout.model_type, run.layout.purpose) == ("llama", "generation")
    assert run.source == str(MODELS["nano-lm"].path) and run.model_settings["model_type"] == "llama"


def test_files_are_read_when_the_task_is_first_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = resolved_run.task_of
    monkeypatch.setattr(resolved_run, "task_of", lambda source: (calls.append(source), real(source))[1])
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"input": f"a {n}", "target": f"b {n}"}) + "\n" for n in range(30)))
    run = run_on("nano-lm", {"id": "custom", "kind": "generation", "train_file": str(file)})
    assert not calls
    assert run.task is run.task and run.layout is run.layout and len(calls) == 1


def test_a_model_that_is_not_here_has_no_layout_unless_the_catalogue_knows_it(tmp_path: Path) -> None:
    unknown = run_on("someone/model")
    assert unknown.layout is None and unknown.card is None and unknown.model_settings == {}
    assert unknown.layout_of_type("qwen3").model_type == "qwen3"
    known = run_on("openai-community/gpt2")
    assert known.layout is not None and known.layout.model_type == "gpt2"
    with pytest.raises(ModelError, match="no folder"):
        assert run_on(tmp_path / "nothing").layout


def test_a_folder_tells_its_type_without_torch(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert run_on(tmp_path, {"id": "reviews"}).layout.kind == "encoder"  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="cannot write text"):
        assert run_on(tmp_path).layout
    for text in ("[]", "{", ""):
        (tmp_path / "config.json").write_text(text)
        assert run_on(tmp_path).layout is None
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(ModelError, match="not supported"):
        assert run_on(tmp_path).layout


def test_few_rows_are_among_more_and_only_those_of_training_are_fewer() -> None:
    def rows(count: int) -> list[str]:
        return [row.prompt for row in run_on("nano-lm", {"id": "bistro", "train_rows": count}).task.load("train")]

    every = rows(0)
    ten, thirty = rows(10), rows(30)
    assert len(ten) == 10 and ten == thirty[:10] and set(thirty) < set(every)
    assert ten != every[:10]  # mixed, as a file may be sorted
    assert rows(10**6) == every
    few = run_on("nano-lm", {"id": "bistro", "train_rows": 10})
    assert list(few.whole_task.load("train")) == list(TASKS["bistro"].load("train"))
    for split in ("validation", "test"):
        assert few.task.load(split) == TASKS["bistro"].load(split)
    assert few.task.title == TASKS["bistro"].title


@pytest.mark.parametrize("count", [-1, 2.5, "10", 10**8])
def test_a_number_of_rows_is_one(count: object) -> None:
    with pytest.raises(ConfigError, match="train_rows"):
        run_on("nano-lm", {"id": "bistro", "train_rows": count})


def test_few_rows_of_an_own_file(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"input": f"a {n}", "target": f"b {n}"}) + "\n" for n in range(300)))
    task = {"id": "custom", "kind": "generation", "train_file": str(file), "train_rows": 7}
    assert len(run_on("nano-lm", task).task.load("train")) == 7
