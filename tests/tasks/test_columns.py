"""Which column is which, and templates."""

from pathlib import Path

import pytest

from peft_studio.errors import DataError
from peft_studio.tasks.columns import fill, guess, label_of, ordered_labels, placeholders
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
