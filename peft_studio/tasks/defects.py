"""``defects``: tell whether a small Python function holds bugs that were put into it.

Functions come from the standard library of the running Python. Every other one gets up to three bugs, each by a change
of its syntax tree: with one bug only, counts of token n-grams label 58 % of the rows rightly, with three 66 %. Both
classes are drawn from functions that could have got bugs, and both are printed in the same layout, so only the
meaning of the code tells them apart. A few changes, such as ``<`` to ``<=``, may happen to make no difference, so no
reader can reach 100 %. Pure Python.
"""

import ast
import random
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import NamedTuple

import peft_studio.tasks.metrics as metrics
import peft_studio.tasks.stdlib as stdlib
from peft_studio.tasks.base import Row, Split, Task
from peft_studio.tasks.kept_rows import Pair, kept

LABELS = ("clean", "defective")
MOST_ROWS: dict[Split, int] = {"train": 4000, "validation": 300, "test": 300}
"""Most rows of each split; there are fewer when the Python version has fewer functions."""
_FEWEST_CHARS, _MOST_CHARS, _FEWEST_LINES = 80, 300, 3
_MOST_BUGS = 3
_SEED = 2017

_BOUNDARIES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip
_OPPOSITES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}  # fmt: skip
_OWNERS = {"self", "cls"}
_ORDERLESS = {"min", "max", "print", "gcd"}
_LEFT_ALONE = {"annotation", "returns", "decorator_list", "args", "type_params"}
"""Fields of definitions in which no bug is put. A call's ``args`` are not meant; they are looked into."""


class _Change(NamedTuple):
    kind: str
    old: ast.AST
    new: ast.AST


class Defect(NamedTuple):
    """A function with a bug of a kind: off by one, boundary, operator, negation, variable, arguments or return."""

    kind: str
    source: str


class _Replacement(ast.NodeTransformer):
    def __init__(self, change: _Change) -> None:
        self.change = change

    def visit(self, node: ast.AST) -> ast.AST:
        return self.change.new if node is self.change.old else self.generic_visit(node)


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it that may be changed; f-strings may not, since not every change can be printed there."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in _LEFT_ALONE and not isinstance(node, ast.Call):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                yield from _inside(child)


def _shifted(rng: random.Random, node: ast.expr) -> ast.expr:
    """A bound that is off by one."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return ast.UnaryOp(ast.USub(), _shifted(rng, node.operand))
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return ast.Constant(node.value + (rng.choice((-1, 1)) if node.value > 1 else 1))
    if isinstance(node, ast.BinOp) and isinstance(node.right, ast.Constant) and node.right.value == 1:
        return node.left
    return ast.BinOp(node, rng.choice((ast.Add, ast.Sub))(), ast.Constant(1))


def _off_by_one(rng: random.Random, node: ast.AST) -> Iterator[_Change]:
    bounds: list[ast.expr] = []
    if isinstance(node, ast.Slice):
        bounds = [bound for bound in (node.lower, node.upper) if bound]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        bounds = [bound for bound in node.args[:2] if not isinstance(bound, ast.Starred)]
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        bounds = [node.slice] if type(node.slice.value) is int else []
    for bound in bounds:
        yield _Change("off by one", bound, _shifted(rng, bound))


def _operators(node: ast.AST) -> Iterator[_Change]:
    """Compares, arithmetic and logic with another operator."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for kind, others in (("boundary", _BOUNDARIES), ("negation", _OPPOSITES)):
            if (other := others.get(type(node.ops[0]))) is not None:
                yield _Change(kind, node, ast.Compare(node.left, [other()], node.comparators))
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS and not _has_text(node):
        yield _Change("operator", node, ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right))
    elif isinstance(node, ast.AugAssign) and type(node.op) in _OPERATORS and not _has_text(node):
        yield _Change("operator", node, ast.AugAssign(node.target, _OPERATORS[type(node.op)](), node.value))
    elif isinstance(node, ast.BoolOp):
        other_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield _Change("operator", node, ast.BoolOp(other_op, node.values))


def _has_text(node: ast.AST) -> bool:
    """Whether text is being joined or filled in, where another operator could not even run."""
    return any(
        isinstance(part, ast.JoinedStr) or (isinstance(part, ast.Constant) and isinstance(part.value, str | bytes))
        for part in ast.walk(node)
    )


def _negations(node: ast.AST) -> Iterator[_Change]:
    """Conditions with a ``not`` too many or too few; those that compare are changed by ``_operators``."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield _Change("negation", node, node.operand)
    tests = [node.test] if isinstance(node, ast.If | ast.While | ast.IfExp) else []
    for test in [*tests, *(node.ifs if isinstance(node, ast.comprehension) else [])]:
        if isinstance(test, ast.Name | ast.Attribute | ast.Call):
            yield _Change("negation", test, ast.UnaryOp(ast.Not(), test))


def _swapped_arguments(node: ast.AST) -> Iterator[_Change]:
    if not isinstance(node, ast.Call) or ast.unparse(node.func).rpartition(".")[2] in _ORDERLESS:
        return
    for at, (one, two) in enumerate(zip(node.args, node.args[1:], strict=False)):
        same = ast.dump(one) == ast.dump(two)
        if not same and not isinstance(one, ast.Starred) and not isinstance(two, ast.Starred):
            args = [*node.args[:at], two, one, *node.args[at + 2 :]]
            yield _Change("arguments", node, ast.Call(node.func, args, node.keywords))


def _bound(function: ast.AST) -> dict[str, int]:
    """Variables of a function with the line on which each is first bound; arguments come before all lines."""
    found: dict[str, int] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            found[node.arg] = 0
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found[node.id] = min(node.lineno, found.get(node.id, node.lineno))
    return dict(sorted(found.items()))


def _wrong_variables(rng: random.Random, bound: dict[str, int], node: ast.AST) -> Iterator[_Change]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in bound.keys() - _OWNERS:
        others = [name for name, line in bound.items() if name not in {node.id, *_OWNERS} and line < node.lineno]
        if others:
            yield _Change("variable", node, ast.Name(rng.choice(others), ast.Load()))


def _wrong_returns(rng: random.Random, bound: dict[str, int], node: ast.AST) -> Iterator[_Change]:
    """The opposite truth value, or some variable in place of what was worked out."""
    if not isinstance(node, ast.Return) or node.value is None:
        return
    if isinstance(node.value, ast.Constant):
        if isinstance(node.value.value, bool):
            yield _Change("return", node, ast.Return(ast.Constant(not node.value.value)))
    elif not isinstance(node.value, ast.Name):
        names = [name for name, line in bound.items() if name not in _OWNERS and line < node.lineno]
        value: ast.expr = ast.Name(rng.choice(names), ast.Load()) if names else ast.Constant(None)
        yield _Change("return", node, ast.Return(value))


def _changes(rng: random.Random, function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[_Change]:
    nodes = [node for statement in function.body for node in _inside(statement)]
    bound = _bound(function)
    found: list[_Change] = []
    for node in nodes:
        found += [*_off_by_one(rng, node), *_operators(node), *_negations(node), *_swapped_arguments(node)]
        found += [*_wrong_variables(rng, bound, node), *_wrong_returns(rng, bound, node)]
    return found


def inject(rng: random.Random, source: str) -> Defect | None:
    """Puts one bug into a function: first draws a kind among those that fit, then a place.

    Args:
        rng: Source of chance.
        source: The definition of one function.

    Returns:
        The changed function; nothing when no kind of bug fits or the change cannot be seen.
    """
    tree = ast.parse(source)
    function = tree.body[0]
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    changes = _changes(rng, function)
    if not changes:
        return None
    kind = rng.choice(sorted({change.kind for change in changes}))
    change = rng.choice([change for change in changes if change.kind == kind])
    text = ast.unparse(_Replacement(change).visit(tree))
    return None if text == source else Defect(kind, text)


def inject_bugs(rng: random.Random, source: str) -> str | None:
    """Puts bugs into a function, as many as it takes up to ``_MOST_BUGS``; nothing when not even one fits."""
    changed = {source}  # a bug may undo an earlier one
    text: str | None = None
    for _ in range(_MOST_BUGS):
        found = inject(rng, text or source)
        if found and found.source not in changed:
            text = found.source
            changed.add(text)
    return text


def _candidates(split: Split) -> list[str]:
    """Sources of the split's small functions, in the order of the files."""
    return [
        function.source
        for function in stdlib.functions()
        if stdlib.split_of(function.module) == split
        and _FEWEST_CHARS <= len(function.source) <= _MOST_CHARS
        and function.source.count("\n") >= _FEWEST_LINES - 1
    ]


def _make(split: Split) -> list[Pair]:
    rng = random.Random(f"defects/{_SEED}/{split}")
    known = {function.source for function in stdlib.functions()}
    sources = _candidates(split)
    rng.shuffle(sources)
    rows: list[Pair] = []
    for source in sources:
        if len(rows) == MOST_ROWS[split]:
            break
        changed = inject_bugs(rng, source)
        if changed and changed not in known:
            known.add(changed)
            label = LABELS[len(rows) % 2]
            rows.append((source if label == LABELS[0] else changed, label))
    del rows[len(rows) // 2 * 2 :]
    rng.shuffle(rows)
    return rows


@lru_cache(maxsize=3)
def load(split: Split) -> tuple[Row, ...]:
    """The rows of one split, half of them with bugs; each function is in one row only.

    Raises:
        DataError: The sources of the standard library are not installed.
    """
    return kept(f"defects-{split}", partial(_make, split))


DEFECTS = Task(
    name="defects",
    title="Defects: does a function hold bugs?",
    kind="classification",
    description=(
        "Say whether a small function of Python's standard library is clean or had up to three bugs put into it: a "
        "wrong operator, variable, bound, condition, argument order or result. The modules of validation and test "
        "occur nowhere in training."
    ),
    template="{source of a function}",
    load=load,
    reads_library=True,
    score=partial(metrics.score_labels, labels=LABELS),
    headline="accuracy",
    labels=LABELS,
)
