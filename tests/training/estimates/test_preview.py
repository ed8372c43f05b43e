"""What would be read: tokens that join to the row, cuts where training cuts, counts, labels, skipped rows."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peft_studio.config.resolved_run import ResolvedRun, resolve
from peft_studio.config.run_config import parse_config
from peft_studio.errors import ConfigError, ModelError
from peft_studio.models.layouts import layout_for
from peft_studio.runs.store import RunStore
from peft_studio.tasks import get_task
from peft_studio.tasks.base import Row
from peft_studio.training import trainer
from peft_studio.training.estimates import preview as module
from peft_studio.training.estimates.preview import encode_ahead, preview
from peft_studio.training.formats import token_cache
from peft_studio.training.formats.formats import Labelling, SourceTarget, format_for
from peft_studio.training.load import load_tokenizer


def run_of(
    model: Path | str, task: str | dict[str, Any] = "bistro", method: str = "lora", **training: Any
) -> ResolvedRun:
    held = {"id": task} if isinstance(task, str) else task
    data = {"model": {"id": str(model)}, "task": held, "method": {"name": method}, "training": training}
    return resolve(parse_config(data))


def texts(row: dict[str, Any], *parts: str) -> str:
    return "".join(segment["text"] for segment in row["segments"] if segment["part"] in parts)


@pytest.fixture(scope="module")
def seen(tiny_model: Path) -> dict[str, Any]:
    return preview(run_of(tiny_model, max_length=512))


def test_tokens_join_to_the_row(seen: dict[str, Any]) -> None:
    for row, shown in zip(get_task("bistro").load("train"), seen["rows"], strict=False):
        assert texts(shown, "prompt") == row.prompt
        assert texts(shown, "target") == f"{row.target}<eos>"
        assert not shown["dropped"] and not shown["more"] and shown["tokens"]["cut"] == 0
    assert len(seen["rows"]) == 5


def test_counts_and_lengths(seen: dict[str, Any]) -> None:
    train = seen["splits"]["train"]
    assert train["rows"] == train["used"] == train["encoded"] == len(get_task("bistro").load("train"))
    assert sum(seen["lengths"]["counts"]) == train["rows"]
    assert seen["lengths"]["max_length"] == seen["max_length"] == 512
    assert seen["labels"] == {} and seen["skipped"] == {} and seen["kind"] == "decoder"
    assert seen["end"] == {"token": "<eos>", "trained": train["encoded"], "rows": train["encoded"]}


def test_long_prompts_are_cut_on_the_left(tiny_model: Path) -> None:
    found = preview(run_of(tiny_model, max_length=150, eval_rows=20))
    row, shown = get_task("bistro").load("train")[0], found["rows"][0]
    assert shown["tokens"]["cut"] > 0
    assert texts(shown, "cut") + texts(shown, "prompt") == row.prompt
    assert shown["segments"][0]["part"] == "cut"
    assert found["splits"]["train"]["cut"] > 0 and found["splits"]["validation"]["used"] == 20
    assert found["lengths"]["longest"] > 150


def test_rows_that_do_not_fit_are_shown_as_left_out(tiny_model: Path) -> None:
    found = preview(run_of(tiny_model, max_length=100))
    dropped = [shown for shown in found["rows"] if shown["dropped"]]
    assert dropped and found["splits"]["train"]["dropped"] > 0
    assert {segment["part"] for segment in dropped[0]["segments"]} == {"cut"}


def test_virtual_tokens_take_room(tiny_model: Path) -> None:
    assert preview(run_of(tiny_model, method="prefix", max_length=512, eval_rows=2))["max_length"] == 512 - 20


def test_labels_are_counted(tiny_model: Path) -> None:
    found = preview(run_of(tiny_model, "reviews"))
    task = get_task("reviews")
    assert list(found["labels"]) == list(task.labels) and found["kind"] == "classification"
    for split in ("train", "validation", "test"):
        assert sum(counts[split] for counts in found["labels"].values()) == found["splits"][split]["rows"]
    assert found["rows"][0]["label"] in task.labels and found["rows"][0]["tokens"]["target"] == 0


def test_rows_skipped_in_own_files_are_told(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("question,answer\n" + "".join(f"你好 {i},é {i}\n" for i in range(30)) + ",x\n", encoding="utf-8")
    found = preview(run_of(tiny_model, {"id": "custom", "train_file": str(path)}))
    assert found["skipped"] == {"an empty input": 1} and found["notes"] == []
    twice = preview(run_of(tiny_model, {"id": "custom", "train_file": str(path), "test_file": str(path)}))
    assert twice["notes"] == ["27 test rows have a prompt that is also in the training rows."]
    shown = found["rows"][0]
    assert "你好" in texts(shown, "prompt") and "\ufffd" not in texts(shown, "prompt", "target")
    assert any(segment["text"] == "你" and segment["tokens"] == 3 for segment in shown["segments"])
    assert sum(segment["tokens"] for segment in shown["segments"]) == sum(shown["tokens"].values())


def test_sources_and_texts_are_cut_before_their_end_mark(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    row = Row("The old mill is near. " * 6, " yes")
    source = format_for(layout_for("t5"), tokenizer)
    labelled = Labelling(tokenizer, (" yes", " no"), by_last_token=False)
    assert isinstance(source, SourceTarget)
    for form in (source, labelled):
        shown = module._show(form, row, 12)
        parts = [segment["part"] for segment in shown["segments"] if segment["part"] != "target"]
        assert parts[:11] == ["prompt"] * 11 and parts[-1] == "prompt" and set(parts[11:-1]) == {"cut"}
        assert texts(shown, "prompt", "cut") == row.prompt
        assert shown["label"] == (" yes" if form.classifies else None)
    assert module._show(labelled, replace(row, prompt=""), 12)["dropped"]


def test_of_a_chat_the_answers_are_marked(tiny_model: Path, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    rows = [{"messages": [*turns, {"role": "user", "content": f"n{at}"}, *turns[1:]]} for at in range(20)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    task = {"id": "custom", "train_file": str(tmp_path / "rows.jsonl")}
    shown = preview(run_of(tiny_model, task, max_length=200))["rows"][0]
    assert texts(shown, "target") == "hello<eos>hello<eos>"
    assert texts(shown, "prompt").startswith("User:\nhi\nAssistant:\n\nUser:\nn")
    parts = [part for part, _ in itertools.groupby(segment["part"] for segment in shown["segments"])]
    assert parts == ["prompt", "target", "prompt", "target"]
    short = preview(run_of(tiny_model, task, max_length=24))["rows"][0]
    assert short["tokens"]["cut"] > 0 and texts(short, "target").endswith("hello<eos>")
    every = preview(run_of(tiny_model, {**task, "loss_on": "all"}, max_length=200))["rows"][0]
    assert every["tokens"]["prompt"] == 1


def test_wrong_models_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        preview(run_of(tmp_path / "nothing"))
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    (folder / "model.safetensors").touch()
    with pytest.raises(ConfigError, match="cannot write text"):
        preview(run_of(folder))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"method": {"name": "prompt", "virtual_tokens": 30}},
        {"model": {"id": "nano-encoder"}, "task": {"id": "reviews"}},
    ],
)
def test_a_run_finds_the_rows_of_its_form_tokenized(
    changes: dict[str, Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"method": {"name": "lora"}, "training": {"max_steps": 1, "eval_rows": 8}, **changes}
    run = resolve(parse_config(data))
    encode_ahead(run, home / "cache")
    assert len(list((home / "cache" / "tokens").iterdir())) == 1
    monkeypatch.setattr(token_cache, "_write", lambda *_: pytest.fail("the run tokenized its rows again"))
    session = trainer._Session(run, RunStore(home / "runs").create(run.config, ""), lambda *_, **__: None, lambda: "")
    assert session.training_rows.encoded.examples


def test_rows_that_take_long_are_left_to_the_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode_ahead(resolve(parse_config({"method": {"name": "lora"}, "task": {"id": "docstrings"}})), home / "cache")
    monkeypatch.setattr(module, "MAX_ROWS", 100)
    encode_ahead(resolve(parse_config({"method": {"name": "lora"}})), home / "cache")
    assert not (home / "cache" / "tokens").exists()
