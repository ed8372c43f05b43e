"""The headlines task: sizes, lengths, held-out names, and headlines that say only what the item says."""

import re
from functools import cache

import pytest
from rouge_score.rouge_scorer import RougeScorer

from peft_studio.errors import DataError
from peft_studio.tasks import headlines
from peft_studio.tasks import small_world as world
from peft_studio.tasks.base import SPLITS, Row, Split
from peft_studio.tasks.headlines import HEADLINES, realised
from peft_studio.tasks.headlines_events import EVENTS
from tests.tasks.invented import invented_words


@cache
def all_rows() -> dict[Split, list[Row]]:
    """Rows by split; made when they are first asked for, because every test process imports this file."""
    return {split: headlines.load(split) for split in SPLITS}


@cache
def every_row() -> list[Row]:
    return [row for rows in all_rows().values() for row in rows]


def test_sizes_and_shape() -> None:
    assert {split: len(rows) for split, rows in all_rows().items()} == {"train": 3000, "validation": 300, "test": 300}
    for row in every_row():
        text = row.prompt.removesuffix("\nHeadline:")
        assert text != row.prompt
        assert "\n" not in text
        assert 50 <= len(text.split()) <= 90
        assert not re.search(r"[{}]|  | a [aeiou]", row.prompt)
        assert row.target == row.references[0]
        assert len(set(row.references)) == len(row.references)
        for headline in row.references:
            assert re.match(r" [A-Z0-9]", headline)
            assert 6 <= len(headline.split()) <= 10
    assert {len(row.references) for row in all_rows()["train"]} == {1}
    assert {len(row.references) for split in ("validation", "test") for row in all_rows()[split]} == {2, 3, 4}


def test_no_item_is_there_twice() -> None:
    assert len({row.prompt for row in every_row()}) == len(every_row())


def test_rows_are_the_same_each_time() -> None:
    headlines.load.cache_clear()
    assert {split: headlines.load(split) for split in SPLITS} == all_rows()


def test_names_of_the_splits_are_disjoint() -> None:
    for split, rows in all_rows().items():
        for row in rows:
            assert row.slots
            for name in row.slots.values():
                assert name in row.prompt
                assert {world.split_of(word) for word in invented_words(name)} == {split}
    seen = {word for row in all_rows()["train"] for word in re.findall(r"[A-Z]\w+", row.prompt)}
    for row in all_rows()["validation"] + all_rows()["test"]:
        assert not any(word in seen for name in row.slots.values() for word in invented_words(name))


def test_every_headline_holds_the_main_names_and_nothing_that_the_item_lacks() -> None:
    for row in every_row():
        for headline in row.references:
            assert all(realised(row.slots, headline).values())
            for part in re.findall(r"\d+|(?<= )[A-Z]\w+", headline[2:]):
                assert part.lower() in row.prompt.lower(), (headline, row.prompt)


def test_an_item_names_more_than_its_headline() -> None:
    for row in all_rows()["test"]:
        names = set(re.findall(r"[A-Z]\w+", row.prompt))
        assert len(names) > len(row.slots)
    assert len({tuple(row.slots) for row in every_row()}) > 4


def test_every_event_fills_every_headline_from_its_leads() -> None:
    for event in EVENTS:
        for headline in event.headlines:
            marks = set(re.findall(r"\{(.+?)\}", headline))
            assert set(event.names) <= marks
            assert all(marks <= set(re.findall(r"\{(.+?)\}", lead)) for lead in event.leads), headline


def test_scores_equal_the_library_and_counting() -> None:
    rows = all_rows()["test"][:60]
    texts = [row.target if at % 2 else rows[0].target for at, row in enumerate(rows)]
    figures = HEADLINES.score(rows, texts)
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    best = [
        max(scorer.score(reference, text)["rougeL"].fmeasure for reference in row.references)
        for row, text in zip(rows, texts, strict=True)
    ]
    assert figures["rougeL"] == pytest.approx(100 * sum(best) / 60)
    assert figures["name_accuracy"] == pytest.approx(100 * 31 / 60)
    assert HEADLINES.headline in figures


def test_scores_of_references_and_of_nothing() -> None:
    rows = all_rows()["validation"]
    assert set(HEADLINES.score(rows, [row.references[-1] for row in rows]).values()) == {100.0}
    assert set(HEADLINES.score(rows, [""] * 300).values()) == {0.0}
    with pytest.raises(DataError):
        HEADLINES.score(rows, ["x"])


def test_names_count_letter_by_letter() -> None:
    slots = {"town": "Quompet", "place": "The Biox Mill"}
    assert realised(slots, "The Biox Mill opens in Quompet") == {"town": True, "place": True}
    assert realised(slots, "The Biox Mills open in Quompetford") == {"town": False, "place": False}
