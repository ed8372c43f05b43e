"""The bistro task: sizes, held-out names, references that state every value, and a score that sees wrong ones."""

import random
import time
from functools import cache

import pytest
import sacrebleu

from peft_studio.errors import DataError
from peft_studio.tasks import bistro
from peft_studio.tasks import small_world as world
from peft_studio.tasks.base import SPLITS, Row, Split
from peft_studio.tasks.bistro import BISTRO, realised
from tests.tasks.invented import invented_words


@cache
def all_rows() -> dict[Split, list[Row]]:
    """Rows by split; made when they are first asked for, because every test process imports this file."""
    return {split: bistro.load(split) for split in SPLITS}


@cache
def every_row() -> list[Row]:
    return [row for rows in all_rows().values() for row in rows]


def other_value(rng: random.Random, key: str, value: str) -> str:
    if key in ("name", "near"):
        return world.venue(rng, "test")
    return rng.choice([other for other in bistro._VALUES[key] if other != value])


def test_sizes_and_shape() -> None:
    assert {split: len(rows) for split, rows in all_rows().items()} == {"train": 3200, "validation": 300, "test": 300}
    for row in every_row():
        assert 3 <= len(row.slots) <= 8
        assert row.prompt.startswith("name: ")
        assert row.prompt.endswith(" =>")
        assert row.target == row.references[0]
        assert all(text.startswith(" ") and text[1] != " " for text in row.references)
    assert all(5 <= len(row.references) <= 8 for split in ("validation", "test") for row in all_rows()[split])


def test_every_prompt_and_reference_is_distinct() -> None:
    assert len({row.prompt for row in every_row()}) == len(every_row())
    assert all(len(set(row.references)) == len(row.references) for row in every_row())


def test_rows_are_the_same_each_time_and_made_fast() -> None:
    bistro.load.cache_clear()
    start = time.process_time()
    again = {split: bistro.load(split) for split in SPLITS}
    assert time.process_time() - start < 3
    assert again == all_rows()


def test_names_of_the_splits_are_disjoint() -> None:
    for split, rows in all_rows().items():
        for row in rows:
            for key in {"name", "near"} & set(row.slots):
                words = invented_words(row.slots[key])
                assert words
                assert {world.split_of(word) for word in words} == {split}


def test_every_reference_states_every_value() -> None:
    for row in every_row():
        for text in row.references:
            found = realised(row.slots, text)
            assert set(found) == set(row.slots)
            assert all(found.values()), (row.slots, text, found)


def test_a_wrong_value_is_seen() -> None:
    rng = random.Random(3)
    for row in every_row():
        for key, value in row.slots.items():
            wrong = {**row.slots, key: other_value(rng, key, value)}
            for text in row.references[:2]:
                found = realised(wrong, text)
                assert not found[key], (key, wrong[key], text)
                if key not in ("name", "near"):
                    assert sum(found.values()) == len(found) - 1


def test_a_missing_or_misspelt_value_is_seen() -> None:
    slots = {"name": "Biox Mill", "price": "moderate", "family friendly": "no", "near": "The Golden Zorvil"}
    good = "Biox Mill has moderate prices, is not family friendly and is near The Golden Zorvil."
    assert all(realised(slots, good).values())
    assert not realised(slots, good.replace("moderate", "oderate"))["price"]
    assert not realised(slots, good.replace("Mill", "Mills"))["name"]
    assert not realised(slots, good.replace("not ", ""))["family friendly"]
    assert not realised(slots, good + " It is cheap.")["price"]
    assert not any(realised(slots, "").values())


def test_descriptions_vary() -> None:
    def plan(row: Row) -> str:
        text = row.target
        for key, value in sorted(row.slots.items(), key=lambda item: -len(item[1])):
            text = text.replace(value, key)
        return text

    assert len({plan(row) for row in all_rows()["train"]}) > 2400


def test_scores_equal_sacrebleu_and_counting() -> None:
    rows = all_rows()["test"][:60]
    rng = random.Random(4)
    texts = [rng.choice(row.references) if rng.random() < 0.6 else rows[0].target for row in rows]
    figures = BISTRO.score(rows, texts)
    hypotheses = [text.strip() for text in texts]
    streams = [[row.references[at].strip() if at < len(row.references) else None for row in rows] for at in range(8)]
    assert figures["bleu"] == sacrebleu.corpus_bleu(hypotheses, streams).score
    assert figures["chrf"] == sacrebleu.corpus_chrf(hypotheses, streams).score
    assert figures["name_accuracy"] == pytest.approx(
        100 * sum(row.slots["name"] in text for row, text in zip(rows, texts, strict=True)) / 60
    )
    assert 0 < figures["slots_exact"] < figures["slot_accuracy"] < 100


def test_scores_of_references_and_of_nothing() -> None:
    rows = all_rows()["validation"]
    best = BISTRO.score(rows, [row.references[-1] for row in rows])
    assert all(best[key] == pytest.approx(100) for key in best)
    worst = BISTRO.score(rows, [""] * len(rows))
    assert all(value == 0 for value in worst.values())
    assert BISTRO.headline in best


def test_wrong_number_of_predictions() -> None:
    with pytest.raises(DataError, match="1 predictions were given for 2 rows"):
        BISTRO.score(all_rows()["test"][:2], ["x"])
    with pytest.raises(DataError):
        BISTRO.score([], [])
