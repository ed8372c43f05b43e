"""What every tab is given, and the one place that turns our errors into messages on the page."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from peft_studio.errors import StudioError
from peft_studio.jobs.manager import JobManager
from peft_studio.settings import Settings


@dataclass
class Studio:
    """What every tab is given.

    Attributes:
        manager: Runs and the engine.
        settings: Where data lives.
        on_fill: Functions ``(request) -> updates`` that the Train tab registers; see ``train.py``.
    """

    manager: JobManager
    settings: Settings
    bridge: Any = None
    tabs: Any = None
    extras: dict[str, Any] = field(default_factory=dict)


def guard(function: Callable[..., Any]) -> Callable[..., Any]:
    """Shows a ``StudioError`` of an event handler as a message; anything else stays an error with a traceback."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except StudioError as exc:
            raise gr.Error(plain(exc), title="That did not work", duration=10, print_exception=False) from exc

    return guarded


def plain(error: StudioError) -> str:
    """An error's words as text that cannot be read as HTML."""
    return str(error).replace("&", "&amp;").replace("<", "&lt;")
