"""``headlines``: write the headline of a short news item.

Items are generated from a fixed seed. Around the main fact stand quotes, details and older news with names and numbers
of their own, so a headline has to choose. Names in validation and test hold invented words that occur in no training
row, so a right name has been copied, not recalled. Pure Python.
"""

import random
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import peft_studio.tasks.metrics as metrics
import peft_studio.tasks.small_world as world
from peft_studio.tasks.base import Row, Split, Task
from peft_studio.tasks.headlines_events import BACKGROUNDS, EVENTS, OPENINGS, QUOTES, Event

SIZES: dict[Split, int] = {"train": 3000, "validation": 300, "test": 300}
TEXT_WORDS = (50, 90)
"""Fewest and most words of a news item."""
HEADLINE_WORDS = (6, 10)
_SEED = 2017
_MARK = re.compile(r"\{([a-z0-9 ]+)\}")
_WORDS: dict[str, tuple[str, ...]] = {
    "day": world.words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "month": world.words("January February March April May June July August September October November December"),
    "site": (*world.words("library museum theatre market hall"), "swimming pool"),
    "reason": ("the roof leaks", "too few guests come", "the rent has doubled", "its owner retires"),
    "disaster": (*world.words("storm flood fire whirlwind"), "heavy hailstorm"),
    "job": world.words("baker teacher sailor farmer doctor painter miller clerk gardener carpenter tailor driver"),
    "prize": ("National Baking Prize", "Golden Spade Award", "Order of the River", "Harbour Prize for Courage"),
    "water": world.words("river lake canal harbour marsh"),
    "tickets": ("bus tickets", "tram tickets", "ferry tickets", "tickets for the pool", "parking tickets"),
    "workers": ("bus drivers", "bakers", "dockers", "teachers", "gardeners", "postmen", "night nurses"),
    "goods": world.words("bicycles lamps boots clocks kettles chairs ladders umbrellas"),
    "line": ("bus line", "night train", "ferry", "cycle path", "tram line"),
    "saying": (
        "I never thought that I would see the day",
        "We have waited long enough for this",
        "My grandmother would not have believed it",
        "It could have come sooner, if you ask me",
        "People here will talk about it for years",
        "I heard it at breakfast and dropped my spoon",
        "Now we must make the best of it",
        "Somebody had to do it in the end",
    ),
}  # fmt: skip
_RANGES = {
    "years": (3, 60), "few": (2, 9), "tens": (12, 95), "hundreds": (110, 980), "hundreds2": (150, 900),
    "hours": (11, 48), "age": (21, 88), "percent": (51, 79),
}  # fmt: skip
_FAR_RANGES = {"old years": (2, 40), "old number": (15, 400)}
_NAMES = {"town": world.town, "other town": world.town, "person": world.person, "place": world.venue}
_FAR_NAMES = {"far town": world.town, "far person": world.person, "far place": world.venue}

Fields = Mapping[str, str]


def _fields(rng: random.Random, split: Split) -> dict[str, str]:
    """What belongs to the main fact."""
    fields = {key: rng.choice(values) for key, values in _WORDS.items()}
    fields |= {key: str(rng.randint(*bounds)) for key, bounds in _RANGES.items()}
    return fields | {key: make(rng, split) for key, make in _NAMES.items()}


def _far_fields(rng: random.Random, split: Split, fields: Fields) -> dict[str, str]:
    """What one sentence of the surroundings mentions beside that; its month and trade are others than the fact's."""
    far = {
        "old month": rng.choice([month for month in _WORDS["month"] if month != fields["month"]]),
        "far job": rng.choice([job for job in _WORDS["job"] if job != fields["job"]]),
    }
    far |= {key: str(rng.randint(*bounds)) for key, bounds in _FAR_RANGES.items()}
    return {**fields, **far, **{key: make(rng, split) for key, make in _FAR_NAMES.items()}}


def _fill(template: str, fields: Fields) -> str:
    text = _MARK.sub(lambda mark: fields[mark[1]], template)
    return world.fix_articles(text[:1].upper() + text[1:])


def _text(rng: random.Random, split: Split, event: Event, fields: Fields) -> str:
    """Three to five sentences; the first or second is the main fact."""
    plan = [rng.choice(event.leads), *rng.sample(event.details, rng.choice((1, 1, 2)))]
    plan += rng.sample([rng.choice(QUOTES), rng.choice(BACKGROUNDS)], rng.choice((1, 2, 2)))
    if rng.random() < 0.4:
        plan.insert(0, rng.choice(OPENINGS))
    return " ".join(_fill(sentence, _far_fields(rng, split, fields)) for sentence in plan[:5])


def _fits(text: str, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= len(text.split()) <= bounds[1]


def make_prompt(text: str) -> str:
    """Writes a news item as a prompt that asks for its headline."""
    return f"{text}\nHeadline:"


def _row(rng: random.Random, split: Split) -> Row | None:
    """One row; nothing when the names drawn make its item or its headlines too long or too short."""
    event, fields = rng.choice(EVENTS), _fields(rng, split)
    text = _text(rng, split, event, fields)
    headlines = [_fill(template, fields) for template in event.headlines]
    headlines = [headline for headline in headlines if _fits(headline, HEADLINE_WORDS)]
    wanted = 1 if split == "train" else rng.randint(2, 4)
    if not _fits(text, TEXT_WORDS) or len(headlines) < wanted:
        return None
    references = tuple(f" {headline}" for headline in rng.sample(headlines, wanted))
    return Row(make_prompt(text), references[0], references, {key: fields[key] for key in event.names})


@lru_cache(maxsize=3)
def load(split: Split) -> tuple[Row, ...]:
    """The rows of one split; targets and references begin with a space."""
    rng = random.Random(f"headlines/{_SEED}/{split}")
    rows: dict[str, Row] = {}
    while len(rows) < SIZES[split]:
        if row := _row(rng, split):
            rows.setdefault(row.prompt, row)
    return tuple(rows.values())


def realised(slots: Mapping[str, str], text: str) -> dict[str, bool]:
    """Which main names a headline holds, letter by letter.

    Args:
        slots: Names of a row.
        text: A headline.
    """
    return {key: re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None for key, name in slots.items()}


def score(rows: Sequence[Row], predictions: Sequence[str]) -> dict[str, float]:
    """Scores headlines against references and names.

    Args:
        rows: Rows of the task.
        predictions: One headline for each row.

    Returns:
        ``rouge1``, ``rouge2`` and ``rougeL``, and ``name_accuracy``: percent of headlines with every main name.

    Raises:
        DataError: There are no rows, or not as many predictions as rows.
    """
    figures = metrics.rouge_scores([row.references for row in rows], predictions)
    stated = [all(realised(row.slots, text).values()) for row, text in zip(rows, predictions, strict=True)]
    return figures | {"name_accuracy": metrics.percent(stated)}


HEADLINES = Task(
    name="headlines",
    title="Headlines: sum up a news item",
    kind="generation",
    description=(
        "Write the headline of a short news item among whose names, numbers and older news only one fact is the main "
        "one. Names in validation and test occur nowhere in training, so the model has to copy them."
    ),
    template="{news item}\\nHeadline:",
    load=load,
    score=score,
    headline="rougeL",
    realised=realised,
)
