"""The Learn tab: one page per method, written from its registry entry, what works where, and what is not offered."""

import re
from typing import Any

import gradio as gr

from peft_studio.config.run_config import parse_config
from peft_studio.errors import StudioError
from peft_studio.methods import METHODS, Method, get_method
from peft_studio.methods.base import NANO_PARAMS
from peft_studio.models.catalog import find_card, known_params
from peft_studio.ui.context import QUIET, Studio, guard
from peft_studio.ui.form import show_number
from peft_studio.ui.methods import DEFAULT_METHOD, FAMILIES, TIER_TITLES, MethodPicker, works_on
from peft_studio.ui.shell import island

INTRO = """### What is parameter-efficient fine-tuning?

A pre-trained model knows a language. To make it do *one thing* well, one can go on training all of it, and keep
a whole copy for each thing. Or one can leave it as it is and train something small beside it: an **adapter**. This
page explains many ways of choosing that small thing; all can be trained, compared and read side by side here.

In the figures, **grey** is frozen, **blue** is trained in place, and **orange** is what the method adds.
"""
_LATEX = [{"left": "$$", "right": "$$", "display": True}, {"left": "$", "right": "$", "display": False}]


def page(method: Method) -> str:
    """A method's page as Markdown with LaTeX."""
    yes_no = {True: "yes", False: "no"}
    answers = " | ".join(yes_no[value] for value in (method.mergeable, method.mixed_batch, method.adds_latency))
    caveat = f"\n\n> **Mind:** {method.caveat}" if method.caveat else ""
    tags = f" Also found under: {', '.join(method.tags)}." if method.tags else ""
    paper = method.paper
    return f"""## {method.title}

{method.idea}

$${method.formula}$$

**Trainable parameters.** {method.count}{caveat}

| merges into the base | rows of a batch may differ | slower when generating |
| --- | --- | --- |
| {answers} |

{rates(method)}

**Fits.** {fits(method)}

**Paper.** [{paper.title}]({paper.url}), {paper.authors}, {paper.year}.

*{TIER_TITLES[method.tier]}.{tags}*
"""


def rates(method: Method) -> str:
    """The recommended learning rates and where they are from."""
    source = re.sub(r"https?://([^\s,;)]+)", r"[\1](\g<0>)", method.learning_rate_source)
    origin = f"Source: {source}." if source else "This is the usual start for adapters; no source is given for it."
    writes, classifies = method.rates["generation"], method.rates["classification"]
    return (
        f"**Learning rate.** Nano models (up to {NANO_PARAMS // 10**6} million parameters): "
        f"{show_number(writes.rate)} where they write ({writes.origin}), {show_number(classifies.rate)} where they "
        f"classify ({classifies.origin}). {show_number(method.learning_rate_large)} for larger ones, not measured "
        f"here. {origin} {_sizes({writes.model, classifies.model})}"
    )


def _sizes(models: set[str]) -> str:
    """How large the models are that rates were measured on."""
    known = sorted(filter(find_card, models))
    told = [f"{name} has {known_params(name) / 1e6:.1f} million parameters" for name in known]
    return f"{'; '.join(told)}." if told else ""


def fits(method: Method) -> str:
    """On which families of models the tests could put the method."""
    refused = [title for family, (title, _) in FAMILIES.items() if not works_on(method.name, family)]
    which = f"The families of models in the table below, but not {', '.join(refused)}"
    if not refused:
        which = f"All {len(FAMILIES)} families of models in the table below"
    return f"{which}. The tests tried that with tiny random models: that it trains, saves and loads, not how well."


def build(studio: Studio) -> None:
    """Lays the tab out and wires it."""
    with gr.Row(equal_height=False, elem_classes="ps-split"):
        with gr.Column(scale=3, min_width=240, elem_classes="ps-form"):
            gr.Markdown(INTRO, elem_classes="ps-prose")
            library = MethodPicker("learn", "Methods", "learn-method", by_family=True)
        with gr.Column(scale=9, min_width=320, elem_classes="ps-side"):
            with gr.Column(elem_classes="ps-card ps-page"):
                text = gr.Markdown(
                    page(METHODS[DEFAULT_METHOD]), latex_delimiters=_LATEX, elem_classes="ps-prose",
                    elem_id="learn-page",
                )  # fmt: skip
                tried = island("try", {"method": DEFAULT_METHOD}, elem_id="learn-try")
            drawing = island("figure", elem_id="learn-figure")
    table = island("library", elem_id="learn-library", event="pick")
    island("glossary", elem_id="learn-glossary")

    def show(name: str) -> tuple[str, dict[str, Any]]:
        return page(get_method(name)), {"method": name}

    @guard
    def pick(event: gr.EventData) -> dict[Any, Any]:
        return library.show(str((event._data or {}).get("method", "")))

    def draw(name: str) -> dict[str, Any]:
        """The default model's map with a method at its defaults."""
        try:
            config = parse_config({"method": {"name": name}, "training": {}})
            return studio.manager.engine.estimate(config.model_dump(mode="json"))
        except StudioError as exc:
            return {"error": str(exc)}

    library.wire()
    table.pick(pick, None, library.outputs(), **QUIET)
    library.chosen.change(show, library.chosen, [text, tried], **QUIET)
    library.chosen.change(draw, library.chosen, drawing, **QUIET)
    studio.tab["learn"].select(draw, library.chosen, drawing, **QUIET)
