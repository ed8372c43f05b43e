"""The docstrings task and the reading of the standard library: pairs, splits by module, and missing sources."""

import ast
import zlib
from functools import cache
from pathlib import Path

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from peft_studio.errors import DataError
from peft_studio.tasks import docstrings, stdlib
from peft_studio.tasks.base import SPLITS, Row, Split
from peft_studio.tasks.docstrings import DOCSTRINGS, summary_of

pytestmark = pytest.mark.usefixtures("from_disk")


@cache
def all_rows() -> dict[Split, list[Row]]:
    """Rows by split, as another process made them; that they are the same each time is seen in test_kept_rows.py."""
    return {split: docstrings.load(split) for split in SPLITS}


@cache
def every_row() -> list[Row]:
    return [row for rows in all_rows().values() for row in rows]


def test_sizes_and_shape() -> None:
    sizes = {split: len(rows) for split, rows in all_rows().items()}
    assert 3000 < sum(sizes.values()) < 8000
    assert sizes["train"] > 0.7 * sum(sizes.values())
    assert min(sizes.values()) >= 200
    for row in every_row():
        source = row.prompt.removesuffix("\n# Summary:")
        assert source != row.prompt
        assert len(source) <= stdlib.MAX_CHARS
        assert row.references == (row.target,)
        assert row.target.startswith(" ")
        assert row.target.isascii()
        assert row.target[1:] == " ".join(row.target.split())
        assert 3 <= len(row.target.split()) <= 30


def test_a_prompt_is_one_function_without_docstrings() -> None:
    for row in all_rows()["test"]:
        (function,) = ast.parse(row.prompt).body
        assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        assert all(
            ast.get_docstring(node) is None
            for node in ast.walk(function)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        )


def test_no_function_is_there_twice() -> None:
    assert len({row.prompt for row in every_row()}) == len(every_row())


def test_modules_belong_to_one_split() -> None:
    for module in {function.module for function in stdlib.functions()}:
        rest = zlib.crc32(module.encode()) % 10
        assert stdlib.split_of(module) == {8: "validation", 9: "test"}.get(rest, "train")
        assert module not in ("test", "lib2to3", "site-packages")
    module_of = {docstrings.make_prompt(function.source): function.module for function in stdlib.functions()}
    for split, rows in all_rows().items():
        assert {stdlib.split_of(module_of[row.prompt]) for row in rows} == {split}


def test_the_library_is_read_once() -> None:
    assert stdlib.functions() is stdlib.functions()


@pytest.mark.parametrize(
    ("docstring", "summary"),
    [
        ("Return the size of a file.", "Return the size of a file."),
        ("Return the size\n    of a file.  It must exist.\n\nMore.", "Return the size of a file."),
        ("Read e.g. a file, i.e. All of it", "Read e.g. a file, i.e. All of it"),
        ("Too short", ""),
        ("a % b", ""),
        ("fetch(key, default) -> value of the key", ""),
        (">>> print one or two words", ""),
        ("One of the following is returned:", ""),
        ("Öffnet eine Datei zum Lesen", ""),
        ("word " * 31, ""),
        ("1 + 2 = 3 and ((4)) == [5, 6, 7]", ""),
        ("", ""),
    ],
)
def test_summaries(docstring: str, summary: str) -> None:
    assert summary_of(docstring) == summary


def test_what_is_read_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "pack").mkdir()
    code = 'class A:\n    def f(self):\n        """Say it."""  # not\n\n    def g(self):\n        return 1\n'
    (tmp_path / "test" / "a.py").write_text("def hidden(): pass", encoding="utf-8")
    (tmp_path / "pack" / "a.py").write_text(code, encoding="utf-8")
    (tmp_path / "broken.py").write_text("def (", encoding="utf-8")
    (tmp_path / "same.py").write_text("def g(self): return 1", encoding="utf-8")
    monkeypatch.setattr(stdlib.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    assert stdlib.functions.__wrapped__() == (
        stdlib.Function("pack", "def f(self):\n    pass", "Say it."),
        stdlib.Function("pack", "def g(self):\n    return 1", ""),
    )


def test_sources_that_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path, tmp_path / "python311.zip"):
        monkeypatch.setattr(stdlib.sysconfig, "get_paths", lambda: {"stdlib": str(folder)})  # noqa: B023
        with pytest.raises(DataError, match="not installed"):
            stdlib.functions.__wrapped__()


def test_scores_equal_the_libraries() -> None:
    rows = all_rows()["test"][:50]
    texts = [row.target if at % 2 else "" for at, row in enumerate(rows)]
    figures = DOCSTRINGS.score(rows, texts)
    references = [row.target.strip() for row in rows]
    stripped = [text.strip() for text in texts]
    scorer = RougeScorer(["rouge2"], use_stemmer=False)
    assert figures["bleu"] == sacrebleu.corpus_bleu(stripped, [references]).score
    assert figures["chrf"] == sacrebleu.corpus_chrf(stripped, [references]).score
    found = [scorer.score(one, two)["rouge2"].fmeasure for one, two in zip(references, texts, strict=True)]
    assert figures["rouge2"] == pytest.approx(100 * sum(found) / 50)
    assert DOCSTRINGS.headline in figures
