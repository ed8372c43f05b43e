"""A page to build controls on."""

import asyncio
from collections.abc import Iterator

import gradio as gr
import pytest


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[gr.Blocks]:
    """Where controls that hold others are made; closes the event loops that Gradio makes and leaves open."""
    made: list[asyncio.AbstractEventLoop] = []
    new = asyncio.new_event_loop

    def remember() -> asyncio.AbstractEventLoop:
        made.append(new())
        return made[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", remember)
    with gr.Blocks(analytics_enabled=False) as page:
        yield page
    asyncio.set_event_loop(None)
    for loop in made:
        loop.close()
