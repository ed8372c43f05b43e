"""Labels that are one value written in several ways."""

import pytest

from peft_studio.tasks.reading.labels import folded, name_of, spelling_notes, spellings


@pytest.mark.parametrize(
    "same",
    [
        ("1", "1.0", " 1 ", "+1", "1.", "１"),
        ("0", "-0", "0.0", "-0.0"),
        ("true", "True", "TRUE", " true"),
        ("0.5", "0.50"),
        ("Very good", "very  good", "VERY GOOD "),
    ],
)
def test_spellings_of_one_value_are_the_same(same: tuple[str, ...]) -> None:
    assert len(set(map(folded, same))) == 1


def test_different_values_stay_apart() -> None:
    labels = ["1", "10", "01", "-1", "1.5", "true", "yes", "a b", "ab", "1e1", "0.05", "0.5"]
    assert len(set(map(folded, labels))) == len(labels)


def test_the_most_frequent_spelling_names_a_label() -> None:
    found = spellings(["1.0", "1.0", "1", "Yes", "no", "TRUE", "TRUE", "true"])
    assert [name_of(ways) for ways in found.values()] == ["1.0", "Yes", "no", "true"]
    (note,) = spelling_notes(found)
    assert "1.0 (also 1)" in note and "true (also TRUE)" in note and "Yes" not in note
    assert spelling_notes(spellings(["a", "b"])) == []
