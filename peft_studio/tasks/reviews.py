"""``reviews``: tell whether a restaurant guest was content, from a few generated sentences.

Counting good and bad words goes part of the way only: a review praises and blames at once, denies what it names, or
reports what was expected. Its label is the guest's own, final verdict, which half of the reviews give twice. Opinion
words are plain ones, which a small model's tokenizer leaves in one or few pieces; a tenth of them occurs in validation
and test only. Rows are generated from a fixed seed. Pure Python.
"""

import random
import zlib
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import peft_studio.tasks.metrics as metrics
from peft_studio.tasks.base import SPLITS, Row, Split, Task
from peft_studio.tasks.small_world import fix_articles, words

NEGATIVE, POSITIVE = LABELS = ("negative", "positive")
SIZES: dict[Split, int] = {"train": 6000, "validation": 300, "test": 300}
_SEED = 2017


class _Topic(NamedTuple):
    things: tuple[str, ...]
    opinions: dict[str, tuple[str, ...]]


def _topic(things: str, good: str, bad: str) -> _Topic:
    return _Topic(tuple(f"the {word}" for word in words(things)), {POSITIVE: words(good), NEGATIVE: words(bad)})


_FOOD = _topic(
    "soup curry pie stew fish salad pasta bread cake tea coffee food",
    "good fresh tender tasty rich crisp light hot sweet juicy",
    "cold old dry bland stale burnt sour heavy salty raw",
)
_SERVICE = _topic(
    "waiter waitress owner cook boy girl man woman",
    "friendly cheerful patient calm kind polite helpful quick gentle happy",
    "rude slow angry nervous sleepy tired careless grumpy proud cross",
)
_ROOM = _topic(
    "room terrace garden corner bar place table house",
    "lovely cosy bright clean tidy sunny pretty quiet restful warm",
    "dark dusty noisy crowded narrow dirty gloomy shabby damp empty",
)
_WHOLE = _topic(
    "evening meal visit lunch dinner party",
    "great wonderful pleasant splendid perfect delightful fine charming grand memorable",
    "poor awful dull sad terrible dreadful wasted miserable bad boring",
)
_TOPICS = (_FOOD, _FOOD, _SERVICE, _ROOM, _WHOLE)


def _unseen(opinions: Sequence[str]) -> list[str]:
    return sorted(opinions, key=lambda word: zlib.crc32(word.encode()))[: len(opinions) // 10]


HELD_OUT = frozenset(word for topic in _TOPICS for opinions in topic.opinions.values() for word in _unseen(opinions))
"""Opinion words that occur in no training row: a tenth of those of every topic and both classes."""

# {same} is an opinion word of the row's class, {other} one of the opposite class; every sentence serves both classes.
_DIRECT = (
    "{Thing} was {same}.",
    "{Thing} was {same} from first to last.",
    "I found {thing} {same}.",
    "We expected {thing} to be {same}, and we were not wrong.",
    "{Thing} could not have been more {same}.",
    "{Thing} was not just {same} but {same2}.",
    "Nobody could deny that {thing} was {same}.",
)
_REVERSED = (
    "{Thing} was not {other} at all.",
    "{Thing} was anything but {other}.",
    "{Thing} was not what I would call {other}.",
    "I cannot say that {thing} was {other}.",
    "{Thing} was far from {other}.",
    "{Thing} was never once {other}.",
    "My sister called {thing} {other}, and I do not agree.",
    "We expected {thing} to be {other}, and we were wrong.",
    "{Thing} was neither {other} nor {other2}.",
)
_CONTRAST = (
    "They said that {thing} was {other}, but {same} is the right word.",
    "{Thing} was not {other} but {same}.",
    "{Thing} was {same}, not {other}.",
    "{Thing} used to be {other} and is now {same}.",
)
# {Aside} is another thing with its opposite opinion word {against}, which the verdict outweighs.
_OUTWEIGHED = (
    "{Aside} was {against}, but what counts for me is that {thing} was {same}.",
    "Although {aside} was {against}, {thing} was {same}, and that decides it for me.",
    "{Thing} was {same}, which matters more than that {aside} was {against}.",
    "{Aside} was {against}, I admit. Still, {thing} was {same}, and so my verdict stands.",
    "I could write about {aside}, which was {against}, but I will remember that {thing} was anything but {other}.",
)
_PLANS = (_DIRECT, _REVERSED, _CONTRAST, _OUTWEIGHED)
_PLAN_WEIGHTS = (64, 14, 11, 11)
_CLOSINGS = {
    POSITIVE: ("My brother would not go again, but I would.", "We will be back, and not only for the view.",
               "I would not think twice about another visit.", "Not going back would be a mistake."),
    NEGATIVE: ("My brother would go again, but I would not.", "We will not be back, and not only for the view.",
               "I would think twice about another visit.", "Going back would be a mistake."),
}  # fmt: skip
_OPENINGS = (
    "We came on a {day} with {guests}.",
    "I went there for {occasion}.",
    "{guests} and I had booked a table for {hour}.",
    "It was {occasion}, and we had walked all the way.",
    "We sat by the {spot}.",
    "This was my {count} visit.",
    "The bill came to {price} for two.",
    "There were {number} of us at the table.",
)
_FILLERS = {
    "day": words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "guests": ("two friends", "my parents", "a colleague", "our neighbours", "my cousin", "the children"),
    "occasion": ("a birthday", "lunch after work", "an anniversary", "a Sunday dinner", "a family party"),
    "hour": ("noon", "six", "seven", "half past seven", "eight"),
    "spot": words("window kitchen door fireplace stairs"),
    "count": words("first second third fourth"),
    "price": tuple(f"{pounds} pounds" for pounds in range(24, 90, 6)),
    "number": words("three four five six seven"),
}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _opposite(label: str) -> str:
    return POSITIVE if label == NEGATIVE else NEGATIVE


def _opinions(rng: random.Random, topic: _Topic, label: str, split: Split) -> list[str]:
    """Two different words of one class that the split may use."""
    allowed = [word for word in topic.opinions[label] if split != "train" or word not in HELD_OUT]
    return rng.sample(allowed, 2)


def _verdict(rng: random.Random, label: str, split: Split) -> str:
    """One or two sentences from which the label follows."""
    plan = rng.choice(rng.choices(_PLANS, _PLAN_WEIGHTS)[0])
    topic, aside = rng.choice(_TOPICS), rng.choice((_FOOD, _SERVICE, _ROOM))
    while aside is topic:
        aside = rng.choice((_FOOD, _SERVICE, _ROOM))
    thing, other_thing = rng.choice(topic.things), rng.choice(aside.things)
    same, other = (_opinions(rng, topic, side, split) for side in (label, _opposite(label)))
    return plan.format(
        thing=thing,
        Thing=_capital(thing),
        aside=other_thing,
        Aside=_capital(other_thing),
        same=same[0],
        same2=same[1],
        other=other[0],
        other2=other[1],
        against=_opinions(rng, aside, _opposite(label), split)[0],
    )


def _review(rng: random.Random, label: str, split: Split) -> str:
    sentences = [_verdict(rng, label, split) for _ in range(rng.choice((1, 2)))]
    if rng.random() < 0.25:
        filler = {key: rng.choice(values) for key, values in _FILLERS.items()}
        sentences.insert(rng.choice((0, 0, 1)), _capital(rng.choice(_OPENINGS).format(**filler)))
    if rng.random() < 0.25:
        sentences.append(rng.choice(_CLOSINGS[label]))
    return fix_articles(" ".join(sentences))


@lru_cache(maxsize=1)
def _rows() -> dict[Split, tuple[Row, ...]]:
    """All rows; made together so that no review is in two splits."""
    known: set[str] = set()
    made: dict[Split, tuple[Row, ...]] = {}
    for split in SPLITS:
        rng = random.Random(f"reviews/{_SEED}/{split}")
        rows: list[Row] = []
        while len(rows) < SIZES[split]:
            label = LABELS[len(rows) % 2]
            text = _review(rng, label, split)
            if text not in known:
                known.add(text)
                rows.append(Row(text, label, (label,)))
        rng.shuffle(rows)
        made[split] = tuple(rows)
    return made


def load(split: Split) -> tuple[Row, ...]:
    """The rows of one split, half of them of each class."""
    return _rows()[split]


REVIEWS = Task(
    name="reviews",
    title="Reviews: is a guest content?",
    kind="classification",
    description=(
        "Say whether a restaurant guest was content in the end. Reviews deny, concede and report expectations, so "
        "counting good and bad words does not do, and some opinion words occur nowhere in training."
    ),
    template="{review}",
    load=load,
    score=partial(metrics.score_labels, labels=LABELS),
    headline="accuracy",
    labels=LABELS,
)
