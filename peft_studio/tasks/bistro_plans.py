"""How a bistro description may be worded: sentence parts per attribute, and the plans that join them.

A description is one opening clause that absorbs some attributes and follow-up sentences that state the rest, so the
number of different plans grows with every part. ``bistro.py`` makes the rows and scores the answers.
"""

import random
from collections.abc import Mapping

from peft_studio.tasks.small_world import fix_articles

Values = Mapping[str, str]

YES_PHRASES = ("is family friendly", "is good for families")
NO_PHRASES = ("is not family friendly", "is not good for families")
PRICE_PHRASES = {
    "cheap": ("is cheap", "has cheap prices", "offers cheap food"),
    "moderate": ("has moderate prices", "offers food at moderate prices"),
    "expensive": ("is expensive", "has expensive prices", "offers expensive food"),
}
_PHRASES = {
    "food": ("serves {food} food", "offers {food} food", "is known for {food} food"),
    "rated": ("is rated {rated}", "was given {rated}", "has earned {rated}"),
    "area": ("is in the {area}", "lies in the {area}", "stands in the {area}", "can be found in the {area}"),
    "near": ("is near {near}", "is close to {near}", "stands not far from {near}"),
}
_OPENINGS = (
    "{name} is a {noun}{where}.",
    "{name} is a {noun}{where}.",
    "{name}{comma_where} is a {noun}.",
    "There is a {noun}{where} called {name}.",
    "{Where}you find {name}, a {noun}.",
    "{Where}there is a {noun} called {name}.",
    "A {noun}{where} is {name}.",
    "For a {noun}{where}, go to {name}.",
    "Go to {name}, a {noun}{where}.",
    "{name}, a {noun}{where}, {predicate}.",
    "The {noun} {name}{comma_where} {predicate}.",
)


def _noun(rng: random.Random, values: Values, left: list[str]) -> str:
    """A noun phrase such as ``cheap Thai pub``; takes what it states off the list."""
    words = []
    for key in ("price", "food"):
        if key in left and rng.random() < 0.85:
            words.append(values[key])
            left.remove(key)
    left.remove("type")
    return " ".join([*words, values["type"]])


def _where(rng: random.Random, values: Values, left: list[str]) -> str:
    """A phrase of place, perhaps empty; takes what it states off the list."""
    parts = []
    if "area" in left and rng.random() < 0.8:
        parts.append("in the {area}")
        left.remove("area")
    if "near" in left and rng.random() < 0.5:
        parts.append(rng.choice(("near {near}", "close to {near}", "not far from {near}")))
        left.remove("near")
    return (", " if rng.random() < 0.3 else " ").join(parts).format(**values)


def _say(rng: random.Random, values: Values, key: str) -> str:
    """A verb phrase that states one attribute."""
    if key == "family friendly":
        return rng.choice(YES_PHRASES if values[key] == "yes" else NO_PHRASES)
    return rng.choice(PRICE_PHRASES[values[key]] if key == "price" else _PHRASES[key]).format(**values)


def _opening(rng: random.Random, values: Values, left: list[str]) -> str:
    plan = rng.choice(_OPENINGS)
    noun, where = _noun(rng, values, left), _where(rng, values, left)
    if "{predicate}" in plan and not left:
        plan = _OPENINGS[0]
    return plan.format(
        name=values["name"],
        noun=noun,
        where=f" {where}" if where else "",
        comma_where=f", {where}," if where else "",
        Where=f"{where[0].upper()}{where[1:]} " if where else "Here ",
        predicate=_say(rng, values, left.pop(0)) if "{predicate}" in plan else "",
    )


def describe(rng: random.Random, values: Values) -> str:
    """Writes one description that states every attribute once; what the opening leaves follows in the table's order.

    Args:
        rng: Source of chance.
        values: Attribute values; ``name`` and ``type`` always.

    Returns:
        One to four sentences, without a leading space.
    """
    left = [key for key in values if key != "name"]
    sentences = [_opening(rng, values, left)]
    while left:
        said = [_say(rng, values, left.pop(0)) for _ in range(min(len(left), rng.choice((1, 2, 2, 3))))]
        subject = rng.choice(("It", "It", "It", f"The {values['type']}"))
        body = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
        sentences.append(f"{subject} {body}.")
    return fix_articles(" ".join(sentences))
