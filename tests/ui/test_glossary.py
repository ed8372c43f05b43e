"""Every measure, cost and setting that the page names is explained."""

import re
from itertools import chain

from peft_studio.methods import METHODS
from peft_studio.tasks.metrics import classification_scores, corpus_scores, rouge_scores
from peft_studio.ui.details import SECTIONS
from peft_studio.ui.methods import FILTERS
from peft_studio.ui.shell import STATIC


def script(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


ENTRIES = set(re.findall(r"^    (\w+): \[", script("glossary.js"), re.M))


def test_metrics_and_costs_have_an_entry() -> None:
    titled = set(re.findall(r"(\w+): \"", script("text.js").split("METRICS = {")[1].split("};")[0]))
    scored = {*corpus_scores([["a b"]], ["a"]), *rouge_scores([["a"]], ["a"]), *classification_scores("a", "a", "a")}
    own = set(re.findall(r'"(\w+)": metrics\.percent', script("../../tasks/bistro.py")))
    assert scored | own <= titled and own
    comparison = script("comparison.js")
    costs = set(re.findall(r"^  (\w+): \{ title:", comparison, re.M))
    validation = {name.rpartition("/")[2] for name in re.findall(r'"(eval/\w+)"', comparison)}
    assert len(costs) == 6 and validation == {"best", "loss", "perplexity"}
    assert titled | costs | validation <= ENTRIES
    assert {title.replace(" ", "_") for title, _ in FILTERS} <= ENTRIES


def test_settings_have_an_entry_or_say_what_they_are() -> None:
    models = chain(SECTIONS.values(), (method.params for method in METHODS.values()))
    for model in models:
        for name, field in model.model_fields.items():
            assert name in ENTRIES or field.description, (model.__name__, name)
