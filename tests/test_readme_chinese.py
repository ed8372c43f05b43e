"""The Chinese README says what the English one says: same headings, commands, settings, pictures and names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2]
CHINESE = (ROOT / "tests" / "README.zh.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```.*?^```$", re.S | re.M)


def without_blocks(text: str) -> str:
    """A README without its code."""
    return BLOCK.sub("", text)


def rows(text: str) -> list[tuple[str, int]]:
    """First cell and number of cells of each row of a table; heads, which are words, without their texts."""
    found = [line.strip("| ").split(" | ") for line in without_blocks(text).splitlines() if line.startswith("|")]
    return [(cells[0] if "`" in cells[0] or "-" in cells[0] else "", len(cells)) for cells in found]


def test_code_is_the_same() -> None:
    assert BLOCK.findall(CHINESE) == BLOCK.findall(ENGLISH), "python -m tests.missing_words --readme copies it"


def test_headings_and_tables_have_one_structure() -> None:
    levels = [re.findall(r"^(#+) ", without_blocks(text), re.M) for text in (ENGLISH, CHINESE)]
    assert levels[1] == levels[0]
    assert rows(CHINESE) == rows(ENGLISH)


@pytest.mark.parametrize("heading", range(len(re.findall(r"^#+ ", without_blocks(ENGLISH), re.M))))
def test_a_section_names_the_same_things(heading: int) -> None:
    """Paths, commands, settings and pictures; one that is named once more for good measure does no harm."""
    english, chinese = (
        re.split(r"^#+ .*\n", without_blocks(text), flags=re.M)[1:][heading] for text in (ENGLISH, CHINESE)
    )
    code = re.compile(r"`([^`]+)`")
    assert {" ".join(name.split()) for name in code.findall(chinese)} == {
        " ".join(name.split()) for name in code.findall(english)
    }
    picture = re.compile(r"!\[.*?\]\((?:tests/)?(.*?)\)")
    assert picture.findall(chinese) == picture.findall(english)


def test_each_links_to_the_other() -> None:
    assert "(tests/README.zh.md)" in ENGLISH and "(../README.md)" in CHINESE
