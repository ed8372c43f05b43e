"""How a model id becomes a model, and what is said when it does not."""

import struct
from pathlib import Path
from typing import Any

import pytest

from peft_studio.errors import ConfigError, ModelError
from peft_studio.models import catalog, fit
from peft_studio.models.catalog import (
    HUB_CARDS,
    MODELS,
    SHORT_NAMES,
    count_stored_params,
    find_card,
    known_params,
    resolve_model,
)
from peft_studio.models.fit import RUNTIME_BYTES, bytes_needed, check_model, refuse_too_large
from peft_studio.models.folders import check_folder
from peft_studio.models.layouts import LAYOUTS, layout_for


def test_embedded_model_is_complete_and_small() -> None:
    card = MODELS["nano-lm"]
    assert card.path is not None
    check_folder(card.path)
    assert sum(file.stat().st_size for file in card.path.iterdir()) < 10_000_000
    assert card.params == count_stored_params(card.path / "model.safetensors") > 1_000_000
    assert resolve_model("nano-lm") == str(card.path)


def test_hub_id_is_passed_on() -> None:
    assert resolve_model("owner/name") == "owner/name"


@pytest.mark.parametrize(
    ("name", "words"),
    [("nano-ml", "Did you mean 'nano-lm'"), ("/no/such/folder", "no folder"), ("./nowhere", "no folder")],
)
def test_unknown_models(name: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        resolve_model(name)


def test_a_wrong_folder_does_not_hide_behind_the_catalogue(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_model("gpt2") == "openai-community/gpt2"
    (tmp_path / "gpt2").mkdir()
    assert find_card("gpt2") is None
    with pytest.raises(ModelError, match=r"no config\.json"):
        resolve_model("gpt2")


def test_folders_that_are_not_models(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        resolve_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no \.safetensors weights"):
        resolve_model(str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin, which is a pickle"):
        resolve_model(str(tmp_path))
    with pytest.raises(ModelError, match="is a file"):
        resolve_model(str(tmp_path / "config.json"))


def test_models_come_embedded_first_and_every_entry_is_complete() -> None:
    cards = list(MODELS.values())
    assert cards[0].id == "nano-lm"
    embedded = [card for card in cards if card.path is not None]
    assert cards[: len(embedded)] == embedded
    assert [card.id for card in embedded if not (card.path / "model.safetensors").is_file()] == []
    for card in cards:
        assert card.architecture in LAYOUTS and card.params > 1_000_000
        assert card.title and card.licence and card.good_for and card.summary.endswith(".")
        assert (card.path is None) == ("/" in card.id)


def test_an_embedded_model_appears_with_its_weights_only(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(catalog, "__file__", str(tmp_path / "catalog.py"))
    facts = ("nano-encoder", "modernbert", "A small encoder.", "classification")
    assert catalog._embedded(*facts) == []
    weights = tmp_path / "nano-encoder" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"half")  # still being copied
    assert catalog._embedded(*facts) == []
    header = b'{"__metadata__":{},"a":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]}}'
    weights.write_bytes(struct.pack("<Q", len(header)) + header)
    (card,) = catalog._embedded(*facts)
    assert (card.params, card.kind, card.suits) == (12, "encoder", ("classification",))


@pytest.mark.parametrize("card", MODELS.values(), ids=lambda card: card.id)
def test_models_suit_what_their_layout_allows(card: Any) -> None:
    for purpose in ("generation", "classification"):
        if purpose in card.suits:
            assert layout_for(card.architecture, purpose).kind == card.kind
        else:
            with pytest.raises(ConfigError):
                layout_for(card.architecture, purpose)


def test_hub_models_go_by_id_and_by_short_name() -> None:
    assert len(SHORT_NAMES) == len(MODELS)  # no short name stands for two models
    for card in HUB_CARDS:
        for name in (card.id, card.id.rpartition("/")[2]):
            assert resolve_model(name) == card.id
            assert known_params(name) == card.params
    with pytest.raises(ModelError, match="Did you mean 'distilgpt2'"):
        resolve_model("distillgpt2")


def test_a_model_too_large_is_refused_with_the_numbers() -> None:
    assert bytes_needed(1_000_000_000) == 8_000_000_000 + RUNTIME_BYTES
    refuse_too_large(1_000_000_000, 8_500_000_000, "owner/fits")
    with pytest.raises(
        ModelError, match=r"'owner/large'.* 1,000,000,000 parameters.* 8\.4 GB .*there are 2\.4 GB"
    ) as info:
        refuse_too_large(1_000_000_000, 2_400_000_000, "owner/large")
    assert "at most 246 million parameters" in str(info.value)


def test_check_model_resolves_and_weighs(monkeypatch: Any, tiny_model: Path) -> None:
    assert check_model("gpt2") == "openai-community/gpt2"
    assert check_model("owner/unknown", available_bytes=1) == "owner/unknown"  # nobody knows its size yet
    with pytest.raises(ModelError, match="too large for this machine"):
        check_model(str(tiny_model), available_bytes=1000)
    with pytest.raises(ModelError, match="no model 'nope'"):
        check_model("nope")
    monkeypatch.setattr(fit, "memory_limit", lambda: 10**8)
    with pytest.raises(ModelError, match=r"124,439,808 parameters.*0\.1 GB"):
        check_model("gpt2")
