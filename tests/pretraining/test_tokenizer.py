"""The shipped tokenizer: exact round trips, and the same pieces for a word wherever it stands."""

import random

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from peft_studio.models.catalog import MODELS
from peft_studio.pretraining.tokenizer import save_tokenizer, train_tokenizer
from peft_studio.tasks import bistro
from peft_studio.tasks import small_world as world

AWKWARD = (
    "",
    " ",
    "Plain text, with marks: (a) 3 out of 5!",
    "emoji 😀👩‍🚀 and flags 🇫🇷",
    "中文和日本語のテキスト",
    "tabs\tand\n\nlines \r\n and  two   spaces ",
    "naïve Œuvre ÅNGSTRÖM ß",
    "def f(x):\n    return {'a': x ** 2}  # note\n",
    "\x00\x01\x7f control",
    bytes(range(128, 256)).decode("latin-1"),
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(MODELS["nano-lm"].path)


def pieces(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)


@pytest.mark.parametrize("text", AWKWARD)
def test_any_text_round_trips(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    assert (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id) == (0, 0, 1)
    assert not {0, 1} & set(tokenizer("Biox Mill").input_ids)


def test_a_name_has_the_same_pieces_everywhere(tokenizer: PreTrainedTokenizerBase) -> None:
    rng = random.Random(2)
    for name in [world.invent(rng, "test") for _ in range(200)]:
        alone = pieces(tokenizer, name)
        for before in ("[", " ", '"', "(", "name: ", "\n", "x, ", "- "):
            for after in ("", ".", ",", " |", "]", '"', " is"):
                inside = pieces(tokenizer, before + name + after)
                start = len(pieces(tokenizer, before))
                assert inside[start : start + len(alone)] == alone


def test_values_have_the_same_pieces_in_prompt_and_text(tokenizer: PreTrainedTokenizerBase) -> None:
    values = [*world.PRICES, *world.RATINGS, *world.AREAS, *world.TYPES, *world.FOODS]
    values += [row.slots[key] for row in bistro.load("test")[:50] for key in ("name", "near") if key in row.slots]
    for value in values:
        alone = pieces(tokenizer, f" {value}")
        for before, after in (("price:", " | area: x"), ("It is a", " pub."), ("It has a", ", and"), ("near", " =>")):
            whole = pieces(tokenizer, f"{before} {value}{after}")
            start = len(pieces(tokenizer, before))
            assert whole[start : start + len(alone)] == alone, value


def test_attribute_words_are_single_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    for value in (*world.PRICES, "riverside", "hillside", "pub", "restaurant"):
        assert len(tokenizer(f" {value}").input_ids) == 1, value


def test_training_and_saving(tmp_path) -> None:
    made = train_tokenizer(["Zorvil met Biox. Zorvil was glad."] * 20, vocab_size=280)
    assert (made.token_to_id("<eos>"), made.token_to_id("<pad>")) == (0, 1)
    save_tokenizer(made, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.decode(loaded("Żółw ate 3 figs.").input_ids) == "Żółw ate 3 figs."
    assert loaded.clean_up_tokenization_spaces is False
