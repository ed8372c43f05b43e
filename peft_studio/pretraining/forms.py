"""The document forms of the small world: stories, letters, news, questions, lists, records and corrections.

Narrative forms draw sentences from ``templates.py``. The restating forms invent something, then say it again in the
same or in another order. ``corpus.py`` mixes the documents with text from the standard library.
"""

import random
from collections.abc import Callable

from peft_studio.pretraining import records, templates
from peft_studio.pretraining.grammar import LEXICON, expand, join_list, make_frame, some_items
from peft_studio.tasks import small_world as world
from peft_studio.tasks.base import Split


def _lines(rng: random.Random, split: Split, parts: tuple[tuple[str, ...], ...], sep: str = " ") -> str:
    frame = make_frame(rng, split)
    return sep.join(line for part in parts if (line := expand(rng, rng.choice(part), frame)))


def _story(rng: random.Random, split: Split) -> str:
    frame = make_frame(rng, split)
    middle = rng.sample(templates.STORY_MIDDLE, rng.randint(1, 4))
    plan = [rng.choice(templates.STORY_OPEN), *middle, rng.choice(templates.STORY_END)]
    return " ".join(expand(rng, line, frame) for line in plan)


def _visit(rng: random.Random, split: Split) -> str:
    frame = make_frame(rng, split)
    plan = [rng.choice(templates.VISIT), *rng.sample(templates.VISIT_FACTS, rng.randint(2, 4))]
    if rng.random() < 0.6:
        plan.append(rng.choice(templates.VISIT_END))
    return " ".join(expand(rng, line, frame) for line in plan)


def _letter(rng: random.Random, split: Split) -> str:
    return _lines(rng, split, templates.LETTER, rng.choice((" ", "\n")))


def _news(rng: random.Random, split: Split) -> str:
    return _lines(rng, split, templates.NEWS)


def _compare(rng: random.Random, split: Split) -> str:
    frame, topic = make_frame(rng, split), rng.randrange(len(templates.COMPARE_ASK))
    plan = (templates.COMPARE[0][topic], rng.choice(templates.COMPARE[1]), rng.choice(templates.COMPARE_ASK[topic]))
    return " ".join(line for part in plan if (line := expand(rng, part, frame)))


def _questions(rng: random.Random, split: Split) -> str:
    frame = make_frame(rng, split)
    groups = rng.sample(templates.FACT_QUESTIONS, rng.randint(2, 4))
    asked = [rng.choice(group[1:]) for group in groups]
    rng.shuffle(asked)
    return " ".join(expand(rng, line, frame) for line in [*(group[0] for group in groups), *asked])


def _corrections(rng: random.Random, split: Split) -> str:
    frame = make_frame(rng, split)
    return " ".join(expand(rng, line, frame) for line in rng.sample(templates.CORRECTIONS, rng.randint(1, 2)))


def _restate(rng: random.Random, split: Split) -> str:
    """Says a list again in the same order."""
    items = some_items(rng, split, rng.randint(2, 7))
    first, second = rng.choice(templates.LISTS)
    frame = make_frame(rng, split) | {"what": rng.choice(("names", "things", "words"))}
    line = join_list(rng, items)
    again = line if rng.random() < 0.7 else join_list(rng, items)
    return f"{expand(rng, first, frame)}{line}. {expand(rng, second, frame)}{again}."


def _reorder(rng: random.Random, split: Split) -> str:
    """Says a list backwards, from both ends, or without one item."""
    items = some_items(rng, split, rng.randint(3, 6))
    kind = rng.randrange(3)
    if kind == 0:
        return f"There: {', '.join(items)}. Back: {', '.join(reversed(items))}."
    if kind == 1:
        return f"{join_list(rng, items)}. The first is {items[0]} and the last is {items[-1]}."
    lost = rng.randrange(len(items))
    return f"{join_list(rng, items)}. Without {items[lost]}: {join_list(rng, items[:lost] + items[lost + 1 :])}."


def _pairs(rng: random.Random, split: Split) -> str:
    """Gives each name a word, then asks for some of them: key and value, both ways."""
    count = rng.randint(2, 5)
    keys, values = some_items(rng, split, count), some_items(rng, split, count)
    if len({*keys, *values}) < 2 * count:
        return _restate(rng, split)
    link, ask = rng.choice(
        ((" has ", "What has {}? "), (" goes with ", "With {}? "), (" = ", "{} = "), (": ", "{}? "))
    )
    told = rng.choice(("; ", ", ")).join(f"{key}{link}{value}" for key, value in zip(keys, values, strict=True))
    order = rng.sample(range(count), rng.randint(1, count))
    return f"{told}. " + " ".join(f"{ask.format(keys[place])}{values[place]}." for place in order)


def _echo(rng: random.Random, split: Split) -> str:
    """Quotes a sentence word for word."""
    frame = make_frame(rng, split)
    said = expand(
        rng, rng.choice((*templates.STORY_MIDDLE[3:], *templates.VISIT_FACTS, *templates.STORY_END[:5])), frame
    ).replace('"', "")
    first, second = rng.choice((
        ('{D} said: "', '{E} repeated: "'), ('The note says: "', 'Read it again: "'), ('"', '"Yes, {D}," said {E}, "'),
    ))  # fmt: skip
    return f'{expand(rng, first, frame)}{said}" {expand(rng, second, frame)}{said}"'


def _record(rng: random.Random, split: Split) -> str:
    """Writes a record of some other kind than the tasks' and then says it in words."""
    frame = make_frame(rng, split)
    record, prose = rng.choice(templates.RECORDS)
    head, *fields = record.rstrip(".").split("; ")
    rng.shuffle(fields)
    return expand(rng, "; ".join([head, *fields]) + ". " + rng.choice(prose), frame)


def _coined(rng: random.Random, split: Split) -> str:
    """Explains an invented common noun and uses it."""
    frame = make_frame(rng, split)
    frame["w"] = world.invent(rng, split).lower()
    return expand(rng, rng.choice((
        "A {w} is a [kind of|small|large] {thing1}. {A} has a <colour> {w}. The {w} of {A} is <adj>. "
        "{B} wants a {w} too.",
        'What is a {w}? "A {w}," <say> {A}, "is a <adj> {thing1}." So {B} [made|bought|drew] a {w} at {P}.',
        "In {M} they call a {thing1} a {w}. {A} sold a {w} for {i} coins. {i} coins for a {w} is {price1}.",
    )), frame)  # fmt: skip


def _sums(rng: random.Random, split: Split) -> str:
    """Counts, adds and lists small numbers."""
    a, b = rng.randint(1, 40), rng.randint(1, 40)
    who, thing = world.person(rng, split), rng.choice(LEXICON["thing"])
    return world.fix_articles(rng.choice((
        f"{who} had {a} coins and was given {b} more. Now {who} has {a + b} coins.",
        f"A {thing} costs {a} coins, a bag {b}. Together they cost {a + b} coins, says {who}.",
        f"{a} + {b} = {a + b}. {who} wrote: {a} + {b} = {a + b}.",
    )))  # fmt: skip


Form = Callable[[random.Random, Split], str]
FORMS: tuple[tuple[Form, int], ...] = (
    (_story, 20), (_visit, 16), (_letter, 7), (_news, 6), (_compare, 6), (_questions, 9), (_corrections, 5),
    (_restate, 9), (_reorder, 5), (_pairs, 5), (_echo, 7), (_record, 9), (_coined, 3), (_sums, 2),
)  # fmt: skip
LATE_FORMS: tuple[tuple[Form, int], ...] = (*FORMS, (records.record_document, 60))
"""The mix of the falling phase of pre-training: the same forms and many more records."""


def frame_document(rng: random.Random, split: Split, late: bool = False) -> str:
    """Writes one document of a form drawn by weight, without an end mark.

    Args:
        rng: Source of chance.
        split: Where the invented names come from.
        late: Whether to draw from the mix of the falling phase.
    """
    makers, weights = zip(*(LATE_FORMS if late else FORMS), strict=True)
    form: Form = rng.choices(makers, weights)[0]
    return form(rng, split)
