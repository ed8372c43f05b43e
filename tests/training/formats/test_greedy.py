"""Many prompts at once are answered as each alone, and as a loop over whole forward passes would answer it."""

from typing import Any

import torch

from peft_studio.training.formats.greedy import greedy_answers
from peft_studio.training.formats.rows import encode_prompts
from peft_studio.training.formats.seam import completion_text

PROMPTS = [
    "food: Thai =>",
    "name: Biox Mill | food: Indian =>",
    "The",
    "name: Biox | price: cheap | near: Mill =>",
    "A",
]


def slow_answer(model: Any, tokenizer: Any, prompt: str, limit: int) -> str:
    """Greedy decoding without cache, padding or library: the definition."""
    ids = encode_prompts([prompt], tokenizer)[0]
    new: list[int] = []
    with torch.inference_mode():
        while len(new) < limit:
            logits = model(input_ids=torch.tensor([ids + new])).logits[0, -1]
            new.append(int(logits.argmax()))
            if new[-1] == tokenizer.eos_token_id:
                new.pop()
                break
    return completion_text(tokenizer, ids, new)


def test_batched_answers_equal_slow_ones(adapted: tuple[Any, Any]) -> None:
    model, tokenizer = adapted
    expected = [slow_answer(model, tokenizer, prompt, 12) for prompt in PROMPTS]
    assert len(set(expected)) > 1
    assert greedy_answers(model, tokenizer, PROMPTS, 12) == expected
    assert [greedy_answers(model, tokenizer, [prompt], 12) for prompt in PROMPTS] == [[text] for text in expected]


def test_decoding_stops_when_asked(different: tuple[Any, Any]) -> None:
    model, tokenizer = different
    assert greedy_answers(model, tokenizer, PROMPTS, 12, lambda: True) is None
