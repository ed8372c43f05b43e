"""Functions of the machine's own CPython standard library, read from its sources for the tasks about code.

Nothing is read before the first call, and then everything once. Which functions there are depends on the Python
version alone, and a top-level module belongs to exactly one split, decided by a checksum of its name. Pure Python.
"""

import ast
import sysconfig
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from peft_studio.errors import DataError
from peft_studio.tasks.base import Split

MAX_CHARS = 1200
"""Longest source of a function that is kept, in characters."""
_MAX_LINES = 70
_SKIPPED = {
    "test", "tests", "idle_test", "lib2to3", "site-packages", "dist-packages", "__pycache__", "turtledemo",
}  # fmt: skip


@dataclass(frozen=True)
class Function:
    """A function or method, in ``ast.unparse``'s uniform layout.

    Attributes:
        module: The top-level module that it belongs to, such as ``email``.
        source: Its definition without docstring and comments, indented as at the top of a file.
        docstring: Its docstring; empty when it has none.
    """

    module: str
    source: str
    docstring: str


def split_of(module: str) -> Split:
    """The split of a top-level module's functions: about 8 in 10 train, 1 in 10 validation, 1 in 10 test."""
    rest = zlib.crc32(module.encode()) % 10
    return "validation" if rest == 8 else "test" if rest == 9 else "train"


def _files(root: Path) -> list[Path]:
    found = (path.relative_to(root) for path in root.rglob("*.py"))
    return sorted(path for path in found if not _SKIPPED & set(path.parts))


def _parse(path: Path) -> ast.Module | None:
    """A file's syntax tree; nothing when it is not Python of this version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return None


def _definitions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions at the top of a module and methods of its classes; functions inside functions stay part of those."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        elif isinstance(node, ast.ClassDef | ast.If | ast.Try | ast.With):
            yield from _definitions(node.body)
            yield from _definitions(getattr(node, "orelse", []))


def _strip(function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    """Removes the docstrings of a function and of all that is defined inside it."""
    for node in ast.walk(function):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]


def _from_file(module: str, tree: ast.Module) -> Iterator[Function]:
    for node in _definitions(tree.body):
        docstring = ast.get_docstring(node) or ""
        lines = (node.end_lineno or node.lineno) - node.lineno - docstring.count("\n")
        if lines <= _MAX_LINES:
            _strip(node)
            source = ast.unparse(node)
            if len(source) <= MAX_CHARS:
                yield Function(module, source, docstring)


@lru_cache(maxsize=1)
def functions() -> tuple[Function, ...]:
    """All functions and methods of at most ``MAX_CHARS`` characters, each source once, in the order of the files.

    Raises:
        DataError: The sources are not installed.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    found: dict[str, Function] = {}
    for path in _files(root):
        tree = _parse(root / path)
        module = path.parts[0].removesuffix(".py")
        for function in _from_file(module, tree) if tree else ():
            found.setdefault(function.source, function)
    if not found:
        raise DataError(
            f"The Python sources of the standard library are not installed: {root} holds no .py file to read. Tasks "
            "about code need a Python installation with its Lib folder."
        )
    return tuple(found.values())
