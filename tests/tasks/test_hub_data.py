"""Data sets of the Hub become files, which then are a task like any other."""

import json
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from peft_studio.config.run_config import TaskConfig
from peft_studio.errors import DataError, HubOfflineError, StorageError
from peft_studio.tasks import hub_data, task_of
from peft_studio.tasks.base import SPLITS
from peft_studio.tasks.hub_catalogue import HUB_DATA, HubData, find_data
from peft_studio.tasks.hub_data import fetch, task_settings

# One row of each entry, as the Hub has it.
SAMPLES: dict[str, dict[str, Any]] = {
    "GEM/e2e_nlg": {
        "gem_id": "1",
        "meaning_representation": "name[X]",
        "target": "X.",
        "references": ["X.", "It is X."],
    },
    "GEM/web_nlg": {"input": ["A | is | B", "B | in | C"], "target": "A is B.", "references": ["A is B."]},
    "GEM/dart": {"tripleset": [["A", "is", "B"], ["B", "in", "C"]], "target": "A is B.", "references": ["A is B."]},
    "EdinburghNLP/xsum": {"document": "Long.", "summary": "Short.", "id": "1"},
    "abisee/cnn_dailymail": {"article": "Long.", "highlights": "Short.", "id": "1"},
    "stanfordnlp/sst2": {"idx": 0, "sentence": "good", "label": 1},
    "google/code_x_glue_ct_code_to_text": {
        "code": "x",
        "code_tokens": ["def", "f", "(", ")"],
        "docstring_tokens": ["Does", "f", "."],
    },
    "google/code_x_glue_cc_defect_detection": {"id": 1, "func": "int f();", "target": True, "project": "p"},
    "google/code_x_glue_cc_code_refinement": {"id": 1, "buggy": "int f() {}", "fixed": "int f() { return 1; }"},
    "ronantakizawa/github-codereview": {
        "before_code": "x = 1",
        "reviewer_comment": "Why?",
        "after_code": "y = 1",
        "diff_context": None,
    },
}
PROMPTS = {
    "GEM/web_nlg": "A | is | B, B | in | C",
    "GEM/dart": "A | is | B, B | in | C",
    "google/code_x_glue_ct_code_to_text": "def f ( )",
}
TARGETS = {
    "stanfordnlp/sst2": "positive",
    "google/code_x_glue_ct_code_to_text": " Does f .",
    "google/code_x_glue_cc_defect_detection": "defective",
}


def varied(row: dict[str, Any], at: int) -> dict[str, Any]:
    """The row, with an input of its own, and every other time with the other label."""
    more = {
        key: f"{value} {at}" for key, value in row.items() if key in ("meaning_representation", "document", "article")
    }
    more |= {key: f"{value} {at}" for key, value in row.items() if key in ("sentence", "func", "buggy", "before_code")}
    more |= {key: [*value, ["N", "is", str(at)]] for key, value in row.items() if key == "tripleset" and at}
    more |= {key: [*value, str(at)] for key, value in row.items() if key in ("input", "code_tokens") and at}
    if row.get("label") == 1:
        more["label"] = (at + 1) % 2
    if row.get("target") is True:
        more["target"] = at % 2 == 0
    return {**row, **more}


class FakeHub:
    """``load_dataset`` that knows some data sets; keeps what it was asked."""

    def __init__(self, monkeypatch: Any) -> None:
        self.sets: dict[str, Any] = {}
        self.asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        monkeypatch.setattr(datasets, "load_dataset", self.load)
        monkeypatch.setattr(hub_data, "hub_answers", lambda: True)

    def load(self, *args: Any, **options: Any) -> Any:
        self.asked.append((args, options))
        found = self.sets[args[0]]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def hub(monkeypatch: Any) -> FakeHub:
    """A Hub that answers."""
    return FakeHub(monkeypatch)


def lines(file: Path) -> list[dict[str, Any]]:
    """Records of a JSON Lines file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").rstrip("\n").split("\n")]


def test_every_entry_has_a_sample_here() -> None:
    assert set(SAMPLES) == set(HUB_DATA)


@pytest.mark.parametrize("entry", HUB_DATA.values(), ids=lambda entry: entry.id)
def test_entries_become_tasks(entry: HubData, hub: FakeHub, tmp_path: Path) -> None:
    rows = Dataset.from_list([varied(SAMPLES[entry.id], at) for at in range(8)])
    hub.sets[entry.id] = DatasetDict({split: rows for split in ("train", "validation", "test", "challenge")})
    files = fetch(entry, tmp_path)
    assert set(files) == set(entry.splits or SPLITS) and all(
        file.parent.parent == tmp_path / "datasets" for file in files.values()
    )
    assert hub.asked == [((entry.id, entry.config or None), {})]
    settings = task_settings(entry, files)
    assert (settings["id"], settings["kind"]) == ("custom", entry.kind)
    task = task_of(TaskConfig.model_validate(settings))
    row = task.load("train")[0]
    source = SAMPLES[entry.id][entry.input_column]
    assert row.prompt.startswith(PROMPTS.get(entry.id, source if isinstance(source, str) else ""))
    assert row.target.strip() == TARGETS.get(entry.id, str(SAMPLES[entry.id][entry.target_column])).strip()
    assert all(task.load(split) for split in SPLITS)
    if entry.references_column:
        assert {text.strip() for text in row.references} == set(SAMPLES[entry.id]["references"])


def test_sst2_is_tested_on_the_validation_rows(hub: FakeHub, tmp_path: Path) -> None:
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=["negative", "positive"])})
    parts = {
        name: Dataset.from_list([{"sentence": f"{name} {at}", "label": label} for at in range(4)], features=features)
        for name, label in (("train", 1), ("validation", 0), ("test", -1))
    }
    hub.sets["stanfordnlp/sst2"] = DatasetDict(parts)
    files = fetch("sst2", tmp_path)
    assert [row["sentence"] for row in lines(files["test"])] == [f"validation {at}" for at in range(4)]
    assert lines(files["train"])[0] == {"sentence": "train 0", "label": "positive"}


def test_large_splits_are_sampled_in_the_same_way_each_time(hub: FakeHub, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(hub_data, "MOST_ROWS", {"train": 10, "validation": 5, "test": 5})
    rows = Dataset.from_list([{"text": f"row {at}", "label": at // 50} for at in range(100)])
    hub.sets["some/data"] = DatasetDict(train=rows, dev=rows)
    first = {split: file.read_bytes() for split, file in fetch("some/data", tmp_path).items()}
    assert {split: text.count(b"\n") for split, text in first.items()} == {"train": 10, "validation": 5}
    assert {row["label"] for row in lines(tmp_path / "datasets" / "some--data" / "train.jsonl")} == {0, 1}
    assert {split: file.read_bytes() for split, file in fetch("some/data", tmp_path).items()} == first


def test_any_data_set_works_with_guessed_columns(hub: FakeHub, tmp_path: Path) -> None:
    features = Features(
        {
            "idx": Value("int32"),
            "text": Value("string"),
            "label": ClassLabel(names=["no", "yes"]),
            "score": Value("float32"),
            "tags": List(Value("string")),
            "nested": {"a": Value("string")},
            "raw": Value("binary"),
        }
    )
    row = {"idx": 1, "score": float("nan"), "tags": ["a", "b"], "nested": {"a": "b"}, "raw": b"x"}
    rows = [{**row, "text": f"text {at}\u2028", "label": at % 2} for at in range(20)]
    hub.sets["some/data"] = DatasetDict(train=Dataset.from_list([*rows, {**rows[0], "label": -1}], features=features))
    entry = find_data("some/data", "large")
    files = fetch(entry, tmp_path)
    assert list(files) == ["train"] and files["train"].parent.name == "some--data--large"
    assert hub.asked == [(("some/data", "large"), {})]
    assert len(lines(files["train"])) == 20  # the hidden label is left out
    settings = task_settings(entry, files)
    assert {key: settings[key] for key in ("kind", "input_column", "target_column")} == {
        "kind": "classification",
        "input_column": "text",
        "target_column": "label",
    }
    assert task_of(TaskConfig.model_validate(settings)).labels == ("no", "yes")


def test_given_columns_are_kept(hub: FakeHub, tmp_path: Path) -> None:
    rows = [{"body": f"b {at}", "head": f"h {at}", "text": "t", "n": at} for at in range(20)]
    hub.sets["some/data"] = DatasetDict(train=Dataset.from_list(rows))
    entry = find_data("some/data", input_column="head", target_column="body")
    files = fetch(entry, tmp_path)
    assert set(lines(files["train"])[0]) == {"head", "body"}
    assert task_settings(entry, files)["input_column"] == "head"
    with pytest.raises(DataError, match=r"no column 'nope'\. It has: body, head, text, n"):
        fetch(find_data("some/data", input_column="nope", target_column="body"), tmp_path)


def test_an_only_split_never_serves_twice(hub: FakeHub, tmp_path: Path) -> None:
    hub.sets["some/data"] = DatasetDict(test=Dataset.from_list([{"text": "a", "label": "b"}] * 3))
    assert list(fetch("some/data", tmp_path)) == ["train"]
    hub.sets["some/data"] = DatasetDict(one=Dataset.from_list([{"a": "b"}]), two=Dataset.from_list([{"a": "b"}]))
    with pytest.raises(DataError, match=r"no split 'train'\. It has: one, two"):
        fetch("some/data", tmp_path)


def test_a_script_is_not_run_its_export_is_read(hub: FakeHub, tmp_path: Path, monkeypatch: Any) -> None:
    class Api:
        def list_repo_files(self, name: str, *, repo_type: str, revision: str) -> list[str]:
            assert (name, repo_type, revision) == ("GEM/web_nlg", "dataset", "refs/convert/parquet")
            parts = ("train", "test", "challenge_train_sample")
            return [f"{config}/{part}/0000.parquet" for config in ("en", "ru") for part in parts] + ["README.md"]

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    rows = Dataset.from_list([SAMPLES["GEM/web_nlg"]])
    exported = DatasetDict(train=rows, validation=rows, test=rows)

    def load(*args: Any, **options: Any) -> Any:
        hub.asked.append((args, options))
        if "revision" not in options:
            raise RuntimeError("Dataset scripts are no longer supported, but found web_nlg.py")
        return exported

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert set(fetch("web_nlg", tmp_path)) == set(SPLITS)
    wanted = {split: [f"en/{split}/0000.parquet"] for split in ("train", "test", "challenge_train_sample")}
    assert hub.asked[-1] == (("GEM/web_nlg",), {"data_files": wanted, "revision": "refs/convert/parquet"})
    assert not any("trust_remote_code" in options for _, options in hub.asked)
    with pytest.raises(DataError, match="one of these configurations: en, ru"):
        fetch("GEM/web_nlg", tmp_path, config="fr")


def test_a_folder_needs_no_hub(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(hub_data, "hub_answers", lambda: pytest.fail("nobody needs the Hub here"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "mine"
    folder.mkdir()
    for split, count in (("train", 12), ("test", 3)):
        rows = [{"source": f"{split} {at}", "target": f"answer {at}"} for at in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = fetch(str(folder), tmp_path / "home")
    assert {split: len(lines(file)) for split, file in files.items()} == {"train": 12, "test": 3}
    settings = task_settings(find_data(str(folder)), files)
    assert task_of(TaskConfig.model_validate(settings)).load("train")[0].prompt.startswith("train ")


def test_without_the_hub_earlier_files_serve(hub: FakeHub, tmp_path: Path, monkeypatch: Any) -> None:
    hub.sets["some/data"] = DatasetDict(train=Dataset.from_list([{"text": "a", "label": "b"}]))
    there = fetch("some/data", tmp_path)
    monkeypatch.setattr(hub_data, "hub_answers", lambda: False)
    assert fetch("some/data", tmp_path) == there
    with pytest.raises(HubOfflineError, match="cannot be reached from here"):
        fetch("other/data", tmp_path)


def test_failures_are_told_in_words(hub: FakeHub, tmp_path: Path) -> None:
    hub.sets["some/data"] = ValueError("Config name is missing.\nPick one among: ['a', 'b']")
    with pytest.raises(DataError, match=r"'some/data' cannot be loaded: Config name is missing\. Pick one"):
        fetch("some/data", tmp_path)
    hub.sets["some/data"] = DatasetDict(train=Dataset.from_list([{"text": "a", "label": "b"}]).select([]))
    with pytest.raises(DataError, match="no training rows"):
        fetch("some/data", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        fetch("some/data", tmp_path / "file")


@pytest.mark.parametrize("name", ["../../etc", "/", "..", "a/../b"])
def test_files_stay_below_the_home_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "datasets" / hub_data._safe_name(HubData(name, name))
    assert folder.resolve().parent == (tmp_path / "datasets").resolve()


def test_chats_of_the_hub_are_chats(hub: FakeHub, tmp_path: Path) -> None:
    turns = [[{"role": "user", "content": f"q{at}"}, {"role": "assistant", "content": "a"}] for at in range(20)]
    histories: list[list[list[str]]] = [[["q", "a"]] * (at % 2) for at in range(20)]
    hub.sets["talks"] = DatasetDict({"train": Dataset.from_dict({"messages": turns, "id": list(map(str, range(20)))})})
    hub.sets["steps"] = DatasetDict(
        {
            "train": Dataset.from_dict(
                {"instruction": [f"i{at}" for at in range(20)], "output": ["o"] * 20, "history": histories}
            )
        }
    )
    for name, column in (("talks", "chat_column"), ("steps", "history_column")):
        settings = task_settings(find_data(name), fetch(name, tmp_path))
        assert settings[column] in ("messages", "history")
        task = task_of(TaskConfig(**settings))
        chats = [row.chat for row in task.load("train") if row.chat]
        assert task.chats and len(chats) == len(task.load("train"))
        assert {len(chat.turns) for chat in chats} == ({2} if name == "talks" else {2, 4})
