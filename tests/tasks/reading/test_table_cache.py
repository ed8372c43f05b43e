"""Files are read once, by a process of their own; whatever becomes of what is kept, the rows are the same."""

import json
import os
import resource
import shutil
import time
from pathlib import Path

import pytest

from peft_studio.errors import DataError
from peft_studio.tasks import kept_rows
from peft_studio.tasks.base import SPLITS
from peft_studio.tasks.custom import CustomData, load_rows, make_task, table_facts
from peft_studio.tasks.reading import reader_client, table_cache

SOME = "source,target\n" + "".join(f"row {at},answer {at}\n" for at in range(30))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that this process uses."""
    monkeypatch.setattr(kept_rows, "_folder", [tmp_path / "cache"])
    return tmp_path / "cache"


@pytest.fixture
def here(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, in a process that reads by itself as the reader program does; quicker."""
    monkeypatch.setattr(table_cache, "_reads_here", [True])
    return cache


def put(folder: Path, text: str = SOME, name: str = "rows.csv") -> CustomData:
    (folder / name).write_text(text, encoding="utf-8")
    return CustomData("generation", str(folder / name))


def entries(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / "tables").iterdir() if not path.name.startswith("."))


def no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_client.subprocess, "run", lambda *args, **_: pytest.fail("a file was read again"))


def test_the_reader_gives_what_reading_here_gives(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = put(tmp_path)
    found, task = load_rows(data), make_task(data)
    assert [len(found.rows[split]) for split in SPLITS] == [24, 3, 3]
    assert [sorted(path.name for path in entry.iterdir()) for entry in entries(cache)] == [
        ["rows.arrow", "summary.json"]
    ] * 2
    no_reader(monkeypatch)
    assert table_facts(Path(data.train_file)).columns == ("source", "target")
    assert load_rows(data).data.input_column == "source"
    monkeypatch.setattr(kept_rows, "_folder", [])
    alone = load_rows(data)
    assert all(list(found.rows[split]) == list(alone.rows[split]) == task.load(split) for split in SPLITS)
    assert (found.first.prompt, found.first.target) == (alone.rows["train"][0].prompt, alone.rows["train"][0].target)


@pytest.mark.parametrize(
    ("text", "settings"),
    [("a,b\n1,2\n1,2,3\n", {}), (SOME, {"template": "{sauce}"}), ("a,b\n1,2\n", {}), ("a,b\n,\n,\n", {})],
)
def test_errors_are_the_same_and_are_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, text: str, settings: dict[str, str]
) -> None:
    data = CustomData("generation", put(tmp_path, text).train_file, **settings)  # type: ignore[arg-type]
    words = []
    for folder in ([cache], [cache], []):
        monkeypatch.setattr(kept_rows, "_folder", folder)
        with pytest.raises(DataError) as caught:
            load_rows(data)
        words.append(str(caught.value))
        no_reader(monkeypatch)
    assert words[0] == words[1] == words[2] and words[0]


def test_the_process_that_asks_hardly_works(tmp_path: Path, cache: Path) -> None:
    rows = "".join(
        f"a text of some words that is number {at},an answer to it that is as long\n" for at in range(20_000)
    )
    data = put(tmp_path, f"source,target\n{rows}")
    begun, children = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    assert load_rows(data).first.prompt.startswith("a text")
    table_facts(Path(data.train_file))
    own, ended = time.process_time() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    reader = ended.ru_utime + ended.ru_stime - children.ru_utime - children.ru_stime
    assert own < reader / 10


def test_a_changed_file_is_read_again(tmp_path: Path, here: Path) -> None:
    data = put(tmp_path)
    assert len(load_rows(data).rows["train"]) == 24
    put(tmp_path, SOME + "".join(f"more {at},rows\n" for at in range(10)))
    os.utime(data.train_file, ns=(1, 1))
    assert len(load_rows(data).rows["train"]) == 32


def test_where_nothing_can_be_kept_rows_are_made_in_memory(tmp_path: Path, cache: Path) -> None:
    cache.write_text("a file in the folder's place", encoding="utf-8")
    found = load_rows(put(tmp_path))
    assert not found.at_hand and found.first.prompt.startswith("row ")
    assert [len(list(found.rows[split])) for split in SPLITS] == [24, 3, 3]


@pytest.mark.parametrize("damage", ["summary", "rows", "all"])
def test_damage_is_mended(tmp_path: Path, here: Path, damage: str) -> None:
    data = put(tmp_path)
    rows = list(load_rows(data).rows["train"])
    found = load_rows(data)
    for entry in entries(here):
        if damage == "all":
            shutil.rmtree(entry)
        elif damage == "summary":
            (entry / "summary.json").write_text('{"facts', encoding="ascii")
        else:
            (entry / "rows.arrow").write_bytes(b"ARROW1 no more")
    assert list(found.rows["train"]) == rows
    assert list(load_rows(data).rows["train"]) == rows


def test_what_was_not_used_for_longest_goes(tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [Path(put(tmp_path, SOME, f"{at}.csv").train_file) for at in range(4)]
    for age, file in zip((400, 300, 200), files, strict=False):
        table_facts(file)
        (newest,) = [entry for entry in entries(here) if str(file) in (entry / "summary.json").read_text()]
        os.utime(newest / "summary.json", (1e9 - age, 1e9 - age))
    table_facts(files[0])  # used again
    size = sum(path.stat().st_size for path in entries(here)[0].iterdir())
    monkeypatch.setattr(table_cache, "MAX_BYTES", 3 * size + size // 2)
    table_facts(files[3])
    kept = {json.loads((entry / "summary.json").read_text())["files"][0] for entry in entries(here)}
    assert kept == {str(files[0]), str(files[2]), str(files[3])}


def test_what_was_read_of_files_that_are_gone_goes(tmp_path: Path, here: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        load_rows(put(tmp_path / name))
    table_cache.forget(here, [tmp_path / "old"])
    files = [json.loads((entry / "summary.json").read_text())["files"] for entry in entries(here)]
    assert files == [[str(tmp_path / "new" / "rows.csv")]] * 2
