"""The page in Chinese: nothing is missing, nothing is left over, and holes are those of the English text."""

import re

import pytest

from peft_studio.ui.words import LANGUAGES, dictionary
from tests import missing_words

HOLES = re.compile(r"\{\d+\}")


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_every_text_of_the_page_has_a_translation(language: str) -> None:
    assert missing_words.missing(language) == {}, "python -m tests.missing_words lists them"


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_no_translation_is_left_over(language: str) -> None:
    assert missing_words.unused(language) == [], "python -m tests.missing_words --drop removes them"


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_a_translation_has_no_hole_that_its_source_lacks(language: str) -> None:
    for source, text in dictionary(language).items():
        assert set(HOLES.findall(text)) <= set(HOLES.findall(source)), source
        assert text.strip() and text == text.strip(), source


def test_scripts_and_modules_are_read_as_they_are_shown() -> None:
    script = 'el("p", {}, `${count} of ${all} rows`); toast("Not " + "here.");'
    assert [text for text in missing_words.in_script(script) if " " in text] == ["{0} of {1} rows", "Not here."]
    tree = missing_words.ast.parse('"""Doc."""\nraise E(f"{name!r} is {size:,} MB, " "too much.")')
    assert list(missing_words.in_module(tree)) == ["{0} is {1} MB, too much."]
