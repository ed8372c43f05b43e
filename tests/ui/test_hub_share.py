"""Sending and bringing adapters on the Generate tab: as whom, and what is said."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import huggingface_hub
import pytest

from peft_studio.jobs.manager import JobManager
from peft_studio.processes.hub_fetch import Fetch
from peft_studio.settings import Access, Settings, prepare_home
from peft_studio.ui import hub_share
from peft_studio.ui.context import Studio
from tests.ui.test_storage_routes import finished, save_adapter_of


@pytest.fixture(params=[Access.PRIVATE, Access.PUBLIC])
def studio(tmp_path: Path, request: pytest.FixtureRequest) -> Studio:
    """An app of either kind, on a machine that is signed in."""
    settings = Settings(home=tmp_path, access=request.param)
    prepare_home(settings)
    return Studio(JobManager(settings), settings)


def test_the_token_of_the_machine_is_its_owners(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = finished(studio.manager)
    save_adapter_of(paths)
    used: list[str | None] = []

    def push(_paths: object, name: str, token: str | None, _private: bool) -> str:
        used.append(token)
        return f"https://huggingface.co/{name}"

    monkeypatch.setattr(hub_share, "push_adapter", push)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_ofthismachine")
    said = hub_share.push_as_owner(studio)([paths.id], "ada/one", False)
    assert said == "Pushed: [ada/one](https://huggingface.co/ada/one)"
    hub_share.push_as_signed_in(studio)([paths.id], "ada/two", True, gr.OAuthToken("hf_hers", "contribute-repos", 0))
    hub_share.push_as_signed_in(studio)([paths.id], "ada/two", True, None)
    own = "hf_ofthismachine" if studio.settings.access is Access.PRIVATE else None
    assert used == [own, "hf_hers", None]


def test_one_adapter_at_a_time(studio: Studio) -> None:
    with pytest.raises(gr.Error, match="Choose the one adapter"):
        hub_share.push_as_owner(studio)([], "ada/one", False)


def pulled(studio: Studio, name: str) -> Iterator[tuple[Any, Any]]:
    return hub_share.puller(studio, lambda: [("new", "run-9")])(name, ["run-1"])


def test_an_adapter_that_came_is_chosen(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = Fetch("ticket", "ada/one", "", "adapter", state="done", run_id="run-9")
    monkeypatch.setattr(studio.manager.fetcher, "start", lambda _name, kind: fetch)
    monkeypatch.setattr(studio.manager.fetcher, "get", lambda _ticket: fetch)
    ((said, update),) = pulled(studio, "ada/one")
    assert (said, update["value"], update["choices"]) == ("It can answer now.", ["run-1", "run-9"], [("new", "run-9")])
    fetch.state, fetch.said = "failed", "ada/one is gated."
    with pytest.raises(gr.Error, match="is gated"):
        list(pulled(studio, "ada/one"))


def test_a_name_that_is_none(studio: Studio) -> None:
    with pytest.raises(gr.Error, match="looks like owner/name"):
        list(pulled(studio, "--help"))
