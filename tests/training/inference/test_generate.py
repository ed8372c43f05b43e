"""Columns of text: deterministic for a seed, independent of each other, stoppable, and checked beforehand."""

import threading
import time
from collections import Counter
from typing import Any

import pytest
import torch

from peft_studio.config.sampling import Sampling, parse_sampling
from peft_studio.errors import ConfigError
from peft_studio.training.formats.greedy import greedy_answers
from peft_studio.training.inference.generate import SeededSampler, stream_columns

PROMPT = "name: Biox Mill | food: Thai =>"


def last(models: Any, tokenizer: Any, sampling: Sampling, prompt: str = PROMPT) -> list[dict[str, Any]]:
    """The final states of a stream."""
    *_, states = stream_columns(models, tokenizer, prompt, sampling)
    return states


def test_greedy_column_says_what_evaluation_says(different: tuple[Any, Any]) -> None:
    model, tokenizer = different
    (state,) = last([("base", model)], tokenizer, Sampling(max_new_tokens=12))
    expected = greedy_answers(model, tokenizer, [PROMPT], 12)
    assert expected is not None
    assert state["text"] == expected[0].rstrip("\ufffd")
    assert state["done"] and state["name"] == "base" and 0 < state["tokens"] <= 12 and state["seconds"] > 0


def test_sampling_is_deterministic_for_a_seed(different: tuple[Any, Any]) -> None:
    model, tokenizer = different
    texts = [
        last([("a", model)], tokenizer, Sampling(max_new_tokens=16, temperature=1.5, seed=seed))[0]["text"]
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_columns_do_not_disturb_each_other(different: tuple[Any, Any]) -> None:
    model, tokenizer = different
    sampling = Sampling(max_new_tokens=12, temperature=1.0, seed=3)
    (alone,) = last([("a", model)], tokenizer, sampling)
    together = last([("a", model), ("b", model)], tokenizer, sampling)
    assert [state["text"] for state in together] == [alone["text"]] * 2


def test_noise_draws_from_the_filtered_distribution() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    sampler = SeededSampler(Sampling(temperature=1.0, top_k=3), torch.device("cpu"))
    ids = torch.zeros(1, 1, dtype=torch.long)
    drawn = Counter(int(sampler(ids, logits).argmax()) for _ in range(4000))
    assert drawn[3] == 0
    for token, probability in enumerate((0.5, 0.3, 0.15)):
        assert drawn[token] / 4000 == pytest.approx(probability / 0.95, abs=0.03)


def test_closing_the_stream_stops_the_columns(different: tuple[Any, Any]) -> None:
    model, tokenizer = different
    stream = stream_columns([("a", model)], tokenizer, PROMPT, Sampling(max_new_tokens=400, temperature=2.0))
    next(stream)
    begun = time.perf_counter()
    stream.close()
    assert time.perf_counter() - begun < 2
    assert not [thread for thread in threading.enumerate() if thread.name == "column-a"]


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_empty_prompts_are_refused(different: tuple[Any, Any], prompt: str) -> None:
    model, tokenizer = different
    with pytest.raises(ConfigError, match="prompt is empty"):
        last([("a", model)], tokenizer, Sampling(), prompt)


def test_too_long_prompts_are_refused_with_numbers(different: tuple[Any, Any]) -> None:
    model, tokenizer = different
    with pytest.raises(ConfigError, match=r"510 more are wanted, but a reads .* new tokens fit"):
        last([("a", model)], tokenizer, Sampling(max_new_tokens=510))


def test_characters_of_several_bytes_arrive_whole(different: tuple[Any, Any]) -> None:
    model, tokenizer = different
    for states in stream_columns([("a", model)], tokenizer, PROMPT, Sampling(max_new_tokens=40, temperature=3.0)):
        assert not states[0]["text"].endswith("\ufffd")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"temperature": -1.0}, "sampling.temperature = -1.0"),
        ({"temperature": float("nan")}, "sampling.temperature"),
        ({"top_p": 0.0}, "sampling.top_p"),
        ({"max_new_tokens": 0}, "sampling.max_new_tokens = 0"),
        ({"max_new_tokens": "9"}, "sampling.max_new_tokens"),
        ({"temprature": 1.0}, "Did you mean 'temperature'"),
    ],
)
def test_bad_settings_are_refused_by_name(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_sampling(values)
    assert expected in str(caught.value)
