"""The reviews task: sizes, balance, words kept out of training, and labels that no count of words gives away."""

import re
from collections import Counter
from functools import cache

import pytest
from sklearn.metrics import accuracy_score, f1_score

from peft_studio.errors import DataError
from peft_studio.tasks import reviews
from peft_studio.tasks.base import SPLITS, Row, Split
from peft_studio.tasks.reviews import HELD_OUT, NEGATIVE, POSITIVE, REVIEWS

CLASS_OF = {word: label for topic in reviews._TOPICS for label, some in topic.opinions.items() for word in some}


@cache
def all_rows() -> dict[Split, list[Row]]:
    """Rows by split; made when they are first asked for, because every test process imports this file."""
    return {split: reviews.load(split) for split in SPLITS}


@cache
def every_row() -> list[Row]:
    return [row for rows in all_rows().values() for row in rows]


def words_of(row: Row) -> list[str]:
    return re.findall(r"[\w-]+", row.prompt.lower())


def test_sizes_and_balance() -> None:
    assert {split: len(rows) for split, rows in all_rows().items()} == {"train": 6000, "validation": 300, "test": 300}
    for rows in all_rows().values():
        assert set(Counter(row.target for row in rows).values()) == {len(rows) // 2}
    for row in every_row():
        assert row.references == (row.target,)
        assert row.target in REVIEWS.labels
        assert 1 <= len(re.findall(r"\.(?= |$)", row.prompt)) <= 6
        assert row.prompt[0].isupper()
        assert not re.search(r"[{}]|  | a [aeiou]", row.prompt)


def test_no_review_is_there_twice() -> None:
    assert len({row.prompt for row in every_row()}) == len(every_row())


def test_rows_are_the_same_each_time() -> None:
    reviews._rows.cache_clear()
    assert {split: reviews.load(split) for split in SPLITS} == all_rows()


def test_a_tenth_of_the_opinion_words_is_held_out() -> None:
    assert len(HELD_OUT) == pytest.approx(len(CLASS_OF) / 10)
    assert Counter(CLASS_OF[word] for word in HELD_OUT) == {POSITIVE: len(HELD_OUT) / 2, NEGATIVE: len(HELD_OUT) / 2}
    assert not any(HELD_OUT & set(words_of(row)) for row in all_rows()["train"])
    for split in ("validation", "test"):
        share = sum(bool(HELD_OUT & set(words_of(row))) for row in all_rows()[split]) / 300
        assert 0.15 < share < 0.4
    seen = {word for row in all_rows()["train"] for word in words_of(row)}
    assert set(CLASS_OF) - HELD_OUT <= seen


def test_every_plan_serves_both_classes() -> None:
    for plans in reviews._PLANS:
        for plan in plans:
            assert "{same}" in plan or "{other}" in plan


def test_the_majority_of_opinion_words_does_not_tell_enough() -> None:
    right = 0.0
    for row in all_rows()["test"]:
        balance = sum({POSITIVE: 1, NEGATIVE: -1}.get(CLASS_OF.get(word, ""), 0) for word in words_of(row))
        right += 0.5 if balance == 0 else (balance > 0) == (row.target == POSITIVE)
    assert 0.35 < right / 300 < 0.8


def test_scores_equal_scikit_learn() -> None:
    rows = all_rows()["test"]
    targets = [row.target for row in rows]
    answers = [POSITIVE if at % 3 else row.target for at, row in enumerate(rows)]
    figures = REVIEWS.score(rows, answers)
    assert figures["accuracy"] == pytest.approx(100 * accuracy_score(targets, answers))
    assert figures["macro_f1"] == pytest.approx(100 * f1_score(targets, answers, average="macro"))
    assert REVIEWS.headline in figures
    assert REVIEWS.score(rows, targets) == {"accuracy": 100.0, "macro_f1": 100.0}
    assert REVIEWS.score(rows, [""] * 300) == {"accuracy": 0.0, "macro_f1": 0.0}
    with pytest.raises(DataError):
        REVIEWS.score(rows, answers[:1])
