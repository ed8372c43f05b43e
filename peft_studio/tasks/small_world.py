"""The small world: invented names and the words that go with them.

Pre-training text (``grammar.py``) and the built-in tasks draw from here, so that a base model knows the *kind* of
thing a task talks about and still meets names it has never seen: every invented word belongs to exactly one split,
decided by a checksum of the word itself. Pure Python, cheap to import.
"""

import random
import re
import zlib

from peft_studio.tasks.base import Split


def words(text: str) -> tuple[str, ...]:
    """The words of a text, for word lists that read well."""
    return tuple(text.split())


_ONSETS = words("b br c ch cl d dr f fl g gl gr h j k l m n p pl pr qu r s sh sk sl st t th tr v w y z")
_VOWELS = words("a a a e e e i i i o o o u u ai ea oo ou io")
_MIDDLE_CODAS = ("", "", *words("n r l m s"))
_CODAS = ("", "", *words("n r l s t m x ck nd sh mp rn lt p b g"))

TYPES = ("pub", "restaurant", "cafe", "diner", "bistro", "tea house")
FOODS = (
    "Thai", "Italian", "French", "Indian", "Greek", "Chinese", "English", "Japanese", "Mexican", "Spanish",
    "Turkish", "Korean",
)  # fmt: skip
PRICES = ("cheap", "moderate", "expensive")
RATINGS = tuple(f"{stars} out of 5" for stars in range(1, 6))
AREAS = ("riverside", "city centre", "hillside", "harbour", "old town", "market square")

VENUE_NOUNS = (
    "Fork", "Lantern", "Garden", "Mill", "Crown", "Anchor", "Bridge", "Orchard", "Cellar", "Corner", "Table", "Well",
    "Barn", "Tower", "Gate", "Willow", "Fountain", "Stable", "Kettle", "Oak", "Arms", "Spoon", "Wheel", "Rose",
    "Plough", "Bell", "Ship", "Hearth",
)  # fmt: skip
VENUE_COLOURS = (
    "Golden", "Silver", "Old", "Green", "Quiet", "Blue", "Red", "Little", "White", "Black", "Merry", "Lucky",
)  # fmt: skip
_VENUE_SHAPES = (
    "The {word} {noun}", "The {word} {noun}", "{word} {noun}", "{word} {noun}", "The {colour} {word}",
    "{colour} {word}", "House of {word}", "The {noun} of {word}",
)  # fmt: skip
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])")
_RUDE = re.compile(
    "shit|fuc|cunt|cock|dick|tit|slut|piss|nig|nazi|rap|sex|cum|fag|anal|anus|arse|bum|poo|prick|crap|twat"
)
_TOWN_ENDINGS = ("", "", "", "ford", "ton", "by", "wick", "stead", "mere")


def fix_articles(text: str) -> str:
    """Writes ``an`` for ``a`` before a vowel."""
    return _ARTICLE.sub(r"\1n ", text)


def split_of(word: str) -> Split:
    """The split that an invented word belongs to: 17 in 20 train, 1 in 20 validation, 2 in 20 test."""
    rest = zlib.crc32(word.lower().encode()) % 20
    return "test" if rest < 2 else "validation" if rest == 2 else "train"


def _syllables(rng: random.Random) -> str:
    codas = [_MIDDLE_CODAS] * rng.choice((1, 1, 1, 2)) + [_CODAS]
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(coda) for coda in codas)


def invent(rng: random.Random, split: Split = "train", ending: str = "") -> str:
    """Invents a capitalised word of one split, such as ``Quompet``.

    Args:
        rng: Source of chance; the same state gives the same word.
        split: The split that the word must belong to.
        ending: Letters that the word must end with.
    """
    while True:
        word = _syllables(rng) + ending
        if len(word) <= 10 and split_of(word) == split and not _RUDE.search(word):
            return word.capitalize()


def person(rng: random.Random, split: Split = "train") -> str:
    """Invents a person's name: one word."""
    return invent(rng, split)


def town(rng: random.Random, split: Split = "train") -> str:
    """Invents a town's name: one word, often with an ending such as ``ford``."""
    return invent(rng, split, rng.choice(_TOWN_ENDINGS))


def venue(rng: random.Random, split: Split = "train") -> str:
    """Invents the name of a place to visit, such as ``The Quompet Lantern``; it holds one invented word."""
    shape = rng.choice(_VENUE_SHAPES)
    return shape.format(word=invent(rng, split), noun=rng.choice(VENUE_NOUNS), colour=rng.choice(VENUE_COLOURS))
