"""A page to build controls on, and a manager without an app."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest

from peft_studio.jobs.manager import JobManager
from peft_studio.settings import Settings, prepare_home


@pytest.fixture
def manager(tmp_path: Path) -> JobManager:
    """A manager that starts nothing."""
    settings = Settings(home=tmp_path)
    prepare_home(settings)
    return JobManager(settings)


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
