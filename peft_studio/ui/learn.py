"""The Learn tab: one page per method, written from its registry entry, with a figure of where its parameters sit."""

from typing import Any

import gradio as gr

from peft_studio.config import parse_config
from peft_studio.errors import StudioError
from peft_studio.methods import METHODS, Method, get_method
from peft_studio.ui.context import Studio
from peft_studio.ui.form import show_number
from peft_studio.ui.shell import island

INTRO = """### What is parameter-efficient fine-tuning?

A pre-trained model knows a language. To make it do *one thing* well, one can go on training all of it, and keep
a whole copy for each thing. Or one can leave it as it is and train something small beside it: an **adapter**. This
page explains several ways of choosing that small thing; all can be trained, compared and read side by side here.

In the figures, **grey** is frozen, **blue** is trained in place, and **orange** is what the method adds.
"""


def page(method: Method) -> str:
    """A method's page as Markdown with LaTeX."""
    yes_no = {True: "yes", False: "no"}
    answers = " | ".join(yes_no[value] for value in (method.mergeable, method.mixed_batch, method.adds_latency))
    caveat = f"\n\n> **Mind:** {method.caveat}" if method.caveat else ""
    paper = method.paper
    return f"""## {method.title}

{method.idea}

$${method.formula}$$

**Trainable parameters.** {method.count}{caveat}

| merges into the base | rows of a batch may differ | slower when generating | recommended learning rate |
| --- | --- | --- | --- |
| {answers} | {show_number(method.learning_rate)} |

**Paper.** [{paper.title}]({paper.url}), {paper.authors}, {paper.year}.
"""


def figure(studio: Studio, name: str) -> dict[str, Any]:
    """The default model's map with a method at its defaults: what the figure draws."""
    try:
        config = parse_config({"method": {"name": name}, "training": {}})
        return studio.manager.engine.estimate(config.model_dump(mode="json"))
    except StudioError as exc:
        return {"error": str(exc)}


def build(studio: Studio) -> None:
    """Lays the tab out and wires it."""
    first = next(iter(METHODS))
    latex = [{"left": "$$", "right": "$$", "display": True}, {"left": "$", "right": "$", "display": False}]
    with gr.Row(equal_height=False, elem_classes="ps-split"):
        with gr.Column(scale=3, min_width=240, elem_classes="ps-form"):
            gr.Markdown(INTRO, elem_classes="ps-prose")
            tiles = [(method.title, name) for name, method in METHODS.items()]
            chosen = gr.Radio(tiles, value=first, label="Methods", elem_classes="ps-tiles", elem_id="learn-method")
        with gr.Column(scale=9, min_width=320, elem_classes="ps-side"):
            with gr.Column(elem_classes="ps-card ps-page"):
                text = gr.Markdown(
                    page(METHODS[first]), latex_delimiters=latex, elem_classes="ps-prose", elem_id="learn-page"
                )
                tried = island("try", {"method": first}, elem_id="learn-try")
            drawing = island("figure", elem_id="learn-figure")

    def show(name: str) -> tuple[str, dict[str, Any]]:
        return page(get_method(name)), {"method": name}

    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    chosen.change(show, chosen, [text, tried], **quiet)
    chosen.change(lambda name: figure(studio, name), chosen, drawing, **quiet)
    studio.extras["tab-learn"].select(lambda name: figure(studio, name), chosen, drawing, **quiet)
