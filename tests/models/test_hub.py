"""Searching the Hub: what is asked, what is kept, and what is said without a network."""

import json
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.hf_api import DatasetInfo, ModelInfo

from peft_studio.errors import HubOfflineError, ModelError
from peft_studio.models import hub

SIZES = {"parameters": {"F32": 7}, "total": 7}
WORDS = "embedded models and local folders work"


def model_info(name: str, model_type: str | None, **more: Any) -> ModelInfo:
    """What the Hub answers for one model, as its library reads it."""
    config = {"model_type": model_type} if model_type else None
    return ModelInfo(**{"id": name, "config": config, "tags": [], "downloads": 5, **more})


class FakeApi:
    """``HfApi`` with answers of its own; keeps what it was asked."""

    models: tuple[Any, ...] = ()
    datasets: tuple[Any, ...] = ()
    asked: dict[str, Any]

    def list_models(self, **asked: Any) -> Iterator[Any]:
        type(self).asked = asked
        yield from self.models

    def list_datasets(self, **asked: Any) -> Iterator[Any]:
        type(self).asked = asked
        yield from self.datasets


@pytest.fixture
def api(monkeypatch: Any) -> type[FakeApi]:
    """A Hub that answers."""
    fake = type("Api", (FakeApi,), {})
    monkeypatch.setattr(huggingface_hub, "HfApi", fake)
    monkeypatch.setattr(hub, "hub_answers", lambda: True)
    return fake


def test_models_that_cannot_be_used_are_left_out(api: type[FakeApi]) -> None:
    api.models = (
        model_info(
            "a/llama",
            "llama",
            tags=["license:mit", "llama"],
            safetensors={"parameters": {"F32": 10}, "total": 10},
            pipeline_tag="text-generation",
        ),
        model_info("b/vision", "vit"),
        model_info("c/unknown", None),
        model_info("d/quantised", "llama", config={"model_type": "llama", "quantization_config": {}}),
        model_info("e/own-code", "llama", tags=["custom_code"]),
        model_info("f/bert", "bert", downloads=None),
    )
    first, second = hub.search_models("some words")
    assert (first.id, first.title, first.params, first.licence, first.kind) == (
        "a/llama",
        "llama",
        10,
        "mit",
        "decoder",
    )
    assert first.summary == "Text generation. 5 downloads in the last month."
    assert (second.id, second.size, second.suits) == ("f/bert", "?", ("classification",))
    assert api.asked["search"] == "some words"
    assert "safetensors" in api.asked["filter"]


def test_the_limit_counts_usable_models(api: type[FakeApi]) -> None:
    api.models = tuple(model_info(f"a/{at}", "vit" if at % 2 else "bert") for at in range(20))
    assert [card.id for card in hub.search_models("a", limit=3)] == ["a/0", "a/2", "a/4"]


def test_data_sets_are_listed(api: type[FakeApi]) -> None:
    tags = ["task_categories:summarization", "license:mit", "language:en"]
    api.datasets = (
        DatasetInfo(id="a/b", tags=tags, downloads=7, cardData={"pretty_name": "A B"}),
        DatasetInfo(id="c/d", tags=None),
    )
    first, second = hub.search_datasets("b")
    assert first == hub.DatasetHit("a/b", "A B", "mit", ("summarization",), 7)
    assert second == hub.DatasetHit("c/d", "c/d", "", (), 0)


def test_switched_off_by_the_environment(monkeypatch: Any) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for search in (hub.search_models, hub.search_datasets):
        with pytest.raises(HubOfflineError, match=WORDS):
            search("x")


def test_no_connection_is_told_calmly(monkeypatch: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(hub.urllib.request, "getproxies", dict)
    with pytest.raises(HubOfflineError, match=WORDS):
        hub.search_models("x")
    with socket.create_server(("127.0.0.1", port)):
        assert hub.hub_answers()


def test_a_name_service_that_hangs_does_not_hang_us(monkeypatch: Any) -> None:
    over = threading.Event()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.urllib.request, "getproxies", dict)
    monkeypatch.setattr(hub.socket, "create_connection", lambda *args, **kwargs: over.wait(30))
    monkeypatch.setattr(hub, "CONNECT_SECONDS", 0.1)
    start = time.monotonic()
    assert not hub.hub_answers()
    assert time.monotonic() - start < 5
    over.set()


@pytest.mark.parametrize("error", [HTTPError("slow"), ConnectionError("cut"), TimeoutError()])
def test_a_connection_that_breaks_is_offline(api: type[FakeApi], error: Exception) -> None:
    def broken(self: Any, **asked: Any) -> Iterator[Any]:
        raise error

    api.list_models = broken  # type: ignore[method-assign]
    with pytest.raises(HubOfflineError, match=WORDS):
        hub.search_models("x")


def test_an_error_of_the_hub_is_named(api: type[FakeApi]) -> None:
    def refused(self: Any, **asked: Any) -> Iterator[Any]:
        raise HfHubHTTPError("secret details", response=SimpleNamespace(status_code=503, headers={}, request=None))  # type: ignore

    api.list_models = refused  # type: ignore[method-assign]
    with pytest.raises(ModelError, match=r"an error \(503\)"):
        hub.search_models("x")


def test_the_real_library_asks_and_reads(monkeypatch: Any, tmp_path: Path) -> None:
    asked: list[str] = []
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "cache.json"), raising=False)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            model = {"id": "a/b", "config": {"model_type": "bert"}, "tags": ["license:mit"], "safetensors": SIZES}
            known = {"/api/models": [model], "/api/datasets": [{"id": "c/d"}]}
            address = urllib.parse.urlsplit(self.path)
            data = json.dumps(known.get(address.path)).encode()
            self.send_response(200 if address.path in known else 404)  # the library has questions of its own, too
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            if address.path in known:
                asked.append(address.query)

        def log_message(self, *args: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(hub.urllib.request, "getproxies", dict)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        try:
            (card,) = hub.search_models("tiny words")
            (hit,) = hub.search_datasets("news")
        finally:
            server.shutdown()
    assert (card.id, card.params, card.licence, card.kind) == ("a/b", 7, "mit", "encoder")
    assert hit.id == "c/d"
    query = urllib.parse.parse_qs(asked[0])
    assert query["search"] == ["tiny words"] and query["filter"] == ["transformers", "safetensors"]
