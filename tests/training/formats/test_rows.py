"""Tokenized rows, padded batches and the order of batches."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from peft_studio.errors import DataError
from peft_studio.tasks.base import Row
from peft_studio.tasks.batching import LengthGroupedBatches
from peft_studio.training.formats.rows import IGNORED, batches_by_length, collate, encode_prompts, encode_rows

ROWS = [
    Row("food: Thai =>", " A Thai place."),
    Row("name: Biox Mill | food: Indian =>", " Biox Mill serves Indian food."),
]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def test_rows_become_prompt_target_and_end(tokenizer: Any) -> None:
    encoded = encode_rows(ROWS, tokenizer, 256)
    assert (encoded.cut, encoded.dropped) == (0, 0)
    for row, example in zip(ROWS, encoded.examples, strict=True):
        assert tokenizer.decode(example.ids[: example.prompt_length]) == row.prompt
        assert tokenizer.decode(example.ids[example.prompt_length : -1]) == row.target
        assert example.ids[-1] == tokenizer.eos_token_id
        assert example.targets == len(example.ids) - example.prompt_length


def test_long_prompts_lose_their_beginning(tokenizer: Any) -> None:
    whole = encode_rows(ROWS, tokenizer, 256).examples[1]
    encoded = encode_rows(ROWS[1:], tokenizer, len(whole.ids) - 3)
    assert encoded.cut == 1
    assert encoded.examples[0].ids == whole.ids[3:]
    assert encoded.examples[0].targets == whole.targets


def test_rows_whose_target_does_not_fit_are_dropped(tokenizer: Any) -> None:
    short, long = (example.targets for example in encode_rows(ROWS, tokenizer, 256).examples)
    assert short < long
    encoded = encode_rows(ROWS, tokenizer, long)
    assert len(encoded.examples) == encoded.dropped == 1


def test_no_usable_row_is_an_error_with_numbers(tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"None of the 2 rows .* at most 3 "):
        encode_rows(ROWS, tokenizer, 3)
    with pytest.raises(DataError, match="no rows"):
        encode_rows([], tokenizer, 30)


def test_an_empty_prompt_still_has_a_token(tokenizer: Any) -> None:
    assert encode_prompts([""], tokenizer) == [[tokenizer.bos_token_id]]


def test_collate_labels_only_targets(tokenizer: Any) -> None:
    examples = encode_rows(ROWS, tokenizer, 256).examples
    batch = collate(examples, tokenizer.pad_token_id)
    assert batch["input_ids"].shape == batch["labels"].shape == (2, max(len(example.ids) for example in examples))
    assert batch["tokens"] == sum(len(example.ids) for example in examples)
    for row, example in enumerate(examples):
        labelled = batch["labels"][row] != IGNORED
        assert int(labelled.sum()) == example.targets
        assert batch["labels"][row][labelled].tolist() == example.ids[example.prompt_length :]
        assert batch["input_ids"][row, : len(example.ids)].tolist() == example.ids
        assert set(batch["input_ids"][row, len(example.ids) :].tolist()) <= {tokenizer.pad_token_id}
    assert batch["input_ids"].dtype == torch.int64


def test_batches_are_full_and_every_row_comes_equally_often() -> None:
    lengths = [(7 * row) % 50 for row in range(103)]
    batches = list(LengthGroupedBatches(lengths, 8, 103, seed=0, megabatch=50))
    assert len(batches) == len(LengthGroupedBatches(lengths, 8, 103, seed=0, megabatch=50)) == 103
    assert {len(batch) for batch in batches} == {8}
    assert set(Counter(row for batch in batches for row in batch).values()) == {8}


def test_batches_depend_on_the_seed_only() -> None:
    lengths = list(range(100))
    first, again, other = (list(LengthGroupedBatches(lengths, 4, 60, seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_batches_group_lengths_without_ordering_them() -> None:
    lengths = [(7919 * row) % 200 for row in range(2000)]
    batches = list(LengthGroupedBatches(lengths, 10, 100, seed=0, megabatch=50))
    spread = [max(lengths[row] for row in batch) - min(lengths[row] for row in batch) for batch in batches]
    assert sum(spread) / len(spread) < 15
    means = [sum(lengths[row] for row in batch) / 10 for batch in batches]
    assert means != sorted(means)


def test_evaluation_batches_hold_every_example_within_the_budget(tokenizer: Any) -> None:
    examples = encode_rows([Row("x" * size + " =>", " y") for size in range(1, 60)], tokenizer, 256).examples
    batches = batches_by_length(examples, max_tokens=128)
    assert sorted(len(example.ids) for batch in batches for example in batch) == sorted(len(e.ids) for e in examples)
    assert all(len(batch) == 1 or len(batch) * max(len(e.ids) for e in batch) <= 128 for batch in batches)


def test_batches_of_a_classification_hold_every_class_in_its_share() -> None:
    rng = random.Random(0)
    classes = [int(rng.random() < 0.25) for _ in range(900)]
    lengths = [rng.randint(5, 60) for _ in classes]
    batches = list(LengthGroupedBatches(lengths, 16, 120, seed=0, classes=classes, megabatch=50))
    assert Counter(len(batch) for batch in batches) == {16: 120}
    assert all(2 <= sum(classes[row] for row in batch) <= 6 for batch in batches)
    by_chance = LengthGroupedBatches(lengths, 16, 120, seed=0, megabatch=50)
    assert not all(2 <= sum(classes[row] for row in batch) <= 6 for batch in by_chance)
    spread = sum(max(lengths[row] for row in batch) - min(lengths[row] for row in batch) for batch in batches) / 120
    assert spread < 10
