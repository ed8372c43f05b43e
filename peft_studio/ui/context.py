"""What every tab is given, and the one place that turns our errors into messages on the page."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from peft_studio.errors import StudioError
from peft_studio.jobs.manager import JobManager
from peft_studio.settings import Settings
from peft_studio.ui.told import told

QUIET: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
"""Options of a listener that answers at once and is no named endpoint."""


@dataclass
class Studio:
    """What every tab is given, and what the tabs leave for each other.

    Attributes:
        manager: Runs and the engine.
        settings: Where data lives.
        bridge: Through it the page's scripts fill the Train tab's form.
        tabs: All tabs, to show another one.
        tab: Each tab by its id, such as ``"train"``.
        on_load: What a page does when it opens, given the page.
    """

    manager: JobManager
    settings: Settings
    bridge: gr.HTML = field(init=False)
    tabs: gr.Tabs = field(init=False)
    tab: dict[str, gr.Tab] = field(default_factory=dict)
    on_load: list[Callable[[gr.Blocks], object]] = field(default_factory=list)


def guard(function: Callable[..., Any]) -> Callable[..., Any]:
    """Shows a ``StudioError`` of an event handler as a message; anything else stays an error with a traceback."""
    return _guard(function, lambda error: gr.Error(plain(error), title="That did not work", duration=10))


def guard_api(function: Callable[..., Any]) -> Callable[..., Any]:
    """Tells a ``StudioError`` of a named endpoint as it is: its words are the message, the rest of it the title."""

    def as_it_is(error: StudioError) -> gr.Error:
        names = {name: value for name, value in error.to_dict().items() if name != "message" and value}
        return gr.Error(told(str(error)), title=" ".join(map(str, names.values())))

    return _guard(function, as_it_is)


def _guard(function: Callable[..., Any], told: Callable[[StudioError], gr.Error]) -> Callable[..., Any]:
    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except StudioError as exc:
            error = told(exc)
            error.print_exception = False
            raise error from exc

    return guarded


def plain(error: StudioError) -> str:
    """An error's words as text that cannot be read as HTML."""
    return told(str(error)).replace("&", "&amp;").replace("<", "&lt;")
