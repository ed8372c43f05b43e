"""The method picker: tiles of the methods that fit a level, some words and some properties; the chosen one stays."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from peft_studio.methods import METHODS, Method, get_method

ALL = "all"
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


def matching(tier: str, query: str = "", properties: Sequence[str] = ()) -> list[str]:
    """Names of the methods of a tier that hold all words of a query and have all properties, in registry order."""
    words = query.casefold().split()
    return [
        name
        for name, method in METHODS.items()
        if tier in (ALL, method.tier)
        and all(word in words_of(method) for word in words)
        and all(has(method, prop) for prop in properties)
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


class MethodSearch:
    """Level, search and filters: what narrows a page's tiles.

    Args:
        place: What the ids of the controls begin with.
        title: The label above them.
    """

    def __init__(self, place: str, title: str) -> None:
        self.tier = gr.Radio(
            TIERS, value=FIRST_TIER, label=title, elem_id=f"{place}-tier", elem_classes="ps-choice ps-tiers"
        )
        self.query = gr.Textbox(
            label="Search methods", show_label=False, placeholder="Search methods", max_lines=1,
            elem_id=f"{place}-search", elem_classes="ps-search",
        )  # fmt: skip
        self.filters = gr.CheckboxGroup(
            FILTERS, label="Only methods with", show_label=False, elem_id=f"{place}-filters", elem_classes="ps-filters"
        )

    @property
    def controls(self) -> list[Any]:
        """Level, words and properties."""
        return [self.tier, self.query, self.filters]

    @property
    def events(self) -> list[Any]:
        """When to look again; a text's "input" misses Backspace."""
        return [self.tier.input, self.query.change, self.filters.input]

    def show(self, tier: str) -> dict[Any, Any]:
        """Updates that open a level and forget words and properties."""
        return {self.tier: tier, self.query: "", self.filters: []}


def first_tiles(elem_id: str) -> Any:
    """The tiles that a page begins with."""
    return method_tiles(
        choices(matching(FIRST_TIER), DEFAULT_METHOD), value=DEFAULT_METHOD, label="Methods", show_label=False,
        elem_classes="ps-tiles", elem_id=elem_id,
    )  # fmt: skip


def first_hint(elem_id: str) -> Any:
    """The hint that a page begins with."""
    return gr.Markdown(told(matching(FIRST_TIER), matching(ALL)), elem_classes="ps-hint", elem_id=elem_id)


class MethodPicker:
    """Level, search, filters, tiles and the chosen method's summary."""

    def __init__(self) -> None:
        self.search = MethodSearch("method", "Method")
        self.method = first_tiles("method")
        self.told = first_hint("method-told")
        self.summary = gr.Markdown(summary(DEFAULT_METHOD), elem_classes="ps-hint", elem_id="method-summary")

    def narrow(self, tier: str, query: str | None, properties: Sequence[str] | None, chosen: str) -> tuple[Any, str]:
        """What tiles and hint become when level, search or filters change."""
        query, properties = query or "", properties or ()
        found = matching(tier, query, properties)
        return gr.update(choices=choices(found, chosen)), told(found, matching(ALL, query, properties))

    def show(self, name: str) -> dict[Any, Any]:
        """Updates that choose a method of any level."""
        tier = get_method(name).tier
        found = matching(tier)
        return {
            **self.search.show(tier),
            self.method: gr.update(choices=choices(found, name), value=name),
            self.told: told(found, matching(ALL)),
            self.summary: summary(name),
        }

    def outputs(self) -> list[Any]:
        """What ``show`` changes."""
        return [*self.search.controls, self.method, self.told, self.summary]

    def wire(self) -> None:
        """Narrows the tiles as level, search and filters change."""
        gr.on(
            self.search.events, self.narrow, [*self.search.controls, self.method], [self.method, self.told],
            trigger_mode="always_last", show_progress="hidden", queue=False, api_visibility="private",
        )  # fmt: skip
