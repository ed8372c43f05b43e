"""Prompt templates: text with ``{column}`` in place of a row's values."""

import re
from collections.abc import Iterable, Mapping

from peft_studio.errors import DataError, did_you_mean
from peft_studio.tasks.base import TaskKind
from peft_studio.tasks.reading.column_names import PAIRS, first, plain
from peft_studio.tasks.tables import Cell

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def fill(template: str, record: Mapping[str, Cell]) -> str:
    """Puts a row's values into a template.

    Args:
        template: Text with ``{column}`` where a value belongs; ``{{`` and ``}}`` stand for braces.
        record: Values by column; a list of texts is joined with commas.

    Raises:
        DataError: The template is malformed or names a column that the record does not have.
    """

    def replace(match: re.Match[str]) -> str:
        if match.group() in ("{{", "}}"):
            return match.group()[0]
        value = record[_column(match, template, record)]
        return value if isinstance(value, str) else ", ".join(value)

    return _TOKEN.sub(replace, template)


def placeholders(template: str, columns: Iterable[str]) -> list[str]:
    """The columns that a template uses, in order of first use.

    Raises:
        DataError: The template is malformed or names a column that is not among ``columns``.
    """
    known = dict.fromkeys(columns, "")
    tokens = [match for match in _TOKEN.finditer(template) if match.group() not in ("{{", "}}")]
    return list(dict.fromkeys(_column(match, template, known) for match in tokens))


def _column(match: re.Match[str], template: str, known: Mapping[str, Cell]) -> str:
    name = match.group(1)
    if name is None:
        raise DataError(
            f"The template {template!r} has a lone {match.group()!r} at character {match.start() + 1}. "
            "Write {column} for a value, {{ and }} for braces."
        )
    for column in (name, name.strip()):
        if column in known:
            return column
    raise DataError(
        f"The template {template!r} names the column {name!r}, which is not there. {did_you_mean(name, known)}"
    )


def pair_template(source: str, names: Mapping[str, str], kind: TaskKind) -> str:
    """A prompt of the input and the column that belongs to it, if there is such among others; empty otherwise.

    Args:
        source: The input column.
        names: Other columns with their plain names.
        kind: Of the task.
    """
    other = first(names, PAIRS.get(plain(source), ()))
    if not other or "{" in source + other or "}" in source + other:
        return ""
    one, two = (other, source) if plain(source) in ("question", "问题") else (source, other)
    return f"{{{one}}}\n{{{two}}}" + ("\n" if kind == "generation" else "")
