"""The defects task: balance, one class per function, and bugs that parse and differ from the original."""

import ast
import random
from collections import Counter
from functools import cache

import pytest
from sklearn.metrics import accuracy_score, f1_score

from peft_studio.errors import DataError
from peft_studio.tasks import defects, stdlib
from peft_studio.tasks.base import SPLITS, Row, Split
from peft_studio.tasks.defects import DEFECTS, LABELS, MOST_ROWS, inject, inject_bugs

CLEAN, DEFECTIVE = LABELS
KINDS = {"off by one", "boundary", "operator", "negation", "variable", "arguments", "return"}


pytestmark = pytest.mark.usefixtures("from_disk")


@cache
def all_rows() -> dict[Split, list[Row]]:
    """Rows by split, as another process made them; that they are the same each time is seen in test_kept_rows.py."""
    return {split: defects.load(split) for split in SPLITS}


@cache
def every_row() -> list[Row]:
    return [row for rows in all_rows().values() for row in rows]


@cache
def module_of() -> dict[str, str]:
    return {function.source: function.module for function in stdlib.functions()}


def test_sizes_and_balance() -> None:
    for split, rows in all_rows().items():
        assert 200 <= len(rows) <= MOST_ROWS[split]
        assert Counter(row.target for row in rows) == {CLEAN: len(rows) / 2, LABELS[1]: len(rows) / 2}
        assert all(row.references == (row.target,) for row in rows)
    assert len(all_rows()["train"]) == 4000


def test_clean_rows_are_from_the_library_and_defective_ones_are_not() -> None:
    for split, rows in all_rows().items():
        for row in rows:
            assert (row.prompt in module_of()) == (row.target == CLEAN)
            if row.target == CLEAN:
                assert stdlib.split_of(module_of()[row.prompt]) == split


def test_every_row_is_one_function_in_the_same_layout() -> None:
    for row in every_row():
        (function,) = ast.parse(row.prompt).body
        assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        assert ast.get_docstring(function) is None
        assert ast.unparse(function) == row.prompt


def test_no_function_has_two_classes() -> None:
    assert len({row.prompt for row in every_row()}) == len(every_row())
    for split in ("validation", "test"):
        rows = all_rows()[split]
        rng = random.Random(f"defects/2017/{split}")
        sources = defects._candidates(split)
        rng.shuffle(sources)
        origin: dict[str, str] = {}
        for source in sources:
            if found := inject_bugs(rng, source):
                origin.setdefault(found, source)
        used = [row.prompt if row.target == CLEAN else origin[row.prompt] for row in rows]
        assert len(set(used)) == len(used)


def test_a_function_takes_up_to_three_bugs() -> None:
    source = "def f(x):\n    assert x < 3"
    assert {inject_bugs(random.Random(seed), source) for seed in range(20)} <= {
        f"def f(x):\n    assert x {sign} {bound}" for sign in ("<", "<=") for bound in (3,)
    } - {source}
    assert inject_bugs(random.Random(0), "def f(self):\n    pass") is None
    rows = [row.prompt for row in all_rows()["train"] if row.target == DEFECTIVE]
    assert all(row not in module_of() for row in rows)


def test_bugs_parse_and_differ() -> None:
    rng = random.Random(1)
    kinds: Counter[str] = Counter()
    for source in defects._candidates("test"):
        if found := inject(rng, source):
            kinds[found.kind] += 1
            assert ast.dump(ast.parse(found.source)) != ast.dump(ast.parse(source))
            assert abs(found.source.count("\n") - source.count("\n")) <= 1
    assert set(kinds) == KINDS
    assert max(kinds.values()) < kinds.total() / 2


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        ("print(x[2:])", "off by one", {"print(x[1:])", "print(x[3:])"}),
        ("print(x[:-1])", "off by one", {"print(x[:-2])"}),
        ("range(x - 1)", "off by one", {"range(x)"}),
        ("range(x)", "off by one", {"range(x + 1)", "range(x - 1)"}),
        ("assert x < 3", "boundary", {"assert x <= 3"}),
        ("assert x == 3", "negation", {"assert x != 3"}),
        ("assert x is None", "negation", {"assert x is not None"}),
        ("x += 1", "operator", {"x -= 1"}),
        ("assert x and 1", "operator", {"assert x or 1"}),
        ("assert (x + 1) * 2", "operator", {"assert (x - 1) * 2", "assert (x + 1) // 2"}),
        ("assert not x", "negation", {"assert x"}),
        ("while x:\n        pass", "negation", {"while not x:\n        pass"}),
        ("open(x, 1)", "arguments", {"open(1, x)"}),
        ("return True", "return", {"return False"}),
        ("return x.y", "return", {"return x"}),
    ],
)
def test_kinds(body: str, kind: str, expected: set[str]) -> None:
    made = {inject(random.Random(seed), f"def f(x):\n    {body}") for seed in range(60)}
    assert {found.source.split("\n", 1)[1].strip() for found in made if found and found.kind == kind} == expected


def test_wrong_variables_are_bound_before() -> None:
    source = "def f(self, a, b):\n    print(a)\n    late = 1"
    made = {inject(random.Random(seed), source) for seed in range(30)}
    assert made == {defects.Defect("variable", source.replace("print(a)", "print(b)"))}


@pytest.mark.parametrize("body", ["pass", "self.x = 1", "max(1, 2)", "print('%s' % self)", "print(f'{1 + 1}')"])
def test_nothing_to_break(body: str) -> None:
    assert inject(random.Random(0), f"@d(1, 2)\ndef f(self, x: a[1:2]=1 + 1):\n    {body}") is None


def test_scores_equal_scikit_learn() -> None:
    rows = all_rows()["test"]
    targets = [row.target for row in rows]
    answers = [CLEAN if at % 3 else row.target for at, row in enumerate(rows)]
    figures = DEFECTS.score(rows, answers)
    assert figures["accuracy"] == pytest.approx(100 * accuracy_score(targets, answers))
    assert figures["macro_f1"] == pytest.approx(100 * f1_score(targets, answers, average="macro"))
    assert DEFECTS.headline in figures
    with pytest.raises(DataError):
        DEFECTS.score([], [])
