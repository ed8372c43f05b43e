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


def known(name: Any) -> Any:
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


def told(tier: str, query: str, properties: Sequence[str]) -> str:
    """How much was found, as a sentence."""
    found = len(matching(tier, query, properties))
    if found:
        return f"{found} of {len(METHODS)} methods"
    elsewhere = len(matching(ALL, query, properties))
    if elsewhere:
        return f"Nothing here matches. Under All there {'is' if elsewhere == 1 else 'are'} {elsewhere} that would."
    return "No method matches. Try other words or fewer filters; the chosen method stays."


def summary(name: str) -> str:
    """A method's summary and the caveat that belongs to it."""
    method = get_method(name)
    return f"{method.summary} {method.caveat}".strip()


class MethodPicker:
    """Level, search, filters, tiles and the chosen method's summary."""

    def __init__(self) -> None:
        self.tier = gr.Radio(
            TIERS, value=FIRST_TIER, label="Method", elem_id="method-tier", elem_classes="ps-choice ps-tiers"
        )
        self.search = gr.Textbox(
            label="Search methods", show_label=False, placeholder="Search methods", max_lines=1,
            elem_id="method-search", elem_classes="ps-search",
        )  # fmt: skip
        self.filters = gr.CheckboxGroup(
            FILTERS, label="Only methods with", show_label=False, elem_id="method-filters", elem_classes="ps-filters"
        )
        self.method = method_tiles(
            choices(matching(FIRST_TIER), DEFAULT_METHOD), value=DEFAULT_METHOD, label="Methods", show_label=False,
            elem_classes="ps-tiles", elem_id="method",
        )  # fmt: skip
        self.told = gr.Markdown(told(FIRST_TIER, "", ()), elem_classes="ps-hint", elem_id="method-told")
        self.summary = gr.Markdown(summary(DEFAULT_METHOD), elem_classes="ps-hint", elem_id="method-summary")

    def narrow(self, tier: str, query: str | None, properties: Sequence[str] | None, chosen: str) -> tuple[Any, str]:
        """What tiles and hint become when level, search or filters change."""
        query, properties = query or "", properties or ()
        tiles = gr.update(choices=choices(matching(tier, query, properties), chosen))
        return tiles, told(tier, query, properties)

    def show(self, name: str) -> dict[Any, Any]:
        """Updates that choose a method of any level."""
        tier = get_method(name).tier
        return {
            self.tier: tier,
            self.search: "",
            self.filters: [],
            self.method: gr.update(choices=choices(matching(tier), name), value=name),
            self.told: told(tier, "", ()),
            self.summary: summary(name),
        }

    def outputs(self) -> list[Any]:
        """What ``show`` changes."""
        return [self.tier, self.search, self.filters, self.method, self.told, self.summary]

    def wire(self) -> None:
        """Narrows the tiles as level, search and filters change."""
        controls = [self.tier, self.search, self.filters]
        events = [self.tier.input, self.search.change, self.filters.input]  # a text's "input" misses Backspace
        gr.on(
            events, self.narrow, [*controls, self.method], [self.method, self.told],
            trigger_mode="always_last", show_progress="hidden", queue=False, api_visibility="private",
        )  # fmt: skip
