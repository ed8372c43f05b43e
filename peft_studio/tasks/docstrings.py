"""``docstrings``: say in one sentence what a Python function does, after its own docstring.

Functions and summaries come from the standard library of the running Python; the summary is the docstring's first
sentence. Modules of the validation and test rows have no function in the training rows. Pure Python.
"""

import re
from functools import lru_cache, partial

import peft_studio.tasks.metrics as metrics
import peft_studio.tasks.stdlib as stdlib
from peft_studio.tasks.base import Row, Split, Task
from peft_studio.tasks.kept_rows import Pair, kept

_FEWEST_WORDS, _MOST_WORDS = 3, 30
_LETTERS_SHARE = 0.75
_WORD = re.compile(r"\S*[A-Za-z]\S*")
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!etc\.)(?<!vs\.) +(?=[A-Z`'\"(])")
_NOT_PROSE = re.compile(r">>>|->|^\w+\(.*\)( =.*)?$|^[A-Z]\.\w+\(|^(?:usage|deprecated|todo|xxx)\b", re.IGNORECASE)


def summary_of(docstring: str) -> str:
    """The first sentence of a docstring on one line; empty when that is no plain English sentence of a fit length.

    Args:
        docstring: A docstring with its indentation removed.
    """
    paragraph = " ".join(re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)[0].split())
    text = _SENTENCE_END.split(paragraph, maxsplit=1)[0]
    letters = sum(char.isalpha() or char == " " for char in text)
    fits = len(_WORD.findall(text)) >= _FEWEST_WORDS and len(text.split()) <= _MOST_WORDS
    fits = fits and letters >= _LETTERS_SHARE * len(text)
    return text if fits and text.isascii() and not text.endswith(":") and not _NOT_PROSE.search(text) else ""


def make_prompt(source: str) -> str:
    """Writes a function as a prompt that asks for its summary."""
    return f"{source}\n# Summary:"


def _make(split: Split) -> list[Pair]:
    rows = []
    for function in stdlib.functions():
        if stdlib.split_of(function.module) == split and (summary := summary_of(function.docstring)):
            rows.append((make_prompt(function.source), f" {summary}"))
    return rows


@lru_cache(maxsize=3)
def load(split: Split) -> tuple[Row, ...]:
    """The rows of one split; targets begin with a space.

    Raises:
        DataError: The sources of the standard library are not installed.
    """
    return kept(f"docstrings-{split}", partial(_make, split))


DOCSTRINGS = Task(
    name="docstrings",
    title="Docstrings: summarise a Python function",
    kind="generation",
    description=(
        "Say in one sentence what a function of Python's standard library does. Functions and docstrings are read "
        "from the running Python, and the modules of validation and test occur nowhere in training."
    ),
    template="{source of a function}\\n# Summary:",
    load=load,
    reads_library=True,
    score=metrics.score_texts,
    headline="bleu",
)
