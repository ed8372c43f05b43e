"""Answers end where the model, its tokenizer or its chat template says so, alone and together with others."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from peft_studio.config.sampling import Sampling
from peft_studio.methods import METHODS
from peft_studio.training.formats.ends import end_ids
from peft_studio.training.formats.greedy import greedy_answers
from peft_studio.training.inference.batched_adapters import batch_adapters
from peft_studio.training.inference.generate import Group, stream_columns
from peft_studio.training.load import attach, load_base, share_base

PROMPT = "name: Biox Mill | food: Thai =>"
TURNS = (
    "{% for turn in messages %}<s>{{ turn.role }}\n{{ turn.content }}{{ '<turn_end>' if turn.role == 'assistant' }}\n"
    "{% endfor %}"
)


@pytest.fixture(params=["llama", "gpt2", "t5", "bart"])
def writer(request: pytest.FixtureRequest, families: dict[str, Path]) -> tuple[Any, Any]:
    """A decoder or an encoder-decoder, with its tokenizer."""
    return load_base(str(families[request.param]))


def free_tokens(model: Any, tokenizer: Any, count: int) -> list[int]:
    """What the model would write, were there no end."""
    ids = torch.tensor([tokenizer(PROMPT)["input_ids"]])
    free = {"do_sample": False, "num_beams": 1, "eos_token_id": None, "forced_eos_token_id": None}
    out = model.generate(input_ids=ids, max_new_tokens=count, **free)[0]
    return list(out[1 if model.config.is_encoder_decoder else ids.shape[1] :].tolist())


def text_of(columns: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(column["text"], column["tokens"]) for column in columns]


def stream(model: Any, tokenizer: Any, limit: int) -> tuple[str, int]:
    sampling = Sampling(max_new_tokens=limit, temperature=0.0)
    *_, columns = stream_columns([("a", model)], tokenizer, PROMPT, sampling)
    return text_of(columns)[0]


@pytest.mark.parametrize("as_list", [True, False])
def test_the_generation_settings_end_an_answer(writer: tuple[Any, Any], as_list: bool) -> None:
    model, tokenizer = writer
    tokens = free_tokens(model, tokenizer, 12)
    end = tokens[4]
    first = tokens.index(end)
    longer, _ = stream(model, tokenizer, 12)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, end] if as_list else end
    text, count = stream(model, tokenizer, 12)
    assert count == first + 1 and longer.startswith(text)
    answers = greedy_answers(model, tokenizer, [PROMPT, "The", PROMPT], 12)
    assert answers is not None and answers[0] == answers[2]
    assert answers[0].rstrip("\ufffd") == text  # a stream holds half a character back


def test_answers_that_are_cut_are_counted(writer: tuple[Any, Any]) -> None:
    model, tokenizer = writer
    tokens = free_tokens(model, tokenizer, 8)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id]
    answers = greedy_answers(model, tokenizer, [PROMPT] * 3, 8)
    ends = tokenizer.eos_token_id in tokens
    assert answers is not None and answers.cut == (0 if ends else 3)
    model.generation_config.eos_token_id = [tokens[0]]
    answers = greedy_answers(model, tokenizer, [PROMPT] * 3, 8)
    assert answers == [""] * 3 and answers.cut == 0


def test_columns_that_share_a_batch_end_each_by_itself(families: dict[str, Path]) -> None:
    base, tokenizer = load_base(str(families["llama"]))
    base.generation_config.eos_token_id = [tokenizer.eos_token_id, free_tokens(base, tokenizer, 6)[3]]
    models = [("base", base)]
    for number in range(2):
        torch.manual_seed(number)
        adapted = attach(share_base(base), METHODS["lora"]).eval()
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.5)
        models.append((str(number), adapted))
    sampling = Sampling(max_new_tokens=10, temperature=0.0)
    together = Group(tuple(name for name, _ in models), tuple(model for _, model in models),
                     batch_adapters([model for _, model in models], base))  # fmt: skip
    *_, batched = stream_columns(models, tokenizer, PROMPT, sampling, groups=[together])
    *_, alone = stream_columns(models, tokenizer, PROMPT, sampling)
    assert text_of(batched) == text_of(alone) and batched[0]["tokens"] <= 4


def test_a_chat_template_ends_a_turn(families: dict[str, Path]) -> None:
    model, tokenizer = load_base(str(families["llama"]))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn", "<turn_end>", "<other>"]})
    usual = end_ids(model, tokenizer)
    tokenizer.chat_template = TURNS
    assert end_ids(model, tokenizer) == [*usual, tokenizer.convert_tokens_to_ids("<turn_end>")]
    for template in (
        "{{ messages[5].content }}",
        "{{ raise_exception('no') }}",
        "{% if %}",
        "nothing of it",
        "{{ 1/0 }}",
    ):
        tokenizer.chat_template = template
        assert end_ids(model, tokenizer) == usual


def test_a_class_default_that_nobody_wrote_ends_nothing(families: dict[str, Path]) -> None:
    model, tokenizer = load_base(str(families["gpt2"]))
    default = type(model.config)().eos_token_id
    assert default not in tokenizer.all_special_ids
    model.generation_config.eos_token_id = model.config.eos_token_id = default
    assert end_ids(model, tokenizer) == [tokenizer.eos_token_id]
    tokenizer.eos_token = None
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    assert end_ids(model, tokenizer) == []
    assert len(greedy_answers(model, tokenizer, [PROMPT], 3) or []) == 1


LEAKS: tuple[dict[str, Any], ...] = (
    {"stop_strings": ["a"]}, {"forced_eos_token_id": 2}, {"bad_words_ids": [[5], [6], [7]]}, {"max_time": 1e-4},
    {"penalty_alpha": 0.6, "top_k": 4}, {"num_return_sequences": 3, "num_beams": 3}, {"token_healing": True},
    {"return_dict_in_generate": True}, {"exponential_decay_length_penalty": [1, 2.0]}, {"dola_layers": "low"},
    {"suppress_tokens": list(range(3, 250))}, {"max_length": 7, "min_new_tokens": 12}, {"guidance_scale": 2.0},
)  # fmt: skip


def test_other_generation_settings_change_nothing(families: dict[str, Path]) -> None:
    for family in ("llama", "bart"):
        model, tokenizer = load_base(str(families[family]))
        ends, plain, streamed = model.generation_config.eos_token_id, None, None
        for leak in ({}, *LEAKS):
            model.generation_config = GenerationConfig(
                eos_token_id=ends, decoder_start_token_id=model.generation_config.decoder_start_token_id, **leak
            )
            found, shown = greedy_answers(model, tokenizer, [PROMPT], 8), stream(model, tokenizer, 8)
            plain, streamed = plain or found, streamed or shown
            assert (found, shown) == (plain, streamed), leak
