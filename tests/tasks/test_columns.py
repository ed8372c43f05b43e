"""Which column is which, and templates."""

from dataclasses import replace
from pathlib import Path

import pytest

from peft_studio.errors import DataError
from peft_studio.tasks.columns import guess
from peft_studio.tasks.reading.labels import label_of, ordered_labels
from peft_studio.tasks.reading.templates import fill, placeholders
from peft_studio.tasks.tables import Cell, Table

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
TEXTS = [f"a fairly long sentence about {a} and {b}" for a in WORDS for b in WORDS[:4]]
ANSWERS = [f"{text}, rewritten" for text in TEXTS]
CLASSES = [WORDS[at % 3] for at in range(len(TEXTS))]
NUMBERS = [str(at) for at in range(len(TEXTS))]


def table(**columns: list[str] | list[tuple[str, ...]]) -> Table:
    rows: list[dict[str, Cell]] = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    return Table(Path("t.csv"), tuple(columns), rows, "utf-8", list(range(2, len(rows) + 2)), "line")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("source", "target"),
        ("mr", "ref"),
        ("meaning_representation", "human_reference"),
        ("MeaningRepresentation", "Human Reference"),
        ("document", "summary"),
        ("article", "highlights"),
        ("code", "docstring"),
        ("code", "comment"),
        ("nl", "code"),
        ("buggy", "fixed"),
        ("diff", "message"),
        ("question", "answer"),
        ("prompt", "response"),
        ("content", "title"),
        ("article", "abstract"),
        ("text", "weird name"),
        ("user", "assistant"),
        ("human", "gpt"),
        ("user", "bot_response"),
        ("输入", "输出"),
        ("文章", "摘要"),
        ("问题", "答案"),
        ("正文", "标题"),
    ],
)
def test_generation_by_name(source: str, target: str) -> None:
    for order in ((source, target), (target, source)):
        values = {source: TEXTS, target: ANSWERS}
        found = guess(table(id=NUMBERS, **{key: values[key] for key in order}))
        assert (found.input_column, found.target_column, found.kind) == (source, target, "generation")
        assert (found.references_column, found.template) == ("", "")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("text", "label"),
        ("sentence", "intent"),
        ("review", "sentiment"),
        ("func", "target"),
        ("content", "category"),
        ("comment", "is_spam"),
        ("文本", "标签"),
        ("评论", "情感"),
        ("句子", "类别"),
    ],
)
def test_classification_by_name(source: str, target: str) -> None:
    found = guess(table(**{"idx": NUMBERS, target: CLASSES, source: TEXTS}))
    assert (found.input_column, found.target_column, found.kind) == (source, target, "classification")
    assert "3" in found.reason


def test_by_contents() -> None:
    found = guess(table(x1=CLASSES, x2=TEXTS))
    assert (found.input_column, found.target_column, found.kind) == ("x2", "x1", "classification")
    found = guess(table(x1=WORDS * 4, x2=TEXTS, x3=ANSWERS))
    assert (found.input_column, found.target_column, found.kind) == ("x3", "x2", "generation")
    found = guess(table(text=TEXTS, x1=ANSWERS, x2=CLASSES))
    assert (found.target_column, found.kind) == ("x2", "classification")
    found = guess(table(id=TEXTS, url=CLASSES))
    assert (found.input_column, found.target_column) == ("id", "url")


def test_notes_beside_the_target() -> None:
    found = guess(table(instruction=TEXTS, context=TEXTS, response=ANSWERS, category=CLASSES))
    assert (found.input_column, found.target_column, found.kind) == ("instruction", "response", "generation")


def test_labels_that_are_texts_mean_generation() -> None:
    assert guess(table(text=TEXTS, label=ANSWERS)).kind == "generation"


def test_references() -> None:
    lists = [(answer, "other") for answer in ANSWERS]
    found = guess(table(source=TEXTS, target=ANSWERS, references=lists))
    assert (found.target_column, found.references_column) == ("target", "references")
    found = guess(table(source=TEXTS, references=lists))
    assert (found.target_column, found.references_column, found.kind) == ("references", "", "generation")
    found = guess(table(text=TEXTS, labels=[(name,) for name in CLASSES], references=lists))
    assert (found.target_column, found.references_column, found.kind) == ("labels", "", "classification")


def test_two_inputs() -> None:
    found = guess(table(instruction=TEXTS, input=TEXTS, output=ANSWERS))
    assert (found.input_column, found.template) == ("instruction", "{instruction}\n{input}\n")
    assert guess(table(question=TEXTS, context=TEXTS, answer=ANSWERS)).template == "{context}\n{question}\n"
    assert guess(table(premise=TEXTS, hypothesis=TEXTS, label=CLASSES)).template == "{premise}\n{hypothesis}"


def test_settled_kind() -> None:
    both = table(text=TEXTS, label=CLASSES, references=ANSWERS)
    assert guess(both).references_column == ""
    assert (guess(both, "generation").kind, guess(both, "generation").references_column) == (
        "generation",
        "references",
    )
    assert guess(table(instruction=TEXTS, input=TEXTS, output=["x"] * 40)).kind == "generation"
    assert guess(table(text=TEXTS, label=["x"] * 40)).kind == "classification"


PAIRS = [
    ("chosen", "rejected"), ("response_j", "response_k"), ("chosen_response", "rejected_response"),
    ("preferred", "dispreferred"), ("better", "worse"), ("accepted", "rejected"), ("chosen_text", "rejected_text"),
    ("winner", "loser"), ("Answer Chosen", "Answer Rejected"),
]  # fmt: skip


@pytest.mark.parametrize(("better", "worse"), PAIRS)
def test_of_a_preference_pair_the_better_answer_is_the_target(better: str, worse: str) -> None:
    longer = [f"{text}, at far greater length than anybody asked for" for text in ANSWERS]
    for source in ("prompt", "question", "instruction"):
        for columns in (
            {worse: longer, source: TEXTS, better: ANSWERS},
            {source: TEXTS, better: ANSWERS, worse: longer},
        ):
            found = guess(table(id=NUMBERS, **columns, score_chosen=NUMBERS, score_rejected=NUMBERS))
            assert (found.input_column, found.target_column, found.kind) == (source, better, "generation")
            assert repr(better) in found.notes[0] and f"{worse!r} is left out" in found.notes[0]


def test_a_pair_needs_what_it_answers() -> None:
    with pytest.raises(DataError, match="no column holds what they answer"):
        guess(table(chosen=TEXTS, rejected=ANSWERS))


def test_rejected_answers_are_never_guessed() -> None:
    found = guess(table(prompt=TEXTS, rejected=ANSWERS, answer=ANSWERS))
    assert (found.input_column, found.target_column) == ("prompt", "answer")
    found = guess(table(a=TEXTS, rejected=[text * 2 for text in ANSWERS], b=ANSWERS))
    assert "rejected" not in (found.input_column, found.target_column)


def test_notes_on_where_rows_come_from_play_no_part() -> None:
    notes = {
        "source": CLASSES, "language": ["en", "de"] * 20, "conversation_id": NUMBERS, "quality_score": NUMBERS,
        "homepage": [f"https://example.org/{at}" for at in NUMBERS], "added": ["2024-05-01"] * 40,
        "checksum": [f"{at:032x}" for at in range(40)], "reads": [str(at * 3.5) for at in range(40)],
        "locale_of_text": ["en_GB", "de_AT"] * 20, "src": ["shop"] * 40, "stage": ["raw"] * 40, "user": ANSWERS,
    }  # fmt: skip
    found = guess(table(**notes, text=TEXTS, summary=ANSWERS))
    assert (found.input_column, found.target_column, found.notes) == ("text", "summary", ())
    found = guess(table(**notes, text=TEXTS, label=CLASSES))
    assert (found.input_column, found.target_column, found.kind) == ("text", "label", "classification")
    found = guess(table(**notes, q9=TEXTS, z9=ANSWERS))
    assert {found.input_column, found.target_column} == {"q9", "z9"}
    assert guess(table(source=TEXTS, target=ANSWERS)).input_column == "source"


def test_an_instruction_that_is_the_same_for_all_rows_stays_before_its_input() -> None:
    found = guess(table(instruction=["Make it short."] * 40, input=TEXTS, output=ANSWERS))
    assert (found.template, found.target_column) == ("{instruction}\n{input}\n", "output")
    found = guess(table(prompt=["Make it short."] * 40, text=TEXTS, summary=ANSWERS))
    assert (found.input_column, found.target_column) == ("text", "summary")


def test_booleans_are_labels() -> None:
    found = guess(table(comment=TEXTS, is_toxic=["true", "false"] * 20, score=NUMBERS))
    assert (found.input_column, found.target_column, found.kind) == ("comment", "is_toxic", "classification")
    found = guess(table(x=TEXTS, y2=["True", "FALSE"] * 20))
    assert (found.target_column, found.kind) == ("y2", "classification")


def test_doubts_are_asked() -> None:
    assert guess(table(text=TEXTS, label=CLASSES)).notes == ()
    (doubt,) = guess(table(text=TEXTS, label=CLASSES, summary=ANSWERS)).notes
    assert doubt == "Is 'label' what the model should answer, and not 'summary'?"
    (doubt,) = guess(table(x1=TEXTS, x2=ANSWERS, x3=[text[::-1] for text in TEXTS])).notes
    assert "No column's name says so" in doubt
    (doubt,) = guess(table(prompt=TEXTS, completion=ANSWERS, label=["true", "false"] * 20)).notes
    assert "which answers people liked" in doubt
    many = table(text=[text * 7 for text in TEXTS] * 6, label=[str(at / 7) for at in range(240)])
    assert "many different numbers" in guess(many).notes[0]


def chat_table(**columns: list[str]) -> Table:
    """A table whose nested columns are JSON, as files with such are read."""
    made = table(**columns)
    nested = {name: (0, "a nested object or list") for name in columns if columns[name][0].startswith(("[", "{"))}
    return replace(made, faults=nested)


TURNS = [f'[{{"role": "user", "content": "{text}"}}, {{"role": "assistant", "content": "ok"}}]' for text in TEXTS]
SAID = [f'[{{"role": "assistant", "content": "{text}"}}]' for text in ANSWERS]
ASKED = [f'[{{"role": "user", "content": "{text}"}}]' for text in TEXTS]
SHARED = [f'[{{"from": "human", "value": "{text}"}}, {{"from": "gpt", "value": "ok"}}]' for text in TEXTS]
SPOKEN = [f"\n\nHuman: {text}\n\nAssistant: ok" for text in TEXTS]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"messages": TURNS, "id": NUMBERS}, ("messages", "", "", "")),
        ({"conversations": SHARED, "system": TEXTS}, ("conversations", "", "", "system")),
        ({"prompt": TEXTS, "messages": TURNS}, ("messages", "", "", "")),
        ({"prompt": TEXTS, "chosen": TURNS, "rejected": TURNS}, ("chosen", "", "", "")),
        ({"prompt": ASKED, "chosen": SAID, "rejected": SAID}, ("chosen", "prompt", "", "")),
        ({"prompt": TEXTS, "chosen": SAID, "rejected": SAID}, ("chosen", "prompt", "", "")),
        ({"prompt": ASKED, "completion": SAID}, ("completion", "prompt", "", "")),
        ({"prompt": ASKED, "answer": ANSWERS}, ("prompt", "", "answer", "")),
        ({"chosen": SPOKEN, "rejected": SPOKEN}, ("chosen", "", "", "")),
    ],
)
def test_chats(columns: dict[str, list[str]], expected: tuple[str, ...]) -> None:
    found = guess(chat_table(**columns))
    assert (found.chat_column, found.input_column, found.target_column, found.system_column) == expected
    assert found.kind == "generation" and ("rejected" in columns) == any("left out" in note for note in found.notes)


def test_turns_before_the_input_make_a_chat() -> None:
    history = ["[]", '[["q", "a"]]'] * 20
    found = guess(chat_table(instruction=TEXTS, input=TEXTS, output=ANSWERS, history=history, system=TEXTS))
    assert (found.input_column, found.target_column) == ("instruction", "output")
    assert (found.history_column, found.system_column, found.chat_column) == ("history", "system", "")
    assert "'history' and 'system'" in found.reason


def test_nested_columns_are_never_guessed() -> None:
    nested = ['{"a": [1]}'] * 40
    found = guess(chat_table(meta=nested, prompt=TEXTS, tags=nested, completion=ANSWERS))
    assert (found.input_column, found.target_column) == ("prompt", "completion")
    with pytest.raises(DataError, match=r"1 column with values .* The column 'meta' holds a nested object"):
        guess(chat_table(meta=nested, prompt=TEXTS))


def test_a_target_that_cannot_be_used_makes_a_doubt() -> None:
    nested = ['{"a": [1]}'] * 40
    found = guess(chat_table(title=TEXTS, context=ANSWERS, question=TEXTS, answers=nested))
    assert found.target_column == "title" and "'answers' holds a nested object" in found.notes[0]


def test_too_few_columns() -> None:
    with pytest.raises(DataError, match=r"t\.csv has 1 column with values \(text\)\. At least two"):
        guess(table(text=TEXTS, label=[""] * len(TEXTS)))


def test_fill() -> None:
    record = {"mr": "name[x]", "customer rating": "5", "list": ("a", "b")}
    assert fill("{mr} =>", record) == "name[x] =>"
    assert fill("{{{mr}}} {customer rating}/{ list } {{}}", record) == "{name[x]} 5/a, b {}"
    assert placeholders("{list}{{mr}}{mr}{list}", record) == ["list", "mr"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{meaning} =>", "names the column 'meaning'.*Did you mean 'meanings'.*Allowed: meanings, text"),
        ("{} =>", "names the column ''"),
        ("{text", r"lone '\{' at character 1"),
        ("text} =>", r"lone '\}' at character 5"),
        ("{a{text}}", r"lone '\{' at character 1"),
    ],
)
def test_bad_templates(template: str, message: str) -> None:
    record = {"meanings": "m", "text": "t"}
    with pytest.raises(DataError, match=message):
        fill(template, record)
    with pytest.raises(DataError, match=message):
        placeholders(template, record)


def test_labels() -> None:
    assert [label_of(cell) for cell in (" a ", "", ("b",), (), ("a", "b"))] == ["a", "", "b", "", None]
    assert ordered_labels(["10", "9", "-1", "9"]) == ("-1", "9", "10")
    assert ordered_labels(["10", "9", "x"]) == ("10", "9", "x")
