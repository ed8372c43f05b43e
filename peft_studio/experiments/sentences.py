"""An experiment's answer in words."""

from collections.abc import Sequence
from itertools import pairwise

from peft_studio.experiments.verdict import CellFigures, Duel, unit_of

MOST_WORDS = 16


def words_of(rows: Sequence[CellFigures], found: Sequence[Duel], metric: str, lower_is_better: bool) -> list[str]:
    """What came of an experiment, as sentences: the leader first, then who beats whom.

    Args:
        rows: The table.
        found: Every pair that was compared.
        metric: What decides.
        lower_is_better: Which way is better.
    """
    ranked = sorted(
        (row for row in rows if row.mean is not None), key=lambda row: row.mean or 0.0, reverse=not lower_is_better
    )
    pairs = {(duel.better, duel.worse): duel for duel in found}
    names = [row.name for row in ranked]
    said = [*_leader(names, pairs)]
    for better, worse in [*((names[0], other) for other in names[1:]), *pairwise(names[1:])]:
        if (duel := pairs.get((better, worse)) or pairs.get((worse, better))) and len(said) < MOST_WORDS:
            said.append(duel.words(metric))
    return said


def _leader(names: Sequence[str], pairs: dict[tuple[str, str], Duel]) -> list[str]:
    """Where one cell stands to all others, of three or more."""
    if len(names) < 3:
        return []
    first, others = names[0], names[1:]
    met = {other: pairs.get((first, other)) or pairs.get((other, first)) for other in others}
    compared = [duel for duel in met.values() if duel]
    tied = [other for other, duel in met.items() if duel and duel.tie]
    if not compared:
        return []
    beaten = len(compared) - len(tied)
    if not tied and len(compared) == len(others):
        return [f"Best by more than chance: {first}."]
    if not tied:
        return [f"Best by more than chance of those measured on the same rows: {first}."]
    if len(tied) == len(compared) and len(tied) > 3:
        return [f"In front: {first}; but none of the others can be told apart from it."]
    named = " and ".join([", ".join(tied[:-1]), tied[-1]] if len(tied) > 1 else tied)
    if beaten:
        return [f"In front: {first}, which cannot be told apart from {named}; the others are behind."]
    return [f"In front: {first}, which cannot be told apart from {named}."]


def base_words(mean: float | None, metric: str) -> list[str]:
    """What the untouched base model has."""
    if mean is None:
        return []
    unit, digits = unit_of(metric)
    return [f"The base model without any training has {mean:.{digits}f} {unit} on the same rows."]
