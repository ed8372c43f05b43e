"""Pre-training text: reproducible, free of docstrings, of the task's format and of held-out names."""

import ast
import random
import re

import pytest

from peft_studio.pretraining import corpus, forms, records
from peft_studio.tasks import bistro
from peft_studio.tasks import small_world as world
from tests.tasks.invented import invented_words

_CAPITALISED = re.compile(r"[A-Z][a-z]+")


@pytest.fixture(scope="module")
def text() -> str:
    early, late = (corpus.shard(0, 0, 1000, use_library=False, late=late) for late in (False, True))
    return "\n".join([*early, *late])


def test_a_shard_depends_on_seed_number_and_split_only() -> None:
    first = corpus.shard(0, 3, 20, use_library=False)
    assert first == corpus.shard(0, 3, 20, use_library=False)
    assert first != corpus.shard(0, 4, 20, use_library=False)
    assert first != corpus.shard(1, 3, 20, use_library=False)
    assert first != corpus.shard(0, 3, 20, "validation", use_library=False)


@pytest.mark.parametrize("form", [form for form, _ in forms.FORMS], ids=lambda form: form.__name__)
def test_every_form_fills_all_marks(form: forms.Form) -> None:
    rng = random.Random(5)
    texts = [form(rng, "train") for _ in range(150)]
    assert len(set(texts)) > 140
    for text in texts:
        assert 15 <= len(text) <= 900
        assert not re.search(r"[{}\[\]<>|]|  ", text), text


def test_records_keep_away_from_the_task() -> None:
    rng = random.Random(6)
    for _ in range(400):
        text = records.record_document(rng, "train")
        assert not re.search(r"[{}\[\]<|]|  |=>|\bname\b|\bfood: |\bprice: ", text), text
    late = corpus.shard(0, 0, 300, use_library=False, late=True)
    assert late != corpus.shard(0, 0, 300, use_library=False)
    assert late == corpus.shard(0, 0, 300, use_library=False, late=True)


def test_articles() -> None:
    assert world.fix_articles("a expensive pub, A Italian cafe, a pub") == "an expensive pub, An Italian cafe, a pub"


def test_attribute_phrases_occur_in_prose(text: str) -> None:
    for value in (*world.PRICES, *world.RATINGS, *world.AREAS, *world.TYPES, *world.FOODS):
        assert value in text, value
    assert "is family friendly" in text
    assert "is not family friendly" in text


def test_the_task_is_not_in_the_text(text: str) -> None:
    assert " | " not in text
    assert "=>" not in text
    assert not re.search(r"\bname: |\bfood: |\bfamily friendly: |\brated: ", text)
    answers = {row.target.strip() for row in bistro.load("train")}
    assert not answers & set(text.splitlines())


def test_held_out_names_are_in_no_training_text(text: str) -> None:
    held_out = {
        word
        for split in ("validation", "test")
        for row in bistro.load(split)
        for key in ("name", "near")
        for word in invented_words(row.slots.get(key, ""))
    }
    known = " ".join([text, *(row.prompt + row.references[0] for row in bistro.load("train"))])
    assert not held_out & set(_CAPITALISED.findall(known))


def test_held_out_names_are_not_in_the_library_text() -> None:
    library = corpus.library("train")
    words = {word for part in (*library.topics, *library.code) for word in _CAPITALISED.findall(part)}
    held_out = {
        word
        for split in ("validation", "test")
        for row in bistro.load(split)
        for word in invented_words(row.slots["name"])
    }
    assert len(library.topics) > 300
    assert len(library.code) > 5000
    assert not held_out & words


def test_docstrings_and_comments_are_removed() -> None:
    source = '"""Module."""\nclass A:\n    """Class."""\n    def f(self):\n        """Does."""\n'
    source += '        return "kept"  # why\n'
    stripped = ast.unparse(corpus.without_docstrings(source))
    assert "kept" in stripped
    assert not re.search("Module|Class|Does|why", stripped)
    assert ast.get_docstring(ast.parse(stripped)) is None
    ast.parse(ast.unparse(corpus.without_docstrings('def f():\n    """Only text."""\n')))


def test_library_splits_are_disjoint() -> None:
    train, held_out = corpus.library("train"), corpus.library("validation")
    assert held_out.code
    assert held_out.topics
    assert not set(train.topics) & set(held_out.topics)
