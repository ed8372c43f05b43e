"""Guesses which column of a table plays which part, and fills prompt templates from its rows."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from peft_studio.errors import DataError, did_you_mean
from peft_studio.tasks.base import TaskKind
from peft_studio.tasks.tables import Cell, Table

MAX_LABELS = 200
_SAMPLE = 2000
_LABEL_LENGTH = 80
"""Longest text that still passes for a class name."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# In order of preference: when several occur in one table, the first is taken.
_INPUTS = _names(
    "instruction meaning_representation mr nl buggy source src input input_text inputs prompt dialogue dialog "
    "conversation document article text sentence sentence1 premise question1 question query utterance review tweet "
    "post passage content body abstract diff patch code func function snippet source_code method email message "
    "comment description context title headline "
    "指令 提示 提示词 输入 源文 原文 文章 正文 文本 句子 问题 提问 题目 评论 评价 内容 对话 短信 消息 代码 标题 上下文"
)
_LABELS = _names(
    "label labels class classes intent sentiment emotion emotions polarity stance is_spam spam gold gold_label "
    "label_text y 标签 类别 分类 意图 情感 情绪 极性"
)
_TARGETS = _names(
    "target tgt output output_text outputs completion response human_reference ref fixed highlights summary tldr "
    "answer answers docstring reply translation commit_message msg reference references "
    "目标 输出 回答 答案 答复 回复 译文 翻译 摘要 总结 概要 参考 注释 描述"
)
_WEAK_LABELS = _names("category topic type rating stars score 类型 主题 评分 星级")
"""Often mere notes beside the real target, so names of targets go first."""
_WEAK_TARGETS = _names("title headline message comment description abstract code 标题 代码")
_REFERENCES = _names(
    "references refs human_references reference_texts all_references targets reference 参考答案 参考文本 参考译文 参考"
)
_IDLE = _names(
    "id idx index uid uuid guid key no row row_id split url link path date time timestamp language lang source_id "
    "编号 序号 索引 日期 时间 链接 语言"
)
_PAIRS = {
    "instruction": _names("input"),
    "指令": _names("输入"),
    "premise": _names("hypothesis"),
    "sentence1": _names("sentence2"),
    "question1": _names("question2"),
    "question": _names("context passage paragraph sentence"),
    "问题": _names("上下文 背景"),
}
"""Columns that belong into the prompt together with the input."""

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True)
class Guess:
    """What the columns of a table seem to be; for a person to check.

    Attributes:
        input_column: What the model is given.
        target_column: What it should answer.
        references_column: More accepted answers; empty when there is no such column.
        kind: ``generation`` or ``classification``.
        reason: Why, in one or two sentences.
        template: A prompt template, where the input seems to be spread over two columns; empty otherwise.
    """

    input_column: str
    target_column: str
    references_column: str
    kind: TaskKind
    reason: str
    template: str = ""


def guess(table: Table, kind: TaskKind | None = None) -> Guess:
    """Tells input from target by the columns' names and, where those say nothing, by their contents.

    Args:
        table: The table.
        kind: What the task is to be, if that is settled.

    Raises:
        DataError: Fewer than two columns hold anything.
    """
    filled = {key: texts for key in table.columns if (texts := _texts(table, key))}
    if len(filled) < 2:
        raise DataError(
            f"{table.name} has {len(filled)} column{'' if len(filled) == 1 else 's'} with values "
            f"({', '.join(filled) or 'none'}). At least two are needed: one with inputs, one with targets."
        )
    names = {key: _plain(key) for key in filled}
    useful = [key for key in filled if names[key] not in _IDLE]
    pool = useful if len(useful) > 1 else list(filled)
    references = _first({key: names[key] for key in pool}, _REFERENCES) if len(pool) > 2 else ""
    pool = [key for key in pool if key != references]
    target, why_target = _target({key: names[key] for key in pool}, filled)
    rest = {key: names[key] for key in pool if key != target}
    source, why_source = _input(rest, filled)
    if not target:
        target, why_target = _remaining({key: name for key, name in rest.items() if key != source}, filled)
    reason = f"Input {source!r}: {why_source}. Target {target!r}: {why_target}."
    if kind is None:
        kind = "classification" if _is_label(names[target], filled[target]) else "generation"
        reason += f" {_why_kind(kind, filled[target])}"
    return Guess(
        source, target, references if kind == "generation" else "", kind, reason, _pair_template(source, rest, kind)
    )


def _plain(name: str) -> str:
    """``humanReference``, ``Human Reference`` and ``human-reference`` are all ``human_reference``."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"\W+", "_", parted).strip("_").lower()


def _texts(table: Table, column: str) -> list[str]:
    """The first values of a column; lists count as their first entry."""
    cells = (row[column] for row in table.rows[:_SAMPLE])
    firsts = ((cell if isinstance(cell, str) else next(iter(cell), "")) for cell in cells)
    return [text.strip() for text in firsts if text.strip()]


def _first(names: Mapping[str, str], wanted: Sequence[str]) -> str:
    ranked = {name: rank for rank, name in enumerate(wanted)}
    known = [key for key in names if names[key] in ranked]
    return min(known, key=lambda key: ranked[names[key]], default="")


def _target(names: Mapping[str, str], filled: Mapping[str, list[str]]) -> tuple[str, str]:
    for wanted in (_LABELS, _TARGETS, _WEAK_LABELS):
        if found := _first(names, wanted):
            return found, "by its name"
    if _first(names, _INPUTS):
        return "", ""  # the target is what the input leaves over
    return _few_values(names, filled)


def _input(names: Mapping[str, str], filled: Mapping[str, list[str]]) -> tuple[str, str]:
    if found := _first(names, _INPUTS):
        return found, "by its name"
    return _longest(names, filled)


def _remaining(names: Mapping[str, str], filled: Mapping[str, list[str]]) -> tuple[str, str]:
    if found := _first(names, _WEAK_TARGETS):
        return found, "by its name"
    if len(names) == 1:
        return next(iter(names)), "the only other column"
    few = _few_values(names, filled)
    return few if few[0] else _longest(names, filled)


def _few_values(names: Iterable[str], filled: Mapping[str, list[str]]) -> tuple[str, str]:
    short = [key for key in names if _is_label("", filled[key])]
    if not short:
        return "", ""
    return min(short, key=lambda key: len(set(filled[key]))), "few different short values"


def _longest(names: Iterable[str], filled: Mapping[str, list[str]]) -> tuple[str, str]:
    longest = max(names, key=lambda key: sum(map(len, filled[key])) / len(filled[key]))
    return longest, "the longest texts of the remaining columns"


def _is_label(name: str, texts: Sequence[str]) -> bool:
    """Whether values look like class names: short and often repeated; a name that says so needs less repetition."""
    named = name in (*_LABELS, *_WEAK_LABELS)
    least, most = (1, len(texts) // 2) if named else (2, len(texts) // 5)
    return least <= len(set(texts)) <= min(MAX_LABELS, most) and max(map(len, texts)) <= _LABEL_LENGTH


def _why_kind(kind: TaskKind, texts: Sequence[str]) -> str:
    if kind == "classification":
        return f"Its values are few ({len(set(texts))}) and short, so this is classification."
    return "Its values are mostly different or long, so this is generation."


def _pair_template(source: str, names: Mapping[str, str], kind: TaskKind) -> str:
    other = _first(names, _PAIRS.get(_plain(source), ()))
    if not other or "{" in source + other or "}" in source + other:
        return ""
    first, second = (other, source) if _plain(source) in ("question", "问题") else (source, other)
    return f"{{{first}}}\n{{{second}}}" + ("\n" if kind == "generation" else "")


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


def label_of(cell: Cell) -> str | None:
    """The class that a cell names: empty when it names none, ``None`` when it names several."""
    if isinstance(cell, str):
        return cell.strip()
    return None if len(cell) > 1 else "".join(cell).strip()


def ordered_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Distinct labels in the order of their numbers: integers by value, anything else by alphabet."""
    distinct = set(labels)
    whole = all(re.fullmatch(r"[+-]?[0-9]{1,18}", label) for label in distinct)
    return tuple(sorted(distinct, key=lambda label: (int(label) if whole else 0, label)))
