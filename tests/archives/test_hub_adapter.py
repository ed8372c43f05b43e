"""Adapters go to a Hub and come back: the real client of the Hub, and a small server that answers like it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import constants

from peft_studio.archives.hub_adapter import CONFIG, WEIGHTS, fetch_adapter
from peft_studio.archives.hub_push import push_adapter
from peft_studio.errors import (
    ArchiveError,
    ConfigError,
    HubOfflineError,
    InvalidStateError,
    ModelError,
    NotAllowedError,
    StudioError,
)
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.reader import RunReader
from peft_studio.runs.store import RunStore
from tests.hub_server import READER, TOKEN, Hub

# huggingface_hub's own, when it sends a large file
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub of one's own, which the library takes for the real one."""
    server = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def paths(lora_run: Any) -> RunPaths:
    return RunPaths(lora_run.folder)


def test_an_adapter_goes_and_comes_back(hub: Hub, paths: RunPaths, tmp_path: Path) -> None:
    assert push_adapter(paths, "https://huggingface.co/ada/first", TOKEN).endswith("/ada/first")
    files = hub.repos["ada/first"]
    assert files["adapter_model.safetensors"] == (paths.adapter / "adapter_model.safetensors").read_bytes()
    head = yaml.safe_load(files["README.md"].decode().split("---")[1])
    results = {
        metric["name"]: metric["value"] for result in head["model-index"][0]["results"] for metric in result["metrics"]
    }
    before = RunReader(paths).info()
    own = {name: value for name, value in before.metrics.items() if name.startswith(("eval/", "test/"))}
    assert own
    assert results == pytest.approx(own)
    assert "hf download ada/first" in files["README.md"].decode()
    assert not any(name.endswith("jsonl") for name in files), "rows stay here"

    # the tiny base is a folder of this machine, which no other has: as if it were on the Hub
    config = json.loads(files["adapter_config.json"])
    files["adapter_config.json"] = json.dumps({**config, "base_model_name_or_path": "ada/base"}).encode()
    store = RunStore(tmp_path / "runs")
    run_id = fetch_adapter("ada/first", store)
    after = RunReader(store.paths(run_id)).info()
    assert (after.status, after.model, after.method, after.name) == ("finished", "ada/base", "lora", "ada/first")
    assert after.trainable_params == before.trainable_params
    assert after.metrics == pytest.approx(own)
    assert after.config["method"] == before.config["method"]
    assert (
        store.paths(run_id).adapter.joinpath("adapter_model.safetensors").read_bytes()
        == (paths.adapter / "adapter_model.safetensors").read_bytes()
    )
    assert {token for method, _, token in hub.asked if method in ("GET", "HEAD")} == {""}, "no token for what is open"


@pytest.mark.parametrize(
    ("name", "token", "error", "words"),
    [
        ("ada/new", None, NotAllowedError, "Nobody is signed in"),
        ("ada/new", "hf_wrongwrongwrong", NotAllowedError, "does not know this token"),
        ("ada/new", READER, NotAllowedError, "gives no right to ada/new"),
        ("ada/taken", TOKEN, ConfigError, "has ada/taken already"),
        ("new", TOKEN, ConfigError, "looks like owner/name"),
        ("ada/../new", TOKEN, ConfigError, "looks like owner/name"),
        ("ada/a\nb", TOKEN, ConfigError, "looks like owner/name"),
    ],
)
def test_why_nothing_is_pushed(
    hub: Hub, paths: RunPaths, name: str, token: str | None, error: type[StudioError], words: str
) -> None:
    with pytest.raises(error, match=words) as told:
        push_adapter(paths, name, token)
    assert "hf_" not in str(told.value)
    assert list(hub.repos) == ["ada/taken"]


def test_a_repository_that_could_not_be_filled_does_not_stay(hub: Hub, paths: RunPaths) -> None:
    hub.broken = True
    with pytest.raises(ModelError, match=r"answers with an error \(400\)") as told:
        push_adapter(paths, "ada/half", TOKEN)
    assert "secret" not in str(told.value)
    assert "ada/half" not in hub.repos


def test_an_offline_machine(hub: Hub, paths: RunPaths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubOfflineError):
        push_adapter(paths, "ada/new", TOKEN)
    with pytest.raises(HubOfflineError):
        fetch_adapter("ada/first", RunStore(tmp_path))


def test_a_run_without_an_adapter(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(InvalidStateError, match="has not saved an adapter"):
        push_adapter(RunPaths(tmp_path), "ada/new", TOKEN)
    assert not hub.asked


def files_of(paths: RunPaths) -> dict[str, bytes]:
    """A run's adapter as a repository."""
    return {name: (paths.adapter / name).read_bytes() for name in (CONFIG, WEIGHTS)}


Change = Callable[[dict[str, bytes]], object]


def changed(key: str, value: object) -> Change:
    """Files whose adapter config has another value."""

    def change(files: dict[str, bytes]) -> None:
        files["adapter_config.json"] = json.dumps({**json.loads(files["adapter_config.json"]), key: value}).encode()

    return change


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda files: files.clear(), ModelError, "no adapter of PEFT"),
        (
            lambda files: files.update({"adapter_model.bin": files.pop("adapter_model.safetensors")}),
            ModelError,
            "pickle",
        ),
        (lambda files: files.update({WEIGHTS: b"\x80\x04"}), ModelError, "not a safetensors file"),
        (lambda files: files.update({CONFIG: b"[1]"}), ConfigError, "not a JSON object"),
        (lambda files: files.update({CONFIG: b"1" * (2**20 + 1)}), ModelError, "bytes"),
        (changed("base_model_name_or_path", "/etc"), ModelError, "does not name its base model"),
        (changed("base_model_name_or_path", None), ModelError, "does not name its base model"),
        (changed("peft_type", "XLORA"), ModelError, "kind 'XLORA'"),
        (changed("task_type", "SEQ_CLS"), ModelError, "names of its labels"),
        (changed("auto_mapping", {"parent_library": "os"}), ArchiveError, "would run code"),
    ],
)
def test_what_is_not_taken_in(
    hub: Hub, paths: RunPaths, tmp_path: Path, change: Change, error: type[StudioError], words: str
) -> None:
    files = {
        name: (paths.adapter / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")
    }
    hub.repos["eve/odd"] = files
    changed("base_model_name_or_path", "nano-lm")(files)
    change(files)
    with pytest.raises(error, match=words) as told:
        fetch_adapter("eve/odd", RunStore(tmp_path / "runs"))
    assert str(tmp_path) not in str(told.value)
    assert not list((tmp_path / "runs").glob("*"))


def test_an_adapter_of_somebody_else(hub: Hub, paths: RunPaths, tmp_path: Path) -> None:
    files = {
        name: (paths.adapter / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")
    }
    changed("base_model_name_or_path", "ada/base")(files)
    hub.repos["eve/other"] = files
    store = RunStore(tmp_path / "runs")
    info = RunReader(store.paths(fetch_adapter("eve/other", store))).info()
    assert (info.status, info.method, info.metrics) == ("finished", "lora", {})
    assert info.config["method"]["rank"] == json.loads(files[CONFIG])["r"]


def test_what_the_hub_does_not_give(hub: Hub, paths: RunPaths, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no eve/nothing"):
        fetch_adapter("eve/nothing", RunStore(tmp_path))
    files = {
        name: (paths.adapter / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")
    }
    hub.repos["eve/gated"] = files
    hub.gated.add("eve/gated")
    with pytest.raises(NotAllowedError, match="is gated"):
        fetch_adapter("eve/gated", RunStore(tmp_path))
