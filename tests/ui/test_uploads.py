"""Uploads are kept by their contents under safe names, and removed once nobody needs them."""

import os
import re
import time
from pathlib import Path

import pytest

from peft_studio.config.run_config import parse_config
from peft_studio.errors import DataError
from peft_studio.runs.store import RunStore
from peft_studio.tasks import kept_rows
from peft_studio.tasks.custom import table_facts
from peft_studio.tasks.reading import table_cache
from peft_studio.ui.uploads import KEEP_DAYS, clean_uploads, keep_upload, safe_name

WEEK = KEEP_DAYS * 24 * 3600


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A file as somebody uploads it."""
    path = tmp_path / "my rows.csv"
    path.write_text("question,answer\n" + "".join(f"q {i},a {i}\n" for i in range(40)), encoding="utf-8")
    return path


def test_an_upload_is_kept_by_its_contents(tmp_path: Path, table: Path) -> None:
    kept = keep_upload(table, tmp_path / "home")
    assert kept.read_bytes() == table.read_bytes()
    assert kept.name == "my_rows.csv" and kept.parent.parent == tmp_path / "home" / "uploads"
    assert re.fullmatch("[0-9a-f]{16}", kept.parent.name)
    assert keep_upload(table, tmp_path / "home") == kept
    assert [path.name for path in kept.parent.iterdir()] == ["my_rows.csv"]


def test_too_large_files_are_refused(tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peft_studio.ui.uploads.MAX_BYTES", 10)
    with pytest.raises(DataError, match="larger than"):
        keep_upload(table, tmp_path / "home")
    assert not (tmp_path / "home" / "uploads").exists()


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a b;$(x).csv", "a_b_x.csv"), ("..csv", "data.csv"), ("数据.JSONL", "数据.jsonl"),
        ("x" * 300 + ".tsv", "x" * 80 + ".tsv"),
        ("<img>.parquet", "img.parquet"), ("-rf.csv", "-rf.csv"),
    ],
)  # fmt: skip
def test_names_are_made_safe(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_old_uploads_go_unless_a_run_names_them(tmp_path: Path, table: Path) -> None:
    home = tmp_path / "home"
    used = keep_upload(table, home)
    table.write_text(table.read_text() + "more,rows\n", encoding="utf-8")
    unused = keep_upload(table, home)
    task = {"id": "custom", "train_file": str(used)}
    store = RunStore(home / "runs")
    run = store.create(parse_config({"task": task, "method": {"name": "lora"}}), "").id
    (home / "uploads" / "mine").mkdir()
    assert clean_uploads(home, store.root) == []  # too new
    later = time.time() + WEEK + 60
    assert clean_uploads(home, store.root, later) == [unused.parent]
    assert used.is_file() and not unused.parent.exists() and (home / "uploads" / "mine").is_dir()
    store.delete(run)
    assert clean_uploads(home, store.root, later) == [used.parent]


def test_what_was_read_of_an_upload_goes_with_it(tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    kept = keep_upload(table, home)
    monkeypatch.setattr(kept_rows, "_folder", [home / "cache"])
    monkeypatch.setattr(table_cache, "_reads_here", [True])
    table_facts(kept)
    table_facts(table)
    assert len(list((home / "cache" / "tables").glob("*/summary.json"))) == 2
    clean_uploads(home, home / "runs", time.time() + WEEK + 60)
    (left,) = (home / "cache" / "tables").glob("*/summary.json")
    assert str(table) in left.read_text()


def test_an_upload_brought_again_is_new_again(tmp_path: Path, table: Path) -> None:
    home = tmp_path / "home"
    kept = keep_upload(table, home)
    for place in (kept, kept.parent):
        os.utime(place, (0, 0))
    keep_upload(table, home)
    assert clean_uploads(home, home / "runs") == []
    os.utime(kept, (0, 0))
    assert clean_uploads(home, home / "runs") == [kept.parent]


def test_a_config_that_cannot_be_read_keeps_all(tmp_path: Path, table: Path) -> None:
    home = tmp_path / "home"
    kept = keep_upload(table, home)
    (home / "runs" / "odd" / "config.json").mkdir(parents=True)  # a folder where a file should be
    assert clean_uploads(home, home / "runs", time.time() + WEEK + 60) == []
    assert kept.is_file()
    assert clean_uploads(tmp_path / "no home", home / "runs") == []
