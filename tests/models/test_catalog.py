"""How a model id becomes a model, and what is said when it does not."""

from pathlib import Path

import pytest

from peft_studio.errors import ModelError
from peft_studio.models.catalog import MODELS, check_folder, count_stored_params, resolve_model


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
