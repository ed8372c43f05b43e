"""The panel for one's own data: files are kept, columns guessed, errors become words, and configs go both ways."""

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from peft_studio.config.run_config import parse_config
from peft_studio.ui.data import NONE, DataPanel, facts


@pytest.fixture
def panel(tmp_path: Path, blocks: gr.Blocks) -> DataPanel:
    return DataPanel(tmp_path / "home")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Rows with an input and a target."""
    path = tmp_path / "my rows.csv"
    rows = "".join(f"question {i},answer {i % 9} <b>x</b>\n" for i in range(40))
    path.write_text(f"question,answer\n{rows},lost\n", encoding="utf-8")
    return path


def shown(panel: DataPanel, updates: dict[Any, Any]) -> dict[Any, Any]:
    """What the panel's controls hold after some updates."""
    held = {item: item.value for item in panel.inputs()}
    for item, update in updates.items():
        if item in held:
            held[item] = update["value"] if isinstance(update, dict) else update
    return held


def test_taking_a_file_fills_the_panel(panel: DataPanel, table: Path) -> None:
    updates = panel.take("train_file", str(table))
    task = panel.task(shown(panel, updates))
    assert task["id"] == "custom" and task["kind"] == "generation"
    assert (task["input_column"], task["target_column"]) == ("question", "answer")
    assert "references_column" not in task
    assert updates[panel.drops["train_file"]] is None
    told = updates[panel.facts]
    assert told["columns"] == ["question", "answer"] and told["prompt"].startswith("question")
    assert told["skipped"] == {"an empty input": 1} and told["notes"] == []


def test_a_label_has_no_more_accepted_answers(panel: DataPanel, table: Path) -> None:
    held = shown(panel, panel.take("train_file", str(table)))
    held[panel.columns["references_column"]] = "answer"
    assert panel.task(held)["references_column"] == "answer"
    held[panel.kind] = "classification"
    assert "references_column" not in panel.task(held)


def test_a_file_that_cannot_be_used_is_explained_and_loses_nothing(panel: DataPanel, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2,3\n", encoding="utf-8")
    updates = panel.take("train_file", str(bad))
    assert "line 2 has 3 cells" in updates[panel.facts]["error"]
    assert not set(updates) & {panel.template, panel.kind, *panel.columns.values()}


def test_wrong_columns_and_templates_are_explained(table: Path) -> None:
    task = {"id": "custom", "train_file": str(table), "kind": "generation"}
    assert "hint" in facts({"id": "custom"})
    assert "no column 'questoin'" in facts({**task, "input_column": "questoin", "target_column": "answer"})["error"]
    told = facts({**task, "template": "{nothing}"})
    assert "nothing" in told["error"] and told["columns"] == ["question", "answer"]
    assert facts({**task, "template": "Q: {question}\n"})["prompt"].startswith("Q: question")


def test_a_config_comes_back_as_it_was(panel: DataPanel, table: Path) -> None:
    task = {
        "id": "custom", "kind": "classification", "train_file": str(table), "input_column": "question",
        "target_column": "answer", "template": "{question}?",
    }  # fmt: skip
    config = parse_config({"task": task, "method": {"name": "lora"}})
    updates = panel.show(config.task)
    assert updates[panel.group]["visible"]
    assert panel.task(shown(panel, updates)) == task
    assert updates[panel.facts]["labels"]


def test_a_config_without_columns_shows_the_guess(panel: DataPanel, table: Path) -> None:
    config = parse_config({"task": {"id": "custom", "train_file": str(table)}, "method": {"name": "lora"}})
    held = shown(panel, panel.show(config.task))
    assert held[panel.columns["input_column"]] == "question" and held[panel.columns["references_column"]] == NONE


def test_a_config_whose_file_has_gone_still_shows(panel: DataPanel, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.csv")
    task = {"id": "custom", "train_file": gone, "input_column": "a", "target_column": "b"}
    updates = panel.show(parse_config({"task": task, "method": {"name": "lora"}}).task)
    assert panel.task(shown(panel, updates)) == {**task, "kind": "generation"}
    assert "missing" in updates[panel.facts]["error"]


def test_built_in_tasks_hide_the_panel(panel: DataPanel) -> None:
    updates = panel.show(parse_config({"method": {"name": "lora"}}).task)
    assert updates == {panel.group: gr.update(visible=False)}


def test_columns_that_fit_are_kept(panel: DataPanel, table: Path) -> None:
    assert panel.look_at(str(table), "answer", "question") == {panel.facts: gr.skip()}
    assert panel.look_at("") == {panel.facts: gr.skip()}
    assert panel.columns["input_column"] in panel.look_at(str(table), None, None)


def test_chats_need_neither_input_nor_target(panel: DataPanel, tmp_path: Path) -> None:
    turns = '[{{"role": "user", "content": "q{0}"}}, {{"role": "assistant", "content": "a{0}"}}]'
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(f'{{"messages": {turns.format(at)}, "source": "web"}}\n' for at in range(30)))
    updates = panel.take("train_file", str(path))
    held = shown(panel, updates)
    task = panel.task(held)
    assert task["chat_column"] == "messages" and not {"input_column", "target_column", "loss_on"} & task.keys()
    assert "turns with their speakers" in updates[panel.facts]["reason"]
    assert updates[panel.facts]["prompt"].endswith("Assistant:\n")
    assert panel.look_at(task["train_file"], None, None, "messages") == {panel.facts: gr.skip()}
    held[panel.loss_on] = "all"
    config = parse_config({"task": panel.task(held), "method": {"name": "lora"}})
    assert config.task.loss_on == "all"
    assert panel.task(shown(panel, panel.show(config.task))) == panel.task(held)


def test_what_was_guessed_of_pairs_is_told(panel: DataPanel, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    row = '{{"prompt": "p{0}", "chosen": "yes {0}", "rejected": "no, never {0}"}}\n'
    path.write_text("".join(row.format(at) for at in range(30)))
    updates = panel.take("train_file", str(path))
    told = updates[panel.facts]
    assert "better one of a pair" in told["reason"] and "'rejected' is left out" in told["notes"][0]
    assert facts(panel.task(shown(panel, updates)))["notes"] == told["notes"], "also once the columns are settled"
