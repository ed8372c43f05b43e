"""Records and their retelling: a few facts about a horse, a ship or a book as fields, then the same in sentences.

In the falling phase of pre-training many documents are of this form (``forms.py``), so that a model learns to look
values up by their key and to say them in any order. Subjects, keys and layouts differ from the built-in tasks' on
purpose.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

from peft_studio.pretraining.grammar import LEXICON
from peft_studio.tasks import small_world as world
from peft_studio.tasks.base import Split


class _Field(NamedTuple):
    """One kind of fact: its key, how a value is drawn, and verb phrases that state it."""

    key: str
    draw: Callable[[random.Random, Split], str]
    phrases: tuple[str, ...]


def _word(kind: str) -> Callable[[random.Random, Split], str]:
    return lambda rng, _split: rng.choice(LEXICON[kind])


def _number(rng: random.Random, _split: Split) -> str:
    return str(rng.choice((rng.randint(2, 20), rng.randint(10, 300))))


_FIELDS = (
    _Field("colour", _word("colour"), ("is {}", "is painted {}", "has a {} back")),
    _Field("age", _number, ("is {} years old", "has lived for {} years")),
    _Field("weight", _number, ("weighs {} pounds", "has a weight of {} pounds")),
    _Field("owner", world.person, ("belongs to {}", "is owned by {}", "was a gift to {}")),
    _Field("friend", world.person, ("was seen with {}", "is dear to {}")),
    _Field("town", world.town, ("comes from {}", "is known in {}", "was made famous in {}")),
    _Field("day", _word("day"), ("can be seen on {}", "is shown every {}", "rests on {}")),
    _Field("month", _word("month"), ("was first seen in {}", "comes back in {}")),
    _Field("cost", _number, ("costs {} coins", "was bought for {} coins")),
    _Field("beside", world.venue, ("stands beside {}", "is kept next to {}", "was found behind {}")),
    _Field("on the way to", world.venue, ("is on the way to {}", "will soon be at {}")),
    _Field("part of town", _word("area"), ("is kept in the {}", "was last seen in the {}", "moved to the {}")),
    _Field("mark", _word("rating"), ("has earned {}", "got {} from the judges", "is worth {} to most")),
    _Field("worth", _word("price"), ("is {} to keep", "is thought {}", "was {} last year")),
    _Field("style", _word("food"), ("has a {} look", "follows the {} fashion", "has a {} song")),
    _Field("likes", _word("dish"), ("smells of {}", "goes well with {}")),
    _Field("mood", _word("adj"), ("is {}", "seems {}", "looks {}")),
)
_FLAGS = {
    "safe": (("is safe", "does no harm"), ("is not safe", "does harm")),
    "loud": (("is loud", "makes noise"), ("is not loud", "makes no noise")),
    "for sale": (("is for sale", "can be bought"), ("is not for sale", "cannot be bought")),
    "good with children": (("is good for children", "likes children"), ("is not good for children", "fears children")),
}
_SUBJECTS = (
    ("horse", world.person), ("dog", world.person), ("ship", world.venue), ("book", world.venue),
    ("song", world.person), ("garden", world.venue), ("boat", world.venue), ("painting", world.venue),
    ("clock", world.person), ("farm", world.venue), ("bridge", world.venue), ("parrot", world.person),
)  # fmt: skip
_KINDS = ("kind", _word("thing")), ("work", _word("job")), ("used as", _word("type")), ("once", _word("site"))
_LAYOUTS = (
    ("; ", " "), ("; ", ": "), (", ", ": "), ("\n", ": "), (" / ", " "), (", ", " = "), ("\n", " - "), ("; ", " = "),
)  # fmt: skip
_ENDS = (".", ".\n", "\nIn words:", ". In words:", "\n->", ". That is:")


def _facts(rng: random.Random, split: Split) -> list[tuple[str, str, str]]:
    """Draws facts as key, value and a sentence part that states them."""
    facts = []
    for field in rng.sample(_FIELDS, rng.randint(1, 5)):
        value = field.draw(rng, split)
        facts.append((field.key, value, rng.choice(field.phrases).format(value)))
    for key in rng.sample(list(_FLAGS), rng.choice((0, 1, 1, 2))):
        value = rng.choice(("yes", "no"))
        facts.append((key, value, rng.choice(_FLAGS[key][value == "no"])))
    rng.shuffle(facts)
    return facts


def _retell(rng: random.Random, name: str, noun: str, parts: list[str]) -> str:
    """Says all parts in a new order, one to three in a sentence."""
    rng.shuffle(parts)
    adjective = parts.pop(0)[3:] if parts[0].startswith("is ") and parts[0].count(" ") == 1 else ""
    full = f"{adjective} {noun}".strip()
    kind = rng.randrange(5)
    if kind == 0:
        sentences = [f"{name} is a {full}."]
    elif kind == 1:
        sentences = [f"There is a {full} called {name}."]
    elif kind == 2:
        sentences = [f"This is {name}, a {full}."]
    else:
        sentences = [f"{name}, a {full}, {parts.pop(0)}." if parts else f"{name} is a {full}."]
    while parts:
        group = [parts.pop(0) for _ in range(min(len(parts), rng.randint(1, 3)))]
        said = group[0] if len(group) == 1 else f"{', '.join(group[:-1])} and {group[-1]}"
        sentences.append(f"{rng.choice(('It', 'It', f'The {noun}', name))} {said}.")
    return " ".join(sentences)


def record_document(rng: random.Random, split: Split) -> str:
    """Writes a record and its retelling; sometimes the other way round, or with questions."""
    noun, make = rng.choice(_SUBJECTS)
    name, facts = make(rng, split), _facts(rng, split)
    fields = [(noun, name), *((key, value) for key, value, _ in facts)]
    told = noun
    if rng.random() < 0.5:
        key, draw = rng.choice(_KINDS)
        told = draw(rng, split)
        fields.insert(rng.randint(1, len(fields)), (key, told))
    between, link = rng.choice(_LAYOUTS)
    record = between.join(f"{key}{link}{value}" for key, value in fields)
    prose = world.fix_articles(_retell(rng, name, told, [part for _, _, part in facts]))
    draw_form = rng.random()
    if draw_form < 0.8:
        return f"{record}{rng.choice(_ENDS)} {prose}"
    if draw_form < 0.9:
        return f"{prose} In fields: {record}."
    asked = rng.sample(fields, rng.randint(1, len(fields)))
    return f"{record}. " + " ".join(f"{key}? {value}." for key, value in asked)
