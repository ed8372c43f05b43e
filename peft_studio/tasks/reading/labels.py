"""Labels that are one value written in several ways: 1 and 1.0, true and True, with spaces around or without."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

from peft_studio.tasks.tables import Cell

MAX_LABELS = 200
_WHOLE = re.compile(r"([+-]?(?:0|[1-9]\d*))(?:\.0*)?")
_BROKEN = re.compile(r"([+-]?\d+\.\d*?[1-9])0*")
_SHOWN = 3


def folded(label: str) -> str:
    """What all spellings of a label have in common."""
    text = " ".join(unicodedata.normalize("NFKC", label).split())
    if number := _WHOLE.fullmatch(text):
        return "0" if int(number.group(1)) == 0 else number.group(1).removeprefix("+")
    if number := _BROKEN.fullmatch(text):
        return number.group(1).removeprefix("+")
    return text.casefold()


def spellings(labels: Iterable[str]) -> dict[str, Counter[str]]:
    """How often each label is written in which way, by what its spellings have in common."""
    found: dict[str, Counter[str]] = {}
    for label, count in Counter(labels).items():
        found.setdefault(folded(label), Counter())[label] += count
    return found


def name_of(ways: Mapping[str, int]) -> str:
    """The spelling that stands for a label: the most frequent one, of several the shortest; true and false as such."""
    plain = next((way for way in ways if way in ("true", "false")), "")
    return plain or min(ways, key=lambda way: (-ways[way], len(way), way))


def spelling_notes(found: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A sentence on labels that are written in several ways, if there are any."""
    several = {
        name_of(ways): [way for way in ways if way != name_of(ways)] for ways in found.values() if len(ways) > 1
    }
    if not several:
        return []
    told = "; ".join(f"{name} (also {', '.join(others)})" for name, others in list(several.items())[:_SHOWN])
    more = f"; and {len(several) - _SHOWN} more" if len(several) > _SHOWN else ""
    return [f"Labels that differ only in how they are written are taken as one: {told}{more}."]


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
