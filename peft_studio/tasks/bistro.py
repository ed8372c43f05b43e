"""``bistro``: describe an eating place from its attributes, in the manner of the E2E challenge.

Rows are generated from a fixed seed. Venue and landmark names of the validation and test rows hold invented words that
occur in no training row and in no pre-training text, so a right name has been copied, not recalled. Pure Python.
"""

import random
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import peft_studio.tasks.metrics as metrics
import peft_studio.tasks.small_world as world
from peft_studio.tasks.base import Row, Split, Task
from peft_studio.tasks.bistro_plans import describe

SIZES: dict[Split, int] = {"train": 3200, "validation": 300, "test": 300}
ATTRIBUTES = ("food", "price", "rated", "area", "family friendly", "near")
"""What a row may hold beside its name and type, in the table's order."""
_VALUES: dict[str, tuple[str, ...]] = {
    "type": world.TYPES,
    "food": world.FOODS,
    "price": world.PRICES,
    "rated": world.RATINGS,
    "area": world.AREAS,
    "family friendly": ("yes", "no"),
}
_COUNT_WEIGHTS = ((1, 5), (2, 15), (3, 25), (4, 25), (5, 20), (6, 10))
_SEED = 2017

_NO_FAMILY = re.compile(
    r"\b(?:not|isn't) (?:a )?(?:very )?(?:family[- ]friendly|good for families|suitable for families|for families)"
    r"|\b(?:does not|doesn't) welcome families|\bno families\b|\bunfriendly to families"
)
_YES_FAMILY = re.compile(r"\bfamily[- ]friendly|\bwelcomes families|\b(?:good|suitable) for families|\bfor families\b")


def _phrase(value: str) -> str:
    return {"moderate": "moderate(?:ly)?", "cheap": "cheap(?:ly)?"}.get(value, re.escape(value))


_PATTERNS = {
    key: {value: re.compile(rf"(?<![\w-]){_phrase(value)}(?![\w-])") for value in values}
    for key, values in _VALUES.items()
    if key != "family friendly"
}


def _family_stated(text: str) -> set[str]:
    rest, refused = _NO_FAMILY.subn(" ", text)
    return ({"no"} if refused else set()) | ({"yes"} if _YES_FAMILY.search(rest) else set())


def _holds(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def realised(slots: Mapping[str, str], text: str) -> dict[str, bool]:
    """Which attribute values a description states.

    A value counts when one of its accepted phrases occurs and no phrase of another value of the same attribute does.
    Names must occur letter by letter, and are then taken out before the other attributes are looked for.

    Args:
        slots: Attribute values of a row.
        text: A description of it.
    """
    found = {key: _holds(text, slots[key]) for key in ("name", "near") if key in slots}
    for key in found:
        text = text.replace(slots[key], "")
    for key, value in slots.items():
        if key == "family friendly":
            found[key] = _family_stated(text) == {value}
        elif key in _PATTERNS:
            found[key] = {other for other, shape in _PATTERNS[key].items() if shape.search(text)} == {value}
    return found


def make_prompt(values: Mapping[str, str]) -> str:
    """Writes attributes as a prompt, ``name: Biox Mill | food: Thai =>``."""
    return " | ".join(f"{key}: {value}" for key, value in values.items()) + " =>"


def _attributes(rng: random.Random, split: Split) -> dict[str, str]:
    counts, weights = zip(*_COUNT_WEIGHTS, strict=True)
    chosen = set(rng.sample(ATTRIBUTES, rng.choices(counts, weights)[0]))
    values = {"name": world.venue(rng, split), "type": rng.choice(world.TYPES)}
    for key in ATTRIBUTES:
        if key in chosen:
            values[key] = world.venue(rng, split) if key == "near" else rng.choice(_VALUES[key])
    return values


@lru_cache(maxsize=3)
def load(split: Split) -> tuple[Row, ...]:
    """The rows of one split; targets and references begin with a space."""
    rng = random.Random(f"bistro/{_SEED}/{split}")
    rows: dict[str, Row] = {}
    while len(rows) < SIZES[split]:
        values = _attributes(rng, split)
        wanted = 1 if split == "train" else rng.randint(5, 8)
        texts = dict.fromkeys(describe(rng, values) for _ in range(3 * wanted))
        references = tuple(f" {text}" for text in list(texts)[:wanted])
        if split == "train" or len(references) >= 5:
            prompt = make_prompt(values)
            rows.setdefault(prompt, Row(prompt, references[0], references, values))
    return tuple(rows.values())


def score(rows: Sequence[Row], predictions: Sequence[str]) -> dict[str, float]:
    """Scores descriptions against references and attributes.

    Args:
        rows: Rows of the task.
        predictions: One description for each row.

    Returns:
        ``bleu`` and ``chrf`` (sacrebleu, all references), and in percent ``slot_accuracy`` (attribute values stated,
        of all), ``slots_exact`` (rows with every value right) and ``name_accuracy`` (venue names copied exactly).

    Raises:
        DataError: There are no rows, or not as many predictions as rows.
    """
    figures = metrics.corpus_scores([row.references for row in rows], predictions)
    stated = [realised(row.slots, text) for row, text in zip(rows, predictions, strict=True)]
    right = [value for found in stated for value in found.values()]
    return figures | {
        "slot_accuracy": metrics.percent(right),
        "slots_exact": metrics.percent([all(found.values()) for found in stated]),
        "name_accuracy": metrics.percent([found["name"] for found in stated]),
    }


BISTRO = Task(
    name="bistro",
    title="Bistro: describe a place from its attributes",
    kind="generation",
    description=(
        "Turn a short table of attributes into fluent English. Names in validation and test occur nowhere in "
        "training, so the model has to copy them."
    ),
    template="name: {name} | type: {type} | food: {food} | price: {price} | … =>",
    load=load,
    score=score,
    headline="bleu",
    realised=realised,
)
