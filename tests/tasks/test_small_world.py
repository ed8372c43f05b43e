"""Invented names: one split for each word, no overlap, readable shapes."""

import random
import subprocess
import sys

import pytest

from peft_studio.tasks import small_world as world
from peft_studio.tasks.base import Split
from tests.tasks.invented import invented_words


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_invented_words_belong_to_the_split_asked_for(split: Split) -> None:
    rng = random.Random(1)
    words = [world.invent(rng, split) for _ in range(300)]
    assert {world.split_of(word) for word in words} == {split}
    assert all(word.isalpha() and word.isascii() and word.istitle() for word in words)


def test_names_hold_an_invented_word_and_repeat_with_the_seed() -> None:
    names = [world.venue(random.Random(seed), "test") for seed in range(200)]
    assert names == [world.venue(random.Random(seed), "test") for seed in range(200)]
    for name in names:
        invented = invented_words(name)
        assert len(invented) == 1
        assert world.split_of(invented[0]) == "test"


def test_split_ignores_case() -> None:
    assert world.split_of("Quompet") == world.split_of("quompet")


def test_the_modules_that_the_web_process_reads_do_not_import_torch() -> None:
    code = (
        "import sys, peft_studio.tasks.small_world, peft_studio.tasks.bistro, peft_studio.tasks.metrics as m;"
        "assert not {'torch', 'transformers', 'sacrebleu'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
