"""Lists of the Hub: what they show of models and data sets, and what is said when it cannot be asked."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from peft_studio.errors import HubOfflineError, ModelError
from peft_studio.models import hub
from peft_studio.models.catalog import HUB_CARDS, MODELS
from peft_studio.models.fit import RUNTIME_BYTES, bytes_needed
from peft_studio.processes.hub_fetch import Fetcher
from peft_studio.tasks.hub_catalogue import HUB_DATA
from peft_studio.ui.hub import NO_DATA, NO_MODELS, data_groups, hub_routes, model_groups, shown_model

HOST = "http://testserver"


@pytest.fixture
def client(tmp_path: Path, gated: Callable[..., TestClient]) -> Iterator[TestClient]:
    with gated(hub_routes(Fetcher(tmp_path)), tmp_path) as found:
        yield found


def raiser(error: Exception) -> Any:
    def ask(_words: str) -> Any:
        raise error

    return ask


def test_every_model_is_in_one_group() -> None:
    groups = model_groups()
    listed = [item["id"] for group in groups for item in group["items"]]
    assert sorted(listed) == sorted(MODELS)
    assert groups[0]["title"] == "On this machine"
    assert {item["id"] for item in groups[0]["items"]} == {"nano-lm", "nano-encoder", "nano-seq2seq"}


def test_every_data_set_is_in_one_group_with_a_name() -> None:
    groups = data_groups()
    assert [item["id"] for group in groups for item in group["items"]] == list(HUB_DATA)
    assert all(group["title"] for group in groups) and len(groups) > 2


def test_a_model_too_large_is_told_with_the_numbers() -> None:
    card = replace(HUB_CARDS[0], params=7_000_000_000)
    shown = shown_model(card, memory=16_000_000_000)
    assert bytes_needed(card.params) == 56_000_000_000 + RUNTIME_BYTES
    assert shown["too_large"] == "Too large for this machine: needs at least 56.4 GB of 16.0 GB."
    assert shown["size"] == "7.0 B"
    assert shown_model(HUB_CARDS[0], memory=16_000_000_000)["too_large"] == ""
    assert shown_model(replace(card, params=0))["told"] == "size unknown"


def test_what_is_found_is_listed(client: TestClient, monkeypatch: Any) -> None:
    hit = hub.DatasetHit("a/b", "A B", "mit", ("text-classification",), 7)
    monkeypatch.setattr(hub, "search_models", lambda words: list(HUB_CARDS[:2]) if words == "smol lm" else [])
    monkeypatch.setattr(hub, "search_datasets", lambda words: [hit])
    found = client.get("/studio/hub/models/search.json", params={"q": " smol lm "}).json()["items"]
    assert [item["id"] for item in found] == [card.id for card in HUB_CARDS[:2]]
    (line,) = client.get("/studio/hub/data/search.json", params={"q": "news"}).json()["items"]
    assert (line["id"], line["summary"], line["licence"]) == ("a/b", "Text classification", "mit")
    assert "letters" in client.get("/studio/hub/models/search.json", params={"q": " x "}).json()["hint"]


def test_without_the_hub_the_page_stays_calm(client: TestClient, monkeypatch: Any) -> None:
    for name in ("search_models", "search_datasets"):
        monkeypatch.setattr(hub, name, raiser(HubOfflineError()))
    for path, words in (("models", NO_MODELS), ("data", NO_DATA)):
        answer = client.get(f"/studio/hub/{path}/search.json", params={"q": "news"})
        assert answer.status_code == 200 and answer.json() == {"hint": words}
        assert client.get(f"/studio/hub/{path}.json").json()["groups"]
    monkeypatch.setattr(hub, "search_models", raiser(ModelError("The Hub answers with an error (503).")))
    assert "503" in client.get("/studio/hub/models/search.json", params={"q": "news"}).json()["error"]


def test_fetches_are_started_watched_and_cancelled(client: TestClient, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert client.post("/studio/hub/fetch?id=a/b").status_code == 403  # no Origin
    assert client.post("/studio/hub/fetch?id=a/b", headers={"origin": "http://elsewhere"}).status_code == 403
    own = {"origin": HOST}
    assert "Which data set" in client.post("/studio/hub/fetch?id=", headers=own).json()["error"]
    ticket = client.post("/studio/hub/fetch?id=a/b", headers=own).json()["ticket"]
    assert client.get(f"/studio/hub/fetch/{ticket}").json()["data"] == "a/b"
    assert client.post(f"/studio/hub/fetch/{ticket}/cancel").status_code == 403
    told = client.post(f"/studio/hub/fetch/{ticket}/cancel", headers=own).json()
    assert told["state"] in ("cancelled", "failed")
    assert "not known" in client.get("/studio/hub/fetch/nope").json()["error"]
