"""Adapters to the Hub and from it, on the Generate tab."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
from gradio.oauth import OAUTH_CLIENT_ID
from gradio.utils import get_space

from peft_studio.access.rights import Right, require
from peft_studio.archives.hub_push import push_adapter
from peft_studio.errors import ConfigError, ModelError
from peft_studio.models.hub import check_repository
from peft_studio.settings import Access
from peft_studio.ui.context import Studio, guard
from peft_studio.ui.tools import seen

LOOK_SECONDS = 0.5


def build(studio: Studio, chosen: gr.Dropdown, choices: Callable[[], list[tuple[str, str]]]) -> None:
    """Lays out the part of the form that sends the chosen adapter and brings others.

    Args:
        studio: The app.
        chosen: The adapters that are chosen.
        choices: All that can be chosen.
    """
    with gr.Accordion("Hugging Face Hub", open=False, elem_classes="ps-more", elem_id="hub-share"):
        if OAUTH_CLIENT_ID:
            gr.LoginButton(size="sm")
        name = gr.Textbox(
            label="Repository", placeholder="owner/name", elem_id="hub-repository", max_lines=1,
            info="Push the one chosen adapter there, with its card, or open an adapter that is there.",
        )  # fmt: skip
        private = gr.Checkbox(label="Private", elem_id="hub-private")
        with gr.Row(elem_classes="ps-buttons"):
            push = gr.Button("Push", size="sm", elem_id="hub-push")
            pull = gr.Button("Open", size="sm", elem_id="hub-pull")
        said = gr.Markdown(elem_id="hub-said")
        if get_space():
            gr.DuplicateButton("Duplicate this Space")
    hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 2}
    push.click(push_as_signed_in(studio) if OAUTH_CLIENT_ID else push_as_owner(studio), [chosen, name, private], said,
               **hidden)  # fmt: skip
    pull.click(puller(studio, choices), [name, chosen], [said, chosen], **hidden)


def push_as_signed_in(studio: Studio) -> Callable[..., str]:
    """Pushes with the token of whoever is signed in, which Gradio keeps in their session."""

    @guard
    def push_with_session(runs: list[str], name: str, private: bool, token: gr.OAuthToken | None) -> str:
        return _push(studio, runs, name, private, token.token if token else None)

    return push_with_session


def push_as_owner(studio: Studio) -> Callable[..., str]:
    """Pushes with the token of this machine, which is its owner's; where others use the app, nobody's."""

    @guard
    def push_with_token(runs: list[str], name: str, private: bool) -> str:
        from huggingface_hub import get_token

        return _push(studio, runs, name, private, get_token() if studio.settings.access is Access.PRIVATE else None)

    return push_with_token


def _push(studio: Studio, runs: list[str], name: str, private: bool, token: str | None) -> str:
    if len(runs or ()) != 1:
        raise ConfigError("Choose the one adapter above that is to be pushed.", "runs")
    info = seen(studio.manager, runs[0], Right.TAKE)
    address = push_adapter(studio.manager.store.paths(info.id), name, token, private)
    return f"Pushed: [{check_repository(name)}]({address})"


def puller(studio: Studio, choices: Callable[[], list[tuple[str, str]]]) -> Callable[..., Iterator[tuple[Any, Any]]]:
    """Brings an adapter in a process of its own, and chooses it beside those that are chosen."""

    def pull_adapter(name: str, chosen: list[str]) -> Iterator[tuple[Any, Any]]:
        ticket = begin(name)
        while (fetch := studio.manager.fetcher.get(ticket)).state == "running":
            yield f"{fetch.said} …", gr.skip()
            time.sleep(LOOK_SECONDS)
        if fetch.state != "done":
            fail(fetch.said)
        yield "It can answer now.", gr.update(choices=choices(), value=[*(chosen or []), fetch.run_id])

    @guard
    def begin(name: str) -> str:
        require(studio.settings.access, Right.IMPORT)
        return studio.manager.fetcher.start(check_repository(name), kind="adapter").ticket

    @guard
    def fail(words: str) -> None:
        raise ModelError(words)

    return pull_adapter
