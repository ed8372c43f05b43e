"""Tasks from the user's own files."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from peft_studio.errors import DataError
from peft_studio.machine import path_policy
from peft_studio.tasks import custom, kept_rows, metrics, splitting
from peft_studio.tasks.base import SPLITS
from peft_studio.tasks.custom import CustomData, load_rows, make_task
from peft_studio.tasks.reading import table_cache


def put(path: Path, rows: Sequence[Mapping[str, object]]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def texts(folder: Path, count: int = 50) -> str:
    return put(folder / "train.jsonl", [{"source": f"row {at}", "target": f"answer {at}"} for at in range(count)])


def labelled(folder: Path, labels: Sequence[object], name: str = "train.jsonl") -> str:
    return put(folder / name, [{"text": f"row {at}", "label": label} for at, label in enumerate(labels)])


def refuse(data: CustomData, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        make_task(data)
    for part in parts:
        assert part in str(caught.value)


def test_generation(tmp_path: Path) -> None:
    task = make_task(CustomData("generation", texts(tmp_path)))
    rows = {split: task.load(split) for split in SPLITS}
    assert [len(rows[split]) for split in SPLITS] == [40, 5, 5]
    assert sorted(row.prompt for part in rows.values() for row in part) == sorted(f"row {at}\n" for at in range(50))
    row = rows["test"][0]
    assert row.target == row.prompt.strip().replace("row", "answer")
    assert row.references == (row.target,)
    assert (task.name, task.kind, task.headline, task.labels) == ("custom", "generation", "bleu", ())
    assert task.template == "{source}\n"
    assert "40 train, 5 validation, 5 test" in task.description
    assert "Skipped" not in task.description


def test_splits_depend_on_the_rows_alone(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    first, second = (make_task(CustomData("generation", texts(folder))) for folder in (tmp_path, tmp_path / "copy"))
    assert all(first.load(split) == second.load(split) for split in SPLITS)


def test_small_and_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "MAX_HELD_OUT", 7)
    for count, sizes in ((3, [1, 1, 1]), (19, [17, 1, 1]), (100, [86, 7, 7])):
        task = make_task(CustomData("generation", texts(tmp_path, count)))
        assert [len(task.load(split)) for split in SPLITS] == sizes
    refuse(
        CustomData("generation", texts(tmp_path, 2)), "train.jsonl", "too few usable rows (2)", "validation and test"
    )


def test_given_files_are_kept_whole(tmp_path: Path) -> None:
    test = put(tmp_path / "test.jsonl", [{"source": "s", "target": "t"}] * 2 + [{"source": "u", "target": "v"}])
    task = make_task(CustomData("generation", texts(tmp_path, 20), test_file=test))
    assert [len(task.load(split)) for split in SPLITS] == [18, 2, 2]
    task = make_task(CustomData("generation", texts(tmp_path, 20), test, test))
    assert [row.prompt for row in task.load("train")] == [f"row {at}\n" for at in range(20)]


def test_template_and_spaces(tmp_path: Path) -> None:
    rows = [{"mr": "a", "ref": " led"}, {"mr": "b", "ref": "bare "}, {"mr": "c", "ref": "中文"}]
    data = CustomData("generation", *[put(tmp_path / "t.jsonl", rows)] * 3, template="{mr} =>")
    task = make_task(data)
    assert [(row.prompt, row.target) for row in task.load("train")] == [
        ("a =>", " led"),
        ("b =>", " bare"),
        ("c =>", "中文"),
    ]
    assert task.template == "{mr} =>"


def test_references(tmp_path: Path) -> None:
    rows = [
        {"mr": "a", "ref": "one", "references": ["one", "two"]},
        {"mr": "b", "ref": "four", "references": []},
        {"mr": "a", "ref": "three", "references": "one"},
    ]
    task = make_task(CustomData("generation", *[put(tmp_path / "t.jsonl", rows)] * 3))
    assert [row.references for row in task.load("train")] == [("one", "two"), ("four",), ("three", "one")]
    for split in SPLITS[1:]:
        merged = [(row.prompt, row.target, row.references) for row in task.load(split)]
        assert merged == [("a\n", "one", ("one", "two", "three")), ("b\n", "four", ("four",))]


def test_targets_may_be_lists(tmp_path: Path) -> None:
    rows = [{"mr": str(at), "refs": ["x", "y"]} for at in range(3)]
    task = make_task(CustomData("generation", put(tmp_path / "t.jsonl", rows), "", "", "mr", "refs"))
    assert {(row.target, row.references) for row in task.load("train")} == {("x", ("x", "y"))}


def test_one_prompt_is_in_one_split(tmp_path: Path) -> None:
    rows = [{"mr": f"m{at % 10}", "ref": f"r{at}"} for at in range(80)]
    task = make_task(CustomData("generation", put(tmp_path / "t.jsonl", rows)))
    prompts = [{row.prompt for row in task.load(split)} for split in SPLITS]
    assert [len(part) for part in prompts] == [8, 1, 1]
    assert not prompts[0] & (prompts[1] | prompts[2])
    assert [len(task.load(split)) for split in SPLITS] == [64, 1, 1]
    assert len(task.load("test")[0].references) == 8


def test_classification(tmp_path: Path) -> None:
    labels: list[object] = [at % 11 for at in range(98)] + ["12", ["13"]]
    task = make_task(CustomData("classification", labelled(tmp_path, labels)))
    assert task.labels == (*map(str, range(11)), "12", "13")
    assert (task.kind, task.headline, task.template) == ("classification", "accuracy", "{text}")
    assert {row.target for row in task.load("train")} == set(task.labels)
    assert [len(task.load(split)) for split in SPLITS] == [80, 10, 10]
    row = task.load("test")[0]
    assert row.prompt == f"row {row.prompt.split()[1]}"
    assert row.references == (row.target,)


def test_repeated_texts_of_classification_stay_rows(tmp_path: Path) -> None:
    rows = [{"text": f"t{at % 30}", "label": "ab"[at % 2]} for at in range(60)]
    for count, sizes in ((60, [48, 6, 6]), (6, [4, 1, 1])):
        task = make_task(CustomData("classification", put(tmp_path / "t.jsonl", rows[:count])))
        assert [len(task.load(split)) for split in SPLITS] == sizes
        prompts = [{row.prompt for row in task.load(split)} for split in SPLITS]
        assert sum(map(len, prompts)) == min(count, 30)
    task = make_task(CustomData("classification", put(tmp_path / "t.jsonl", [*rows[:4], *rows[30:34]] * 2)))
    assert [len(task.load(split)) for split in SPLITS] == [8, 4, 4]


def test_skipped_rows_are_counted(tmp_path: Path) -> None:
    labels: list[object] = ["a", "b"] * 10 + [None, ["a", "b"], " "]
    data = CustomData("classification", labelled(tmp_path, labels), input_column="text", target_column="label")
    assert load_rows(data).skipped == {"an empty target": 2, "more than one label": 1}
    assert "Skipped: 2 with an empty target, 1 with more than one label." in make_task(data).description


def test_prompts_that_are_in_two_files_are_counted(tmp_path: Path) -> None:
    files = {
        split: str(put(tmp_path / f"{split}.jsonl", [{"text": f"text {n}", "label": "ab"[n % 2]} for n in numbers]))
        for split, numbers in {"train": range(20), "validation": [3, 20, 21], "test": [*range(12), 30]}.items()
    }
    data = CustomData("classification", files["train"], files["validation"], files["test"])
    assert load_rows(data).shared == {"validation": 1, "test": 12}
    told = make_task(data).description
    assert told.endswith(
        "1 validation row has a prompt that is also in the training rows. "
        "12 test rows have a prompt that is also in the training rows."
    )
    alone = CustomData("classification", files["train"])
    assert load_rows(alone).shared == {} and "also in" not in make_task(alone).description


def test_no_usable_rows(tmp_path: Path) -> None:
    rows = [{"text": "", "label": "a"}, {"text": "x", "label": " "}, {"text": "x", "label": ""}]
    data = CustomData("generation", put(tmp_path / "t.jsonl", rows), "", "", "text", "label")
    refuse(data, "t.jsonl has no usable rows", "1 with an empty input, 2 with an empty target", "'text'", "'label'")


def test_numbers_of_classes(tmp_path: Path) -> None:
    columns = {"input_column": "text", "target_column": "label"}
    refuse(
        CustomData("classification", labelled(tmp_path, ["a"] * 9), **columns),  # type: ignore[arg-type]
        "train.jsonl, column 'label' has one class only, 'a'",
        "2 to 200",
    )
    refuse(
        CustomData("classification", labelled(tmp_path, [f"c{at}" for at in range(201)]), **columns),  # type: ignore[arg-type]
        "201 different values",
        "choose generation",
    )
    refuse(
        CustomData("classification", labelled(tmp_path, ["a", "b", "b"])), "too few usable rows (3)", "of every label"
    )


def test_rows_with_several_labels(tmp_path: Path) -> None:
    rows = [{"text": f"t {at}", "label": ["a", "b"] if at % 3 else "c"} for at in range(30)]
    data = CustomData("classification", put(tmp_path / "t.jsonl", rows))
    refuse(data, "column 'label' has more than one label in 20 of 30 rows", "one label in each row")


def test_rows_with_one_prompt(tmp_path: Path) -> None:
    rows = [{"prompt": "Say it.", "completion": f"answer {at}"} for at in range(30)]
    refuse(CustomData("generation", put(tmp_path / "t.jsonl", rows)), "too few usable rows (30, all with one prompt)")


def test_label_that_training_lacks(tmp_path: Path) -> None:
    train = labelled(tmp_path, [f"c{at % 12}" for at in range(60)])
    valid = labelled(tmp_path, ["c1", "c1", "new", "c1"], "valid.jsonl")
    refuse(
        CustomData("classification", train, valid),
        "valid.jsonl, line 3 has the label 'new', which no training row has",
        "c0, c1, c10, c11, c2",
        "c7 and 2 more",
    )


def test_columns_and_templates_that_are_wrong(tmp_path: Path) -> None:
    train = texts(tmp_path)
    other = put(tmp_path / "valid.jsonl", [{"sources": "a", "target": "b"}])
    refuse(CustomData("generation", train, other), "valid.jsonl has no column 'source'", "Did you mean 'sources'")
    refuse(CustomData("generation", train, references_column="refs"), "no column 'refs'", "references column")
    refuse(CustomData("generation", train, template="{sauce} =>"), "train.jsonl", "'sauce'", "Did you mean 'source'")
    refuse(CustomData("generation", train, template="{source =>"), "train.jsonl", "lone '{' at character 1")
    refuse(CustomData("generation", train, template="Say: "), "uses no column", "source, target")
    refuse(CustomData("generation", train, "", "", "target", "target"), "both the column 'target'")
    refuse(CustomData("generation", ""), "No training file")
    refuse(CustomData("generation", str(tmp_path / "none.csv")), "none.csv is missing")


def test_one_column_given(tmp_path: Path) -> None:
    train = texts(tmp_path)
    assert load_rows(CustomData("generation", train, input_column="target")).data.target_column == "source"
    assert load_rows(CustomData("generation", train, target_column="source")).data.input_column == "target"
    assert load_rows(CustomData("generation", train, target_column="target")).data.input_column == "source"


def test_guess_brings_its_template(tmp_path: Path) -> None:
    rows = [{"instruction": f"do {at}", "input": "x" * at, "output": "done"} for at in range(9)]
    task = make_task(CustomData("generation", put(tmp_path / "t.jsonl", rows)))
    assert task.template == "{instruction}\n{input}\n"


def test_files_are_read_once_until_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_rows, "_folder", [tmp_path / "cache"])
    monkeypatch.setattr(table_cache, "_reads_here", [True])
    read: list[Path] = []
    original = custom.read_table
    monkeypatch.setattr(custom, "read_table", lambda path: read.append(path) or original(path))
    data = CustomData("generation", texts(tmp_path, 20))
    make_task(data)
    make_task(data)
    make_task(CustomData("generation", data.train_file, template="{source} ->"))
    assert len(read) == 1
    os.utime(data.train_file, ns=(1, 1))
    make_task(data)
    assert len(read) == 2


def test_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        metrics, "rouge_scores", lambda references, texts: {"rouge_l": float(len(texts))}, raising=False
    )
    monkeypatch.setattr(
        metrics,
        "classification_scores",
        lambda targets, texts, labels: {"accuracy": float(targets == texts), "classes": float(len(labels))},
        raising=False,
    )
    task = make_task(CustomData("generation", texts(tmp_path)))
    rows = task.load("test")
    scores = task.score(rows, [row.target for row in rows])
    assert scores.keys() == {"bleu", "chrf", "rouge_l"}
    assert scores["chrf"] == pytest.approx(100)
    task = make_task(CustomData("classification", labelled(tmp_path, ["a", "b"] * 20)))
    rows = task.load("test")
    assert task.score(rows, [row.target for row in rows]) == {"accuracy": 1.0, "classes": 2.0}


def test_on_a_space_only_uploads_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "text,label\n" + "".join(f"row {number},{'ab'[number % 2]}\n" for number in range(40))
    (tmp_path / "runs").mkdir()
    upload = tmp_path / "uploads" / "0123456789abcdef" / "rows.csv"
    upload.parent.mkdir(parents=True)
    elsewhere = tmp_path / "rows.csv"
    for file in (upload, elsewhere):
        file.write_text(rows, encoding="utf-8")
    monkeypatch.setattr(path_policy, "_policy", path_policy._Policy())  # as it was, afterwards
    path_policy.use_home(tmp_path, public=True)
    assert make_task(CustomData(kind="classification", train_file=str(upload))).labels == ("a", "b")
    with pytest.raises(DataError, match="only uploaded files"):
        make_task(CustomData(kind="classification", train_file=str(elsewhere)))


def test_one_label_that_is_written_in_several_ways_is_one(tmp_path: Path) -> None:
    values = [1, 1.0, "1", 0, 0.0, " 0"] * 8
    train = put(tmp_path / "t.jsonl", [{"text": f"t{at}", "label": value} for at, value in enumerate(values)])
    found = load_rows(CustomData("classification", train))
    assert found.labels == ("0", "1")
    assert {row.target for split in SPLITS for row in found.rows[split]} == {"0", "1"}
    assert any("taken as one: 1 (also 1.0)" in note for note in found.notes)


def test_labels_of_the_test_file_may_be_written_otherwise(tmp_path: Path) -> None:
    train = put(tmp_path / "t.jsonl", [{"text": f"t{at}", "label": f"{at % 2}.0"} for at in range(40)])
    test = put(tmp_path / "s.jsonl", [{"text": "u", "label": 0}, {"text": "v", "label": "1"}])
    found = load_rows(CustomData("classification", train, test_file=test))
    assert found.labels == ("0.0", "1.0") and [row.target for row in found.rows["test"]] == ["0.0", "1.0"]
    truths = put(
        tmp_path / "b.jsonl", [{"text": f"t{at}", "label": [True, "True", False, "false"][at % 4]} for at in range(40)]
    )
    assert load_rows(CustomData("classification", truths)).labels == ("false", "true")


def test_pairs_train_on_the_better_answer_and_say_so(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{at}", "chosen": f"yes {at}", "rejected": f"no, no, no {at}"} for at in range(30)]
    task = make_task(CustomData("generation", put(tmp_path / "t.jsonl", rows)))
    assert all(row.target.startswith("yes") for split in SPLITS for row in task.load(split))
    assert any("'rejected' is left out" in note for note in task.notes) and "'rejected'" in task.description
    named = load_rows(CustomData("generation", str(tmp_path / "t.jsonl"), "", "", "prompt", "rejected"))
    assert "did not prefer" in named.notes[0]


def test_columns_that_play_no_part_may_hold_anything(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{at}", "completion": f"c{at}", "meta": {"n": at}, "v": [0.5] * 9} for at in range(30)]
    train = put(tmp_path / "t.jsonl", rows)
    for columns in ({}, {"input_column": "prompt", "target_column": "completion"}):
        assert load_rows(CustomData("generation", train, **columns)).first.prompt == "p0\n"
    refuse(CustomData("generation", train, input_column="meta", target_column="prompt"), "t.jsonl, line 1", "'meta'")
    refuse(
        CustomData("generation", train, template="{meta} {prompt}"), "t.jsonl, line 1, column 'meta' holds a nested"
    )


def chat(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]


def test_chats_become_rows(tmp_path: Path) -> None:
    rows = [{"messages": chat(f"q{at}", "a", "and?", f"b{at}"), "id": at} for at in range(20)]
    task = make_task(CustomData("generation", put(tmp_path / "t.jsonl", rows)))
    assert task.chats
    row = task.load("train")[0]
    assert row.chat is not None and [role for role, _ in row.chat.turns] == ["user", "assistant"] * 2
    assert row.target == row.chat.turns[-1][1] and row.prompt.endswith("User:\nand?\nAssistant:\n")
    texts = [{"messages": json.dumps(row["messages"])} for row in rows]  # as CSV files hold them
    again = make_task(CustomData("generation", put(tmp_path / "u.jsonl", texts), loss_on="all"))
    assert [row.chat and row.chat.turns for row in again.load("test")] == [
        row.chat and row.chat.turns for row in task.load("test")
    ]
    assert again.load("test")[0].chat.all_turns  # type: ignore[union-attr]


def test_instructions_with_a_history_are_chats(tmp_path: Path) -> None:
    rows = [
        {
            "instruction": f"i{at}",
            "input": "",
            "output": "o",
            "system": "s" * (at % 2),
            "history": [["q", "a"]] * (at % 3),
        }
        for at in range(12)
    ]
    task = make_task(CustomData("generation", *[put(tmp_path / "t.json", rows)] * 3))
    turns = [row.chat.turns for row in task.load("train") if row.chat]
    assert len(turns) == 12 and turns[0] == (("user", "i0"), ("assistant", "o"))
    assert turns[1] == (("system", "s"), ("user", "q"), ("assistant", "a"), ("user", "i1"), ("assistant", "o"))


def test_bad_chats_are_told_with_file_row_and_column(tmp_path: Path) -> None:
    good = [{"messages": chat("q", "a")}] * 5
    for bad, told in (
        (chat("q"), "ends with a turn of the user"),
        ([*chat("q"), *chat("r", "a")], "two user turns in a row"),
        (chat("q", ""), "turn 2 (assistant) is empty"),
        ([{"role": "wizard", "content": "x"}, *chat("q", "a")], "'wizard' is unknown"),
    ):
        train = put(tmp_path / "t.jsonl", [*good, {"messages": bad}])
        refuse(CustomData("generation", train), "t.jsonl, line 6, column 'messages' holds", told)
    refuse(CustomData("generation", train, chat_column="message"), "no column 'message'", "chat column", "'messages'")
