"""How a bistro description may be worded: sentence parts per attribute, and the plans that join them.

A description is one opening clause that absorbs some attributes and follow-up sentences that state the rest, so the
number of different plans grows with every part. ``bistro.py`` makes the rows and scores the answers.
"""

import random
import re
from collections.abc import Mapping

Values = Mapping[str, str]

_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])")

YES_PHRASES = ("is family friendly", "welcomes families", "is good for families")
NO_PHRASES = ("is not family friendly", "does not welcome families", "is not good for families")


def _noun(rng: random.Random, values: Values, used: set[str]) -> str:
    """A noun phrase such as ``cheap Thai pub``; notes which attributes it states."""
    words = []
    for key in ("price", "food"):
        if key in values and rng.random() < 0.6:
            words.append("moderately priced" if values[key] == "moderate" and rng.random() < 0.5 else values[key])
            used.add(key)
    if "type" in values:
        used.add("type")
    return " ".join([*words, values.get("type", "place")])


def _where(rng: random.Random, values: Values, used: set[str]) -> str:
    """A phrase of place, perhaps empty."""
    parts = []
    if "area" in values and rng.random() < 0.65:
        parts.append(rng.choice(("in the {area}", "in the {area} area", "at the {area}")))
        used.add("area")
    if "near" in values and rng.random() < 0.55:
        parts.append(rng.choice(("near {near}", "close to {near}", "not far from {near}")))
        used.add("near")
    if len(parts) == 2 and rng.random() < 0.3:
        parts.reverse()
        parts[0] += ","
    return " ".join(parts).format(**values)


_OPENINGS = (
    "{name} is a {noun}{where}.",
    "{name} is a {noun}{where}.",
    "{name}{comma_where} is a {noun}.",
    "There is a {noun}{where} called {name}.",
    "{Where}you will find {name}, a {noun}.",
    "{Where}there is a {noun} named {name}.",
    "A {noun}{where} is {name}.",
    "If you want a {noun}{where}, try {name}.",
    "Visit {name}, a {noun}{where}.",
    "{name}, a {noun}{where}, {predicate}.",
    "The {noun} {name}{comma_where} {predicate}.",
)


def _predicates(values: Values) -> dict[str, tuple[str, ...]]:
    """Verb phrases that state one attribute each."""
    family = YES_PHRASES if values.get("family friendly") == "yes" else NO_PHRASES
    price = {
        "cheap": ("is cheap", "has cheap prices", "offers cheap meals"),
        "moderate": ("is moderately priced", "has moderate prices", "offers meals at moderate prices"),
        "expensive": ("is expensive", "has expensive prices", "offers expensive meals"),
    }
    return {
        "type": ("is a {type}",),
        "food": ("serves {food} food", "offers {food} dishes", "has a {food} menu"),
        "price": price.get(values.get("price", ""), ()),
        "rating": ("is rated {rating}", "has a rating of {rating}", "has a customer rating of {rating}"),
        "area": ("is in the {area}", "lies in the {area} area", "can be found in the {area}"),
        "family friendly": family,
        "near": ("is near {near}", "is close to {near}", "stands not far from {near}"),
    }


def _say(rng: random.Random, values: Values, key: str) -> str:
    return rng.choice(_predicates(values)[key]).format(**values)


def _opening(rng: random.Random, values: Values, used: set[str]) -> str:
    plan = rng.choice(_OPENINGS)
    noun, where = _noun(rng, values, used), _where(rng, values, used)
    left = [key for key in values if key != "name" and key not in used]
    if "{predicate}" in plan and not left:
        plan = "{name} is a {noun}{where}."
    predicate = ""
    if "{predicate}" in plan:
        key = rng.choice(left)
        used.add(key)
        predicate = _say(rng, values, key)
    return plan.format(
        name=values["name"],
        noun=noun,
        where=f" {where}" if where else "",
        comma_where=f", {where}," if where else "",
        Where=f"{where[0].upper()}{where[1:]}, " if where else rng.choice(("Here ", "In this town ")),
        predicate=predicate,
    )


def describe(rng: random.Random, values: Values) -> str:
    """Writes one description that states every attribute once.

    Args:
        rng: Source of chance.
        values: Attribute values; ``name`` always.

    Returns:
        One to four sentences, without a leading space.
    """
    used: set[str] = set()
    sentences = [_opening(rng, values, used)]
    left = [key for key in values if key != "name" and key not in used]
    rng.shuffle(left)
    while left:
        group = [left.pop() for _ in range(min(len(left), rng.choice((1, 2, 2, 3))))]
        said = [_say(rng, values, key) for key in group]
        subject = rng.choice(("It", "It", "It", "The place", f"The {values.get('type', 'place')}"))
        body = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
        sentences.append(f"{subject} {body}.")
    return _ARTICLE.sub(r"\1n ", " ".join(sentences))
