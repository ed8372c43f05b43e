"""Conversations as a model reads them: its own template or a plain one, and which tokens carry the loss."""

from pathlib import Path
from typing import Any

import pytest

from peft_studio.errors import DataError
from peft_studio.tasks.base import Chat, Row
from peft_studio.training.formats.formats import SourceTarget
from peft_studio.training.formats.rows import IGNORED, collate, encode_prompts, encode_rows

TURNS = (("system", "Be kind."), ("user", "hi"), ("assistant", "  hello"), ("user", "bye"), ("assistant", "so long"))
ROW = Row("…", "so long", ("so long",), chat=Chat(TURNS))  # type: ignore[arg-type]
OWN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STRIPS = OWN.replace("m.content", "m.content | trim")
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('No system turn!') }}{% endif %}" + OWN
THOUGHT = "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}"
THINKS = OWN.replace("{{ m.content }}", THOUGHT)


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    made = AutoTokenizer.from_pretrained(tiny_model)
    made.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    return made


def trained(tokenizer: Any, row: Row = ROW, max_length: int = 512) -> tuple[str, list[str]]:
    """A row's text, and the parts of it that carry the loss."""
    (example,) = encode_rows([row], tokenizer, max_length).examples
    parts: list[list[int]] = [[]]
    for label in example.labels:
        if label != IGNORED:
            parts[-1].append(label)
        elif parts[-1]:
            parts.append([])
    assert example.targets == sum(map(len, parts))
    return tokenizer.decode(example.ids), [tokenizer.decode(part) for part in parts if part]


def test_without_a_template_a_plain_one_is_used(tokenizer: Any) -> None:
    end = tokenizer.eos_token
    text, parts = trained(tokenizer)
    assert parts == [f"  hello{end}", f"so long{end}"]
    assert text == f"Be kind.\n\nUser:\nhi\nAssistant:\n  hello{end}\nUser:\nbye\nAssistant:\nso long{end}"


@pytest.mark.parametrize(
    ("template", "first", "last"),
    [
        (OWN, "  hello<|im_end|>", "so long<|im_end|>"),
        (STRIPS, "hello<|im_end|>", "so long<|im_end|>"),
        (NO_SYSTEM, "  hello<|im_end|>", "so long<|im_end|>"),
        (THINKS, "  hello<|im_end|>", "<think>\n\n</think>\n\nso long<|im_end|>"),
    ],
)
def test_a_models_own_template_is_followed(tokenizer: Any, template: str, first: str, last: str) -> None:
    tokenizer.chat_template = template
    text, parts = trained(tokenizer)
    assert parts == [first, last]
    (prompt,) = encode_prompts([ROW], tokenizer)
    (example,) = encode_rows([ROW], tokenizer, 512).examples
    assert example.ids[: len(prompt)] == prompt, "the answer goes on from what the model is asked"
    if template == OWN:
        turns = [{"role": role, "content": said} for role, said in TURNS]
        whole = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
        assert whole[: len(example.ids)] == example.ids and tokenizer.decode(whole[len(example.ids) :]) == "\n"
        assert text.startswith("<|im_start|>system\nBe kind.<|im_end|>\n")


def test_a_template_that_ends_no_answer_gets_the_end_of_text(tokenizer: Any) -> None:
    lines = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tokenizer.chat_template = lines + "{% if add_generation_prompt %}assistant: {% endif %}"
    assert trained(tokenizer)[1] == ["  hello", f"so long{tokenizer.eos_token}"]


def test_the_loss_may_be_taken_on_all_turns(tokenizer: Any) -> None:
    row = Row("…", "so long", chat=Chat(TURNS, all_turns=True))  # type: ignore[arg-type]
    (example,) = encode_rows([row], tokenizer, 512).examples
    assert example.targets == len(example.ids) - 1
    (cut,) = encode_rows([row], tokenizer, 20).examples
    assert cut.ids == example.ids[-20:] and cut.targets == 19


def test_long_chats_lose_their_beginning_and_no_answer_is_cut(tokenizer: Any) -> None:
    (whole,) = encode_rows([ROW], tokenizer, 512).examples
    ((start, end),) = whole.unscored
    encoded = encode_rows([ROW], tokenizer, len(whole.ids) - whole.prompt_length)
    (example,) = encoded.examples
    assert encoded.cut == 1 and example.unscored == () and start < end
    assert example.targets == len(whole.ids) - end and example.ids == whole.ids[whole.prompt_length :]
    with pytest.raises(DataError, match="None of the 1 rows"):
        encode_rows([ROW], tokenizer, example.targets)


def test_turns_of_users_carry_no_loss_in_a_batch(tokenizer: Any) -> None:
    (example,) = encode_rows([ROW], tokenizer, 512).examples
    batch = collate([example], 0)
    assert batch["labels"][0].tolist() == example.labels
    assert int((batch["labels"] != IGNORED).sum()) == example.targets


def test_an_encoder_decoder_writes_each_answer(tokenizer: Any) -> None:
    examples = SourceTarget(tokenizer).encode([ROW], 512).examples
    assert len(examples) == 2
    source = tokenizer.decode(examples[1].ids[: examples[1].prompt_length])
    assert "hello" in source and source.endswith("Assistant:\n")


def test_what_a_template_refuses_is_told_in_words(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ raise_exception('Only poems, please.') }}"
    with pytest.raises(DataError, match=r"does not take a chat of system, user.* Only poems, please\."):
        encode_rows([ROW], tokenizer, 512)
    tokenizer.chat_template = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    with pytest.raises(DataError, match="leaves out the assistant's turn '  hello'"):
        encode_rows([ROW], tokenizer, 512)
