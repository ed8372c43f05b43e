"""Prompt and answer join to what was written, with every kind of tokenizer, and nothing stands there twice."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from peft_studio.archives.reproduce_tokens import READING
from peft_studio.tasks.base import Chat, Row
from peft_studio.training.formats.formats import Labelling, SourceTarget
from peft_studio.training.formats.rows import encode_prompts, encode_rows, without_marks
from peft_studio.training.formats.seam import Seam, completion_text, seam_of

PAIRS = [
    ("the cat sat\n", "ok my friend"),
    ("the cat sat:", " yes sir"),
    ("def f():\n", "    return 1"),
    ("a", "\n\n  b"),
    ("go", "ing on"),
    ("x  y", "  z"),
    ("", "alone"),
]
LETTERS = [*map(chr, range(ord("a"), ord("z") + 1)), *"():1\n"]


def _pieces(normalizer: Any, pre_tokenizer: Any) -> Tokenizer:
    """SentencePiece's kind: a space is a character of its own, and one is put before every text."""
    vocabulary = ["<s>", "</s>", "\u2581", *LETTERS]
    made = Tokenizer(models.BPE({text: at for at, text in enumerate(vocabulary)}, [], unk_token="<s>"))
    if normalizer:
        made.normalizer = normalizer
    if pre_tokenizer:
        made.pre_tokenizer = pre_tokenizer
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return made


def llama_2() -> Tokenizer:
    return _pieces(normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]), None)


def metaspace(scheme: str) -> Callable[[], Tokenizer]:
    def make() -> Tokenizer:
        return _pieces(None, pre_tokenizers.Metaspace("\u2581", prepend_scheme=scheme))

    return make


def byte_level(space: bool) -> Callable[[], Tokenizer]:
    def make() -> Tokenizer:
        vocabulary = ["<s>", "</s>", *pre_tokenizers.ByteLevel.alphabet()]
        made = Tokenizer(models.BPE({text: at for at, text in enumerate(vocabulary)}, []))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
        made.decoder = decoders.ByteLevel()
        return made

    return make


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "llama-2": llama_2,
    "metaspace always": metaspace("always"),
    "metaspace first": metaspace("first"),
    "byte-level": byte_level(False),
    "byte-level with a space": byte_level(True),
}


def tokenizer_of(made: Tokenizer, marks: str = "<s> $A") -> Any:
    made.post_processor = processors.TemplateProcessing(marks, special_tokens=[("<s>", 0), ("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="</s>")


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return tokenizer_of(KINDS[request.param]())


@pytest.mark.parametrize(("prompt", "answer"), PAIRS)
def test_what_is_trained_reads_exactly_as_written(tokenizer: Any, prompt: str, answer: str) -> None:
    encoded = encode_rows([Row(prompt, answer, (answer,))], tokenizer, 256)
    (example,) = encoded.examples
    before, after = example.ids[: example.prompt_length], example.ids[example.prompt_length :]
    assert before == encode_prompts([prompt], tokenizer)[0], "a prompt has the tokens that it has in generation"
    assert completion_text(tokenizer, before, after[:-1]) == answer
    assert (after[-1], encoded.altered) == (tokenizer.eos_token_id, 0)


def test_marks_that_the_data_holds_are_not_doubled(tokenizer: Any) -> None:
    plain, marked = encode_rows([Row("a b", "c"), Row("<s>a b", "c</s>")], tokenizer, 256).examples
    assert marked.ids.count(0) == marked.ids.count(1) == 1
    assert (marked.ids[0], marked.ids[-1]) == (0, 1) and marked.targets == plain.targets
    rows = without_marks([Row("a", "c</s>", ("c</s>", "d"))], tokenizer)
    assert rows == [Row("a", "c", ("c", "d"))]


def test_marks_on_both_sides_stand_where_a_text_ends(tokenizer: Any) -> None:
    both = tokenizer_of(Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), "<s> $A </s>")
    seam = seam_of(both)
    assert seam is seam_of(both) and (seam.lead, seam.tail) == ([0], [1])
    whole, own = seam.whole(["a b", "<s>a b</s>"])
    assert [whole[0], whole[-1]] == [own[0], own[-1]] == [0, 1] and own.count(0) == own.count(1) == 1
    assert encode_prompts(["a b"], both)[0] == whole[:-1]
    labelled = Labelling(both, ("x", "y"), False).encode([Row("<s>a b</s>", "y")], 64).examples[0]
    assert labelled.ids == [*own, 1] and labelled.prompt_length == len(own)


def test_a_decoder_of_its_own_writes_the_target_exactly(tokenizer: Any) -> None:
    both = tokenizer_of(Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), "$A </s>")
    for text in ("ok my friend", "b</s>", "a\n  b"):
        example = SourceTarget(both).encode([Row("say", text)], 64).examples[0]
        target = example.ids[example.prompt_length :]
        assert target.count(1) == 1 and target[-1] == 1
        assert completion_text(both, [], target) == text.removesuffix("</s>")


def test_word_pieces_go_on_in_a_word() -> None:
    words = ["<s>", "</s>", "?", "go", "##ing", "ing", "on", "the"]
    made = Tokenizer(models.WordPiece({text: at for at, text in enumerate(words)}, unk_token="?"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    tokenizer = tokenizer_of(made)
    first, second = encode_rows([Row("go", "ing on"), Row("the go", " on")], tokenizer, 64).examples
    assert tokenizer.convert_ids_to_tokens(first.ids) == ["<s>", "go", "##ing", "on", "</s>"]
    assert tokenizer.convert_ids_to_tokens(second.ids) == ["<s>", "the", "go", "on", "</s>"]


def test_what_a_tokenizer_cannot_write_is_counted() -> None:
    made = llama_2()
    made.normalizer = normalizers.Sequence([normalizers.Lowercase(), made.normalizer])
    encoded = encode_rows([Row("a\n", "LOUD"), Row("a\n", "low")], tokenizer_of(made), 64)
    assert encoded.altered == 1


def test_a_tokenizer_without_a_backend_still_joins(tokenizer: Any) -> None:
    class Slow:
        """Asks another tokenizer, and has no backend that could be changed."""

        def __call__(self, *args: Any, **options: Any) -> Any:
            return tokenizer(*args, **options)

        def decode(self, *args: Any, **options: Any) -> Any:
            return tokenizer.decode(*args, **options)

    seam = Seam(Slow())  # type: ignore[arg-type]
    (before,) = seam.prompts(["the cat\n"])
    (after,), altered = seam.answers(["the cat\n"], [before], ["ok"])
    assert completion_text(tokenizer, before, after) == "ok" and altered == 0


TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_the_exported_script_reads_rows_as_the_app_does(tokenizer: Any) -> None:
    turns = (("system", "be kind"), ("user", "hi"), ("assistant", "  ok"), ("user", "and"), ("assistant", "bye"))
    chats = [Row("", "bye", chat=Chat(turns)), Row("", "bye", chat=Chat(turns, all_turns=True))]  # type: ignore[arg-type]
    pairs = [Row(prompt, answer) for prompt, answer in [*PAIRS, ("<s>a", "b</s>"), ("x " * 40, "y")]]
    for template in (None, TEMPLATE):
        tokenizer.chat_template = template
        for rows in (pairs, chats):
            lines = [{"prompt": row.prompt, "target": row.target, **_turns(row)} for row in rows]
            given = json.loads(json.dumps(lines))
            script: dict[str, Any] = {"torch": torch, "json": json, "MAX_LENGTH": 48}
            script["rows_of"] = lambda *_, given=given: given
            exec(READING, script)
            expected = [(each.ids, each.labels) for each in encode_rows(rows, tokenizer, 48).examples]
            assert list(script["read"]("train", [], tokenizer)) == expected


def _turns(row: Row) -> dict[str, Any]:
    return {"turns": row.chat.turns, "all_turns": row.chat.all_turns} if row.chat else {}
