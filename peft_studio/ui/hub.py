"""The Hub on the Train tab: what the lists of models and data sets show, and the routes that search and fetch.

A search while the Hub cannot be reached is no error: the answer says so, and an offline machine is a calm page.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute

from peft_studio.access.rights import Right
from peft_studio.access.visitors import asker
from peft_studio.errors import HubOfflineError
from peft_studio.machine.memory import memory_limit
from peft_studio.machine.path_policy import named
from peft_studio.models import hub
from peft_studio.models.catalog import MODELS, ModelCard
from peft_studio.models.fit import bytes_needed
from peft_studio.processes.hub_fetch import Fetch, Fetcher
from peft_studio.tasks.hub_catalogue import HUB_DATA
from peft_studio.ui.http import endpoint

NO_MODELS = "The Hub cannot be reached from here; models on this machine still work."
NO_DATA = "The Hub cannot be reached from here; your own files and data sets fetched before still work."
SHORTEST_QUERY, LONGEST_QUERY = 2, 200
_KINDS = {"decoder": "Decoders", "encoder-decoder": "Encoder-decoders", "encoder": "Encoders"}
_HOME = "On this machine"


def shown_model(card: ModelCard, memory: int = 0) -> dict[str, Any]:
    """A model as a line of the list.

    Args:
        card: What is known of it.
        memory: Bytes of memory of the machine that trains; this machine's when 0.
    """
    needed, there = bytes_needed(card.params), memory or memory_limit()
    too_large = f"Too large for this machine: needs at least {needed / 1e9:,.1f} GB of {there / 1e9:,.1f} GB."
    return {
        "id": card.id,
        "title": card.title,
        "size": f"{card.params / 1e9:,.1f} B" if card.params >= 1e9 else card.size if card.params else "",
        "told": f"{card.params:,} parameters" if card.params else "size unknown",
        "architecture": f"{card.architecture}, {card.kind}",
        "licence": card.licence or "licence not stated",
        "summary": card.summary,
        "good_for": card.good_for,
        "suits": list(card.suits),
        "too_large": too_large if needed > there else "",
    }


def model_groups() -> list[dict[str, Any]]:
    """The catalogue's models: those on this machine, then the Hub's by kind."""
    groups: dict[str, list[dict[str, Any]]] = {title: [] for title in (_HOME, *_KINDS.values())}
    for card in MODELS.values():
        groups[_HOME if card.path else _KINDS[card.kind]].append(shown_model(card))
    return _groups(groups)


def data_groups() -> list[dict[str, Any]]:
    """The catalogue's data sets by what they are about."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in HUB_DATA.values():
        line = {name: getattr(entry, name) for name in ("id", "title", "config", "licence", "summary")}
        groups.setdefault(entry.group, []).append({**line, "kind": entry.kind, "metric": entry.metric})
    return _groups(groups)


def _groups(groups: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [{"title": title, "items": items} for title, items in groups.items() if items]


def search_models(query: str) -> dict[str, Any]:
    """What the Hub has for some words, or why it cannot be told."""
    return _search(query, hub.search_models, shown_model, NO_MODELS)


def search_data(query: str) -> dict[str, Any]:
    """Data sets that the Hub has for some words, or why it cannot be told."""

    def line(hit: hub.DatasetHit) -> dict[str, Any]:
        tasks = ", ".join(task.replace("-", " ") for task in hit.tasks)
        return {**asdict(hit), "summary": tasks.capitalize(), "config": "", "kind": None, "metric": ""}

    return _search(query, hub.search_datasets, line, NO_DATA)


def _search(
    query: str, ask: Callable[[str], Iterable[Any]], line: Callable[[Any], dict[str, Any]], offline: str
) -> dict[str, Any]:
    words = query.strip()[:LONGEST_QUERY]
    if len(words) < SHORTEST_QUERY:
        return {"hint": "Write at least two letters of a name."}
    try:
        return {"items": [line(found) for found in ask(words)]}
    except HubOfflineError:
        return {"hint": offline}


def _with_tickets(fetch: Fetch) -> dict[str, Any]:
    """A fetch for the page, with the names that its files have for people."""
    told = fetch.to_dict()
    task = told.get("task")
    if isinstance(task, dict):
        told["task"] = {key: named(value) if key.endswith("_file") else value for key, value in task.items()}
    return told


def hub_routes(fetcher: Fetcher, check_kept: Callable[[], None] = lambda: None) -> list[BaseRoute]:
    """All routes below ``/studio/hub``.

    Args:
        fetcher: Brings data sets.
        check_kept: Refuses them when whoever asks keeps too much.
    """

    def start(request: Request) -> object:
        check_kept()
        asked = request.query_params
        return _with_tickets(fetcher.start(asked.get("id", ""), asked.get("config", ""), owner=asker().id))

    def state(request: Request) -> object:
        return _with_tickets(fetcher.get(request.path_params["ticket"]))

    def cancel(request: Request) -> object:
        fetcher.cancel(request.path_params["ticket"])
        return state(request)

    def words(request: Request) -> str:
        return request.query_params.get("q", "")

    return [
        endpoint("/studio/hub/models.json", lambda _request: {"groups": model_groups()}),
        endpoint("/studio/hub/data.json", lambda _request: {"groups": data_groups()}),
        endpoint("/studio/hub/models/search.json", lambda request: search_models(words(request)), right=Right.ASK),
        endpoint("/studio/hub/data/search.json", lambda request: search_data(words(request)), right=Right.ASK),
        endpoint("/studio/hub/fetch", start, "POST", Right.TRAIN),
        endpoint("/studio/hub/fetch/{ticket}", state),
        endpoint("/studio/hub/fetch/{ticket}/cancel", cancel, "POST", Right.TRAIN),
    ]
