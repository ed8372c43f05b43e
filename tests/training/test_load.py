"""Loading: what is refused and how it is said, sharing of one base, adapters that come and go."""

import json
import shutil
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch

from peft_studio.errors import ModelError
from peft_studio.methods import METHODS
from peft_studio.training import load
from peft_studio.training.adapter_files import save_adapter
from peft_studio.training.load import attach, load_adapter, load_base, load_config, load_meta, share_base
from peft_studio.training.quiet import known_warnings


def assert_same(found: torch.Tensor, expected: torch.Tensor, name: str) -> None:
    """Bit for bit, unless the adapter was converted on saving, which rounds."""
    assert torch.allclose(found, expected, atol=1e-4) if METHODS[name].changes_base else torch.equal(found, expected)


ROWS = torch.arange(2, 14).reshape(2, 6)


def adapter(name: str, base: Any, folder: Path) -> torch.Tensor:
    """Saves a changed adapter of a method; returns what the model says with it."""
    model = attach(base, METHODS[name])
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        save_adapter(model.eval(), folder)
        return model(input_ids=ROWS).logits


def test_base_is_in_evaluation_mode_and_has_the_dtype_asked_for(tiny_model: Path) -> None:
    model, tokenizer = load_base(str(tiny_model))
    assert not model.training and model.dtype == torch.float32
    assert tokenizer.decode(tokenizer("a mill")["input_ids"]) == "a mill"
    assert load_base(str(tiny_model), "bfloat16")[0].dtype == torch.bfloat16


def test_meta_model_has_the_shapes_and_no_weights(tiny_model: Path) -> None:
    meta, real = load_meta(str(tiny_model)), load_base(str(tiny_model))[0]
    assert all(parameter.is_meta for parameter in meta.parameters())
    assert [tuple(p.shape) for p in meta.parameters()] == [tuple(p.shape) for p in real.parameters()]


def test_pickled_weights_are_refused_by_name(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin, which is a pickle"):
        load_base(str(folder))


def test_unsupported_architecture_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))
    with pytest.raises(ModelError, match="'mamba' are not supported"):
        load_base(str(folder))


def test_broken_config_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "broken")
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="is not valid JSON: it is cut short or damaged"):
        load_config(str(folder))


def test_hub_model_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    load._hub_answers.cache_clear()
    with pytest.raises(ModelError, match="not on this machine, and the Hub cannot be reached"):
        load_config("owner/name-that-is-not-cached")
    load._hub_answers.cache_clear()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_two_adapters_share_one_base(name: str, tiny_model: Path, tmp_path: Path) -> None:
    base, _ = load_base(str(tiny_model))
    with torch.no_grad():
        before = base(input_ids=ROWS).logits
    said = adapter(name, load_base(str(tiny_model))[0], tmp_path)
    first, second = (load_adapter(share_base(base), tmp_path) for _ in range(2))
    embedding = base.get_input_embeddings().weight
    for model in (first, second):
        assert any(parameter is embedding for parameter in model.parameters())
        with torch.no_grad():
            assert_same(model(input_ids=ROWS).logits, said, name)
    with torch.no_grad():
        assert torch.equal(base(input_ids=ROWS).logits, before)


@pytest.mark.parametrize("name", [name for name in sorted(METHODS) if not METHODS[name].changes_base])
def test_second_adapter_is_added_deleted_and_added_again(name: str, tiny_model: Path, tmp_path: Path) -> None:
    said = adapter(name, load_base(str(tiny_model))[0], tmp_path)
    model = attach(load_base(str(tiny_model))[0], METHODS[name]).eval()
    for _ in range(2):
        with known_warnings():
            model.load_adapter(str(tmp_path), "other")
        model.set_adapter("other")
        with torch.no_grad():
            assert torch.equal(model(input_ids=ROWS).logits, said)
        model.set_adapter("default")
        model.delete_adapter("other")


@pytest.mark.parametrize("name", [name for name in sorted(METHODS) if name not in ("prefix", "prompt", "p_tuning")])
def test_unloading_gives_the_base_back(name: str, tiny_model: Path, tmp_path: Path) -> None:
    base, _ = load_base(str(tiny_model))
    with torch.no_grad():
        before = base(input_ids=ROWS).logits
        adapter(name, base, tmp_path)
        model = load_adapter(load_base(str(tiny_model))[0], tmp_path)
        assert torch.equal(model.unload()(input_ids=ROWS).logits, before)


def test_adapter_that_lacks_tensors_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    adapter("houlsby", load_base(str(tiny_model))[0], tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(ModelError, match="missing adapter keys"):
        load_adapter(load_base(str(tiny_model))[0], tmp_path)
