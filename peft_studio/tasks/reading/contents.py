"""What the values of a column look like: labels, numbers, or notes on where a row comes from."""

import re
from collections.abc import Sequence

from peft_studio.tasks.reading.column_names import (
    IDLE,
    IDLE_ENDS,
    INPUTS,
    LABELS,
    ORIGINS,
    PAIRS,
    TARGETS,
    WEAK_LABELS,
)
from peft_studio.tasks.reading.labels import MAX_LABELS, folded

_LABEL_LENGTH = 80
"""Longest text that still passes for a class name."""


_MOST_GRADES = 20
"""Different numbers that still pass for grades; more are measures or counts."""
_MANY = 8
"""So many rows with one value in a column say that it tells nothing."""
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?(e[+-]?\d+)?", re.IGNORECASE)
_ADDRESS = re.compile(r"(https?://|www\.)\S+$")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]|$)")
_HASH = re.compile(r"(?=.*\d)[0-9a-fA-F-]{16,}")
_LANGUAGES = frozenset(
    text
    for line in (
        "en de fr es it pt nl pl ru uk zh ja ko ar hi bn ur fa he tr el cs sk hu ro bg sr hr sl fi sv da nb et lv lt",
        "vi th id ms tl sw ta te eng deu fra spa zho jpn kor rus",
    )
    for text in line.split()
)
"""Codes of languages that data sets are in."""


def is_idle(name: str, texts: Sequence[str]) -> bool:
    """Whether a column, by its plain name and its values, tells where a row comes from, and not what it says."""
    if name in LABELS or name in TARGETS:
        return False
    if name in IDLE or name.endswith(IDLE_ENDS):
        return True
    if name in ORIGINS and name not in WEAK_LABELS and is_label("", texts):
        return True
    if name not in PAIRS and len(texts) >= _MANY and len(set(texts)) == 1:
        return True  # an instruction goes before its input, though it may be the same for all rows
    if all(_ADDRESS.match(text) for text in texts):
        return True
    if name not in INPUTS and all(_DATE.match(text) or _HASH.fullmatch(text) for text in texts):
        return True
    if name not in INPUTS and all(text.lower().replace("_", "-").partition("-")[0] in _LANGUAGES for text in texts):
        return True
    return are_numbers(texts) and len(set(texts)) > _MOST_GRADES


def are_numbers(texts: Sequence[str]) -> bool:
    """Whether all values are numbers."""
    return all(_NUMBER.fullmatch(text) for text in texts)


def is_boolean(texts: Sequence[str]) -> bool:
    """Whether values say yes or no, and both occur."""
    return {text.casefold() for text in texts} in ({"true", "false"}, {"yes", "no"})


def is_label(name: str, texts: Sequence[str]) -> bool:
    """Whether values look like class names: short and often repeated; a name that says so needs less repetition."""
    named = name in (*LABELS, *WEAK_LABELS)
    least, most = (1, len(texts) // 2) if named else (2, len(texts) // 5)
    return least <= len(set(map(folded, texts))) <= min(MAX_LABELS, most) and max(map(len, texts)) <= _LABEL_LENGTH
