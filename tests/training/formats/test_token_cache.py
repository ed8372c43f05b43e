"""Tokenized rows from the cache are what tokenizing gives, whatever happens to the files."""

import os
import time
from pathlib import Path

import pytest

from peft_studio.errors import DataError
from peft_studio.models.layouts import Layout
from peft_studio.tasks import TASKS
from peft_studio.tasks.base import Row
from peft_studio.training.formats import token_cache
from peft_studio.training.formats.formats import Continuation, Format, format_for
from peft_studio.training.formats.rows import EncodedRows
from peft_studio.training.formats.token_cache import FEWEST_ROWS, encode_once
from peft_studio.training.load import layout_of, load_base, load_tokenizer

ROWS = TASKS["bistro"].load("train")[: FEWEST_ROWS + 50]


@pytest.fixture(scope="module")
def layout(tiny_model: Path) -> Layout:
    return layout_of(load_base(str(tiny_model))[0])


@pytest.fixture
def form(layout: Layout) -> Format:
    return format_for(layout, load_tokenizer("nano-lm"))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were tokenized, each time that any were."""
    found: list[int] = []
    plain = Continuation.encode

    def counted(self: Format, rows: list[Row], max_length: int) -> EncodedRows:
        found.append(len(rows))
        return plain(self, rows, max_length)

    monkeypatch.setattr(Continuation, "encode", counted)
    return found


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "tokens").iterdir())


@pytest.mark.parametrize("max_length", [128, 40])
def test_what_comes_from_the_cache_is_what_was_tokenized(
    form: Format, max_length: int, tmp_path: Path, calls: list[int]
) -> None:
    expected = form.encode(ROWS, max_length)
    assert encode_once(form, ROWS, max_length, tmp_path) == expected
    assert encode_once(form, ROWS, max_length, tmp_path) == expected
    assert len(calls) == 2 and len(entries(tmp_path)) == 1
    assert (max_length == 128) == (expected.cut + expected.dropped == 0), "the counts are to be tried, too"


def test_classification_and_two_texts(tmp_path: Path) -> None:
    for name, task in (("nano-encoder", "reviews"), ("nano-seq2seq", "bistro")):
        labels, rows = TASKS[task].labels, TASKS[task].load("train")[:FEWEST_ROWS]
        model, tokenizer = load_base(name, labels=labels)
        form = format_for(layout_of(model), tokenizer, labels)
        expected = form.encode(rows, 30)
        for _ in range(2):
            assert encode_once(form, rows, 30, tmp_path) == expected
    assert len(entries(tmp_path)) == 2


def test_everything_that_tokens_depend_on_makes_a_new_entry(form: Format, layout: Layout, tmp_path: Path) -> None:
    other = load_tokenizer("nano-lm")
    other.add_tokens(["Thai"])
    changed = [Row(ROWS[0].prompt[:-1], ROWS[0].prompt[-1] + ROWS[0].target), *ROWS[1:]]
    for number, (each, rows, length) in enumerate(
        [
            (form, ROWS, 128),
            (form, ROWS, 127),
            (form, changed, 128),
            (form, ROWS[1:], 128),
            (format_for(layout, other), ROWS, 128),
        ],
        1,
    ):
        assert encode_once(each, rows, length, tmp_path) == each.encode(rows, length)
        assert len(entries(tmp_path)) == number


def test_a_tokenizer_that_was_used_otherwise_finds_the_same_entry(form: Format, tmp_path: Path) -> None:
    encode_once(form, ROWS, 128, tmp_path)
    form.tokenizer(["one", "two words"], padding=True, truncation=True, max_length=4)
    encode_once(form, ROWS, 128, tmp_path)
    assert len(entries(tmp_path)) == 1


def test_a_damaged_entry_is_made_anew(form: Format, tmp_path: Path, calls: list[int]) -> None:
    expected = encode_once(form, ROWS, 128, tmp_path)
    (file,) = entries(tmp_path)
    good = file.read_bytes()
    flipped = good[:-9] + bytes([good[-9] ^ 1]) + good[-8:]
    for bad in (b"", b"nonsense", good[: len(good) // 2], flipped, good[:8] + b"{" * 64 + good[72:]):
        file.write_bytes(bad)
        calls.clear()
        for _ in range(2):
            assert encode_once(form, ROWS, 128, tmp_path) == expected
        assert len(calls) == 1, "it is made anew once"


def test_the_cache_stays_small_and_keeps_what_is_used(
    form: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_once(form, ROWS, 128, tmp_path)
    (first,) = entries(tmp_path)
    monkeypatch.setattr(token_cache, "MAX_BYTES", 3 * first.stat().st_size)
    for age, length in ((20, 127), (10, 126)):
        before = entries(tmp_path)
        encode_once(form, ROWS, length, tmp_path)
        (new,) = set(entries(tmp_path)) - set(before)
        os.utime(new, (time.time() - age,) * 2)
    os.utime(first, (time.time() - 1000,) * 2)
    encode_once(form, ROWS, 128, tmp_path)  # the oldest, but of use again
    draft = first.with_name("x.tmp")
    draft.touch()
    os.utime(draft, (time.time() - 2 * token_cache.LEFTOVER_SECONDS,) * 2)
    encode_once(form, ROWS, 125, tmp_path)
    left = entries(tmp_path)
    assert first in left and draft not in left
    assert sum(path.stat().st_size for path in left) <= token_cache.MAX_BYTES and len(left) >= 2


def test_nothing_is_kept_of_a_few_rows_or_of_what_is_too_large(
    form: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_once(form, ROWS[:20], 128, tmp_path)
    monkeypatch.setattr(token_cache, "MAX_BYTES", 1000)
    encode_once(form, ROWS, 128, tmp_path)
    assert not (tmp_path / "tokens").exists()


def test_a_folder_that_cannot_be_written_is_no_fault(form: Format, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("a file is in the way")
    assert encode_once(form, ROWS, 128, tmp_path) == form.encode(ROWS, 128)


def test_errors_are_those_of_tokenizing(form: Format, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="shortest"):
        encode_once(form, ROWS, 3, tmp_path)
    assert not (tmp_path / "tokens").exists()
