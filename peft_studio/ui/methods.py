"""The method picker: tiles of the methods that fit a level, some words and some properties; the chosen one stays."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from peft_studio import methods
from peft_studio.methods import METHODS, Method, get_method
from peft_studio.methods.not_offered import NOT_OFFERED, NotOffered
from peft_studio.ui.context import QUIET

MATRIX = Path(methods.__file__).with_name("matrix.json")
FAMILIES = {
    "llama": ("Llama", "decoder"), "qwen3": ("Qwen3", "decoder"), "gpt2": ("GPT-2", "decoder"),
    "gpt_neox": ("GPT-NeoX", "decoder"), "opt": ("OPT", "decoder"), "bert": ("BERT", "encoder"),
    "roberta": ("RoBERTa", "encoder"), "distilbert": ("DistilBERT", "encoder"),
    "modernbert": ("ModernBERT", "encoder"), "t5": ("T5", "encoder-decoder"), "bart": ("BART", "encoder-decoder"),
}  # fmt: skip
"""Titles and kinds of the architecture families that the tests go through."""
TIER_TITLES = {"common": "Common", "more": "More", "research": "Research"}
NO_PARAMETERS = "Models of this family usually have no such parameters."


@lru_cache(maxsize=1)
def outcomes() -> dict[str, dict[str, str]]:
    """The tests' outcomes: method -> family -> "yes", "no" or "yes, not mergeable"."""
    found: dict[str, dict[str, str]] = json.loads(MATRIX.read_text(encoding="utf-8"))
    return found


def works_on(name: str, family: str) -> bool:
    """Whether a method can be put on a family; what was never tried counts as yes, and says so when it fails."""
    return outcomes().get(name, {}).get(family) != "no"


def reason(method: Method, family: str) -> str:
    """Why a method cannot be put on a family."""
    kind = FAMILIES[family][1]
    if kind not in method.kinds:
        return f"It does not fit a model that is an {kind}."
    return method.not_for.get(family, NO_PARAMETERS)


def cell(method: Method, family: str) -> dict[str, str]:
    """One field of the table: ``mark`` and ``says``."""
    outcome = outcomes().get(method.name, {}).get(family)
    if outcome is None:
        return {"mark": "unknown", "says": "not tried"}
    if outcome == "no":
        return {"mark": "no", "says": f"no: {reason(method, family)}"}
    if not method.mergeable:
        return {"mark": "stays", "says": "works; stays beside the base model, it cannot be merged"}
    if outcome == "yes":
        return {"mark": "yes", "says": "works, and merges into the base model"}
    return {"mark": "stays", "says": "works; on this family it cannot be merged"}


def _row(method: Method) -> dict[str, Any]:
    return {"name": method.name, "title": method.title, "cells": [cell(method, family) for family in FAMILIES]}


def _not_offered(entry: NotOffered) -> dict[str, Any]:
    told = {name: getattr(entry, name) for name in ("name", "what", "why", "seen")}
    return {**told, "instead": [{"name": name, "title": METHODS[name].title} for name in entry.instead]}


@lru_cache(maxsize=1)
def library() -> dict[str, Any]:
    """The table and the list of what is not offered, as JSON values."""
    return {
        "families": [{"id": family, "title": title, "kind": kind} for family, (title, kind) in FAMILIES.items()],
        "tiers": [
            {"title": title, "methods": [_row(method) for method in METHODS.values() if method.tier == tier]}
            for tier, title in TIER_TITLES.items()
        ],
        "notOffered": [_not_offered(entry) for entry in NOT_OFFERED],
    }


ALL, ANY = "all", ""
"""Methods of every level; every family of models."""
TIERS = (("Common", "common"), ("More", "more"), ("Research", "research"), ("All", ALL))
FILTERS = (("mergeable", "mergeable"), ("mixed batch", "mixed_batch"), ("no added latency", "no_latency"))
DEFAULT_METHOD = next(iter(METHODS))
FIRST_TIER = "common"


def method_tiles(*args: Any, **options: Any) -> Any:
    """A radio of methods that accepts all of them, shown or not.

    After a restart the server no longer knows which tiles an open page shows. Not a class of its own, because Gradio
    writes a file next to the source for each of those.
    """
    tiles = gr.Radio(*args, **options)
    tiles.preprocess = known
    return tiles


def known(name: object) -> object:
    """The name of a method, as a page sends it."""
    if name not in METHODS:
        raise gr.Error(f"There is no method {name!r}.", print_exception=False)
    return name


def has(method: Method, prop: str) -> bool:
    """Whether a method has one of the properties of ``FILTERS``."""
    return not method.adds_latency if prop == "no_latency" else bool(getattr(method, prop))


def words_of(method: Method) -> str:
    """Everything that a search looks at."""
    paper = method.paper
    return " ".join((method.name, method.title, method.summary, *method.tags, paper.title)).casefold()


def matching(tier: str, query: str = "", properties: Sequence[str] = (), family: str = ANY) -> list[str]:
    """Names of the methods of a tier that hold all words of a query, have all properties and fit a family."""
    words = query.casefold().split()
    return [
        name
        for name, method in METHODS.items()
        if tier in (ALL, method.tier)
        and all(word in words_of(method) for word in words)
        and all(has(method, prop) for prop in properties)
        and (family == ANY or works_on(name, family))
    ]


def choices(found: Sequence[str], chosen: str) -> list[tuple[str, str]]:
    """Tiles: the methods found and the chosen one, in registry order."""
    return [(method.title, name) for name, method in METHODS.items() if name in found or name == chosen]


def told(found: Sequence[str], everywhere: Sequence[str]) -> str:
    """How much was found, as a sentence.

    Args:
        found: Methods of the chosen level.
        everywhere: Those of all levels.
    """
    if found:
        return f"{len(found)} of {len(METHODS)} methods"
    if everywhere:
        there = "is 1" if len(everywhere) == 1 else f"are {len(everywhere)}"
        return f"Nothing here matches. Under All there {there} that would."
    return "No method matches. Try other words or fewer filters; the chosen method stays."


def summary(name: str) -> str:
    """A method's summary and the caveat that belongs to it."""
    method = get_method(name)
    return f"{method.summary} {method.caveat}".strip()


class MethodPicker:
    """Level, search, filters, and the tiles that they narrow; the chosen method stays.

    Args:
        place: What the ids of the controls begin with.
        title: The label above them.
        tiles: Id of the tiles.
        by_family: Whether methods can be narrowed to those that fit a family of models.
        fold_filters: Whether the filters are below a fold.
    """

    def __init__(
        self, place: str, title: str, tiles: str, by_family: bool = False, fold_filters: bool = False
    ) -> None:
        self.tier = gr.Radio(
            TIERS, value=FIRST_TIER, label=title, elem_id=f"{place}-tier", elem_classes="ps-choice ps-tiers"
        )
        self.query = gr.Textbox(
            label="Search methods", show_label=False, placeholder="Search methods", max_lines=1,
            elem_id=f"{place}-search", elem_classes="ps-search",
        )  # fmt: skip
        fold = gr.Accordion("Only methods with", open=False, elem_classes="ps-more") if fold_filters else nullcontext()
        with fold:
            self.filters = gr.CheckboxGroup(
                FILTERS, label="Only methods with", show_label=False, elem_id=f"{place}-filters",
                elem_classes="ps-filters",
            )  # fmt: skip
        self._wide_open: dict[Any, Any] = {self.query: "", self.filters: []}
        self._events = [self.tier.input, self.query.change, self.filters.input]  # a text's "input" misses Backspace
        if by_family:
            families = [("Any architecture", ANY), *((title, family) for family, (title, _) in FAMILIES.items())]
            family = gr.Dropdown(
                families, value=ANY, label="Architecture", show_label=False, filterable=False,
                elem_id=f"{place}-family",
            )  # fmt: skip
            self._wide_open[family] = ANY
            self._events.append(family.input)
        found = matching(FIRST_TIER)
        self.chosen = method_tiles(
            choices(found, DEFAULT_METHOD), value=DEFAULT_METHOD, label="Methods", show_label=False,
            elem_classes="ps-tiles", elem_id=tiles,
        )  # fmt: skip
        self.told = gr.Markdown(told(found, matching(ALL)), elem_classes="ps-hint", elem_id=f"{place}-told")

    def narrow(
        self, chosen: str, tier: str, query: str | None, properties: Sequence[str] | None, family: str | None = ANY
    ) -> tuple[Any, str]:
        """What tiles and hint become when a control changes."""
        wanted = (query or "", properties or (), family or ANY)
        found = matching(tier, *wanted)
        return gr.update(choices=choices(found, chosen)), told(found, matching(ALL, *wanted))

    def show(self, name: str) -> dict[Any, Any]:
        """Updates that choose a method of any level, and forget what was searched for."""
        tier = get_method(name).tier
        found = matching(tier)
        tiles = gr.update(choices=choices(found, name), value=name)
        return {**self._wide_open, self.tier: tier, self.chosen: tiles, self.told: told(found, matching(ALL))}

    def outputs(self) -> list[Any]:
        """What ``show`` changes."""
        return [self.tier, *self._wide_open, self.chosen, self.told]

    def wire(self) -> None:
        """Narrows the tiles as the other controls change."""
        inputs = [self.chosen, self.tier, *self._wide_open]
        gr.on(self._events, self.narrow, inputs, [self.chosen, self.told], trigger_mode="always_last", **QUIET)
