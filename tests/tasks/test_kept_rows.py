"""Rows are made once and kept; whatever is wrong with what was kept, they are made again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from peft_studio.tasks import kept_rows
from peft_studio.tasks.base import Row
from peft_studio.tasks.kept_rows import kept, use_folder

PAIRS = [("def f(): pass", " Does nothing."), ("größe\n", "🙂 ok")]
ROWS = tuple(Row(prompt, target, (target,)) for prompt, target in PAIRS)


class Maker:
    """Counts how often the rows are made."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> list[tuple[str, str]]:
        self.calls += 1
        return list(PAIRS)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    use_folder(tmp_path / "cache")
    yield tmp_path / "cache"
    kept_rows._folder.clear()


def test_rows_are_made_once(folder: Path) -> None:
    make = Maker()
    assert kept("a-train", make) == kept("a-train", make) == ROWS
    assert make.calls == 1
    assert kept("a-test", make) == ROWS and make.calls == 2
    assert sorted(path.name for path in folder.iterdir()) == ["rows-a-test.json", "rows-a-train.json"]


def test_nothing_is_kept_without_a_folder(tmp_path: Path) -> None:
    make = Maker()
    assert kept("a-train", make) == kept("a-train", make) == ROWS
    assert make.calls == 2


@pytest.mark.parametrize(
    "damage",
    ["", "[", "[]", '{"key": 1}', '{"key": KEY, "rows": []}', '{"key": KEY, "rows": [["a"]]}',
     '{"key": KEY, "rows": [["a", 1]]}', '{"key": KEY, "rows": null}', '{"key": "other", "rows": [["a", "b"]]}'],
)  # fmt: skip
def test_damaged_or_old_files_are_replaced(folder: Path, damage: str) -> None:
    make = Maker()
    kept("a-train", make)
    file = folder / "rows-a-train.json"
    good = file.read_text(encoding="ascii")
    file.write_text(damage.replace("KEY", json.dumps(json.loads(good)["key"])), encoding="ascii")
    assert kept("a-train", make) == ROWS and make.calls == 2
    assert file.read_text(encoding="ascii") == good


def test_a_home_that_is_gone_is_not_made_again(tmp_path: Path, folder: Path) -> None:
    use_folder(tmp_path / "gone" / "cache")
    assert kept("a-train", Maker()) == ROWS
    assert not (tmp_path / "gone").exists()


def test_rows_of_the_library_are_the_same_from_disk(library_rows: Path, folder: Path) -> None:
    from peft_studio.tasks import defects, docstrings

    use_folder(library_rows)
    assert len(list(library_rows.iterdir())) == 6
    for name, module in (("docstrings", docstrings), ("defects", defects)):
        made = [Row(prompt, target, (target,)) for prompt, target in module._make("validation")]
        assert list(kept(f"{name}-validation", pytest.fail)) == made  # type: ignore[arg-type]
