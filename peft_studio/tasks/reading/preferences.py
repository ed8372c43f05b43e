"""Tables with two answers to everything, of which people preferred one."""

from collections.abc import Mapping, Sequence

from peft_studio.tasks.reading.column_names import PREFERRED, plain


def preference(names: Mapping[str, str]) -> tuple[str, str] | None:
    """The columns with the better and the worse of two answers, if there are such."""
    keys = {name: key for key, name in names.items()}
    for better, worse in PREFERRED:
        if better in keys and worse in keys:
            return keys[better], keys[worse]
    spelled = [(key, keys.get(name.replace("chosen", "rejected"))) for name, key in keys.items() if "chosen" in name]
    return next(((key, other) for key, other in spelled if other), None)


def is_rejected(name: str) -> bool:
    """Whether a column, by its plain name, holds what people did not prefer."""
    return "rejected" in name or "dispreferred" in name


def of_pair(name: str) -> bool:
    """Whether a column says something about the answers of a pair, such as their scores."""
    return is_rejected(name) or "chosen" in name or "preferred" in name or name.endswith(("_j", "_k"))


def pair_notes(columns: Sequence[str], chosen: str) -> list[str]:
    """What a person should know of having chosen a column as the answer, where a table holds pairs of answers."""
    pair = preference({key: plain(key) for key in columns})
    if chosen and (is_rejected(plain(chosen)) or (pair and chosen == pair[1])):
        return [f"The target {chosen!r} seems to hold the answers that people did not prefer."]
    return [left_out(pair)] if pair and chosen == pair[0] else []


def left_out(pair: tuple[str, str]) -> str:
    """Which of two answers is trained on, in words."""
    return f"Of each pair, the answer in {pair[0]!r} is trained on; {pair[1]!r} is left out."
