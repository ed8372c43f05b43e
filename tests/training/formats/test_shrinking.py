"""Rows that have ended leave the batch, and every answer is what the library's own loop writes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from peft_studio.training.formats import shrinking
from peft_studio.training.formats.greedy import DECODING, pad_id
from peft_studio.training.formats.rows import encode_prompts, pad_rows
from peft_studio.training.formats.shrinking import can_shrink, decode_shrinking
from peft_studio.training.load import load_base
from tests.training.conftest import make_adapted

PROMPTS = ["food: Thai =>", "name: Biox Mill | food: Indian =>", "The", "name: Biox | price: cheap =>", "A", "B"]


def by_the_library(model: Any, ids: torch.Tensor, mask: torch.Tensor, limit: int, ends: list[int], pad: int) -> Any:
    output = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=limit, eos_token_id=ends, pad_token_id=pad, **DECODING
    )
    rows = output[:, ids.shape[1] :].tolist()
    return [row[: next((at for at, token in enumerate(row) if token in ends), limit)] for row in rows]


@pytest.mark.parametrize("family", ["tiny", "gpt2", "opt", "gpt_neox", "qwen3"])
def test_answers_are_the_librarys(family: str, tiny_model: Path, families: dict[str, Path]) -> None:
    model, tokenizer = load_base(str(tiny_model if family == "tiny" else families[family]))
    assert can_shrink(model)
    ids, mask = pad_rows(encode_prompts(PROMPTS, tokenizer), pad_id(tokenizer), left=True)
    free = by_the_library(model, ids, mask, 12, [], pad_id(tokenizer))
    ends = [free[0][2], free[3][6], free[5][4]]  # so that rows end at several times
    expected = by_the_library(model, ids, mask, 12, ends, pad_id(tokenizer))
    assert decode_shrinking(model, ids, mask, 12, ends) == expected
    assert decode_shrinking(model, ids, mask, 12, []) == free


def test_rows_that_ended_are_computed_no_more(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrinking, "SHARE", 0.01)
    model, tokenizer = load_base(str(tiny_model))
    ids, mask = pad_rows(encode_prompts(PROMPTS, tokenizer), pad_id(tokenizer), left=True)
    free = decode_shrinking(model, ids, mask, 9, [])
    ends, sizes = [free[0][2], free[1][4]], []
    model.register_forward_pre_hook(lambda _m, _a, given: sizes.append(len(given["input_ids"])), with_kwargs=True)
    found = decode_shrinking(model, ids, mask, 9, ends)
    assert sizes[0] == len(PROMPTS) and sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0]
    assert sum(sizes) <= sum(map(len, found)) + len(PROMPTS)


def test_others_are_left_to_the_library(tiny_model: Path, families: dict[str, Path]) -> None:
    assert not can_shrink(make_adapted(tiny_model, "prefix")[0])
    assert can_shrink(make_adapted(tiny_model, "lora")[0])
    assert not can_shrink(load_base(str(families["t5"]))[0])
    model, _ = load_base(str(tiny_model))
    model.generation_config.suppress_tokens = [3]
    assert not can_shrink(model)
