"""The grammar of the small world: turns a frame of invented facts into a short English document.

A template mixes three marks. ``{A}`` is a fact of the document's frame and stays the same throughout, so names and
numbers recur within a few dozen tokens; ``<thing>`` draws a fresh word; ``[this|that]`` picks one wording.
``forms.py`` holds the templates, ``corpus.py`` mixes the documents with text from the standard library.
"""

import random
import re
from collections.abc import Sequence

from peft_studio.tasks import small_world as world
from peft_studio.tasks.base import Split

LEXICON: dict[str, tuple[str, ...]] = {
    "adj": world.words(
        "old new small large quiet busy bright dark warm cold strange famous simple lovely dusty clean narrow tall "
        "round heavy light plain noisy cosy crowded empty grand modest pretty sunny shady tidy"
    ),
    "mood": world.words(
        "happy tired hungry proud sad glad angry calm worried curious patient surprised sleepy cheerful nervous "
        "lonely content"
    ),
    "dish": world.words(
        "bread soup fish noodles rice cheese apples pies curry pasta salad cakes tea coffee stew dumplings pancakes "
        "beans mushrooms plums honey porridge"
    ),
    "thing": world.words(
        "lamp box key map coat letter clock boat basket book stone rope bell hat chair ladder mirror drum kettle "
        "spade flute blanket wheel candle ring bottle saddle brush barrel parcel"
    ),
    "site": world.words(
        "shop house library bakery market school station theatre workshop garden tower museum mill farm"
    ),
    "land": world.words("river sea hill road forest lake valley bridge canal square wood field"),
    "go": world.words("walked ran went travelled hurried came rode wandered cycled"),
    "say": world.words("said replied answered whispered explained added"),
    "like": world.words("liked loved remembered praised preferred enjoyed"),
    "job": world.words(
        "baker teacher sailor farmer doctor painter miller clerk singer gardener carpenter cook tailor driver "
        "fisher guard"
    ),
    "folk": world.words("children guests travellers neighbours friends workers singers pupils"),
    "time": ("morning", "evening", "afternoon"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "month": (
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
        "November", "December",
    ),
    "colour": world.words("red blue green yellow white black grey brown purple orange"),
    "weather": ("rainy", "windy", "sunny", "foggy", "snowy", "stormy", "mild", "cloudy"),
    "food": world.FOODS,
    "price": world.PRICES,
    "rating": world.RATINGS,
    "area": world.AREAS,
    "type": world.TYPES,
    "family": ("family friendly", "not family friendly", "family friendly", "not family friendly",
               "good for families", "not for families"),
}  # fmt: skip

_OPTIONS = re.compile(r"\[([^\[\]]*)\]")
_FRESH = re.compile(r"<([a-z]+)>")
_FACT = re.compile(r"\{(\w+)\}")
_FRAME_WORDS = ("adj", "dish", "thing", "colour", "food", "price", "rating", "area", "type", "job", "site")

Frame = dict[str, str]


def make_frame(rng: random.Random, split: Split) -> Frame:
    """Invents the facts of one document.

    Args:
        rng: Source of chance.
        split: Where the invented names come from.

    Returns:
        ``A`` to ``E`` persons, ``P`` to ``S`` venues, ``M`` and ``N`` towns, ``i`` to ``l`` numbers, and two
        different words of each common kind such as ``thing1`` and ``thing2``.
    """
    frame = {key: world.person(rng, split) for key in "ABCDE"}
    frame |= {key: world.venue(rng, split) for key in "PQRS"}
    frame |= {key: world.town(rng, split) for key in "MN"}
    frame |= {key: str(rng.choice((rng.randint(2, 9), rng.randint(10, 99), rng.randint(2, 400)))) for key in "ijkl"}
    for kind in _FRAME_WORDS:
        for place, word in enumerate(rng.sample(LEXICON[kind], 3), start=1):
            frame[f"{kind}{place}"] = word
    for kind in ("day", "month", "family"):
        frame[f"{kind}1"], frame[f"{kind}2"] = rng.sample(LEXICON[kind], 2)
    frame["verdict"] = rng.choice(("family friendly", "not family friendly"))
    return frame


def expand(rng: random.Random, template: str, frame: Frame) -> str:
    """Fills one template.

    Args:
        rng: Source of chance for the wordings and fresh words.
        template: Text with the three marks of this module.
        frame: The document's facts.
    """
    text = template
    while "[" in text:
        text = _OPTIONS.sub(lambda match: rng.choice(match[1].split("|")), text)
    text = _FRESH.sub(lambda match: rng.choice(LEXICON[match[1]]), text)
    return world.fix_articles(_FACT.sub(lambda match: frame[match[1]], text))


def join_list(rng: random.Random, items: Sequence[str]) -> str:
    """Writes items as an English list, with or without ``and``."""
    if len(items) > 1 and rng.random() < 0.6:
        return f"{', '.join(items[:-1])} and {items[-1]}"
    return ", ".join(items)


def some_names(rng: random.Random, split: Split, count: int) -> list[str]:
    """Invents ``count`` names of one kind or of mixed kinds."""
    makers = (world.person, world.venue, world.town)
    kind = rng.choice((*makers, None))
    return [(kind or rng.choice(makers))(rng, split) for _ in range(count)]


def some_items(rng: random.Random, split: Split, count: int) -> list[str]:
    """Invents ``count`` things to list: names, numbers, words or attribute phrases."""
    draw = rng.random()
    if draw < 0.6:
        return some_names(rng, split, count)
    if draw < 0.7:
        return [str(rng.randint(1, 999)) for _ in range(count)]
    pool = [*LEXICON["thing"], *LEXICON["dish"], *LEXICON["colour"]]
    if draw < 0.85:
        pool = [*world.FOODS, *world.AREAS, *world.RATINGS, *world.PRICES, *world.TYPES]
    return rng.sample(pool, count)
