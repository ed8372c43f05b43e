"""A checkpoint that is not the model of its config is refused by name, before a job and at loading; a good one never.

``check_loadable`` reads names and shapes only, ``load_base`` the weights: both must say the same.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import parse_config
from peft_studio.errors import ModelError
from peft_studio.methods import METHODS
from peft_studio.training.adapter_files import save_adapter
from peft_studio.training.estimates.loadable import check_loadable
from peft_studio.training.load import attach, load_adapter, load_base

LABELS = ("bad", "fair", "good")
ENCODERS = ("bert", "roberta", "distilbert", "modernbert")
Tensors = dict[str, torch.Tensor]


def check(folder: Path, labels: tuple[str, ...] = ()) -> None:
    """What a job's start asks of a folder."""
    task = {"id": "reviews"} if labels else {"id": "bistro"}
    run = resolve(
        parse_config({"model": {"id": str(folder)}, "task": task, "method": {"name": "lora"}, "training": {}})
    )
    check_loadable(run)


def changed(source: Path, folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    """A copy of a model whose tensors were changed."""
    shutil.copytree(source, folder)
    weights = change(load_file(folder / "model.safetensors"))
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    return folder


def reconfigured(source: Path, folder: Path, **settings: Any) -> Path:
    """A copy of a model whose config says something else."""
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    return folder


def refused(folder: Path, labels: tuple[str, ...] = ()) -> str:
    """The words with which a folder is refused, the same in both places."""
    with pytest.raises(ModelError) as before:
        check(folder, labels)
    with pytest.raises(ModelError) as loading:
        load_base(str(folder), labels=labels)
    assert str(before.value) == str(loading.value)
    return str(before.value)


@pytest.mark.parametrize(
    "family",
    ["llama", "qwen3", "gpt2", "gpt_neox", "opt", "t5", "bart", "bert", "roberta", "distilbert", "modernbert"],
)
def test_good_checkpoints_pass(family: str, families: dict[str, Path], tmp_path: Path) -> None:
    uses = [LABELS] if family in ENCODERS else [()] if family in ("t5", "bart") else [(), LABELS]
    for labels in uses:  # as it was pre-trained: a word head may be left over, a new head is missing
        check(families[family], labels)
        load_base(str(families[family]), labels=labels)
    shards = shutil.copytree(families[family], tmp_path / "shards")
    (shards / "model.safetensors").unlink()
    auto = transformers.AutoModelForMaskedLM if family in ENCODERS else transformers.AutoModelForCausalLM
    auto = transformers.AutoModelForSeq2SeqLM if family in ("t5", "bart") else auto
    auto.from_pretrained(families[family]).half().save_pretrained(shards, max_shard_size="20KB")
    assert len(list(shards.glob("*.safetensors"))) > 1
    check(shards, uses[-1])
    load_base(str(shards), labels=uses[-1])


@pytest.mark.parametrize("family", [*ENCODERS, "llama", "gpt2"])
def test_a_classifier_may_be_made_of_a_body_or_of_another_classifier(
    family: str, families: dict[str, Path], tmp_path: Path
) -> None:
    body = shutil.copytree(families[family], tmp_path / "body")
    transformers.AutoModel.from_pretrained(families[family]).save_pretrained(body)
    check(body, LABELS)
    load_base(str(body), labels=LABELS)
    other = shutil.copytree(families[family], tmp_path / "other")
    auto = transformers.AutoModelForSequenceClassification
    auto.from_pretrained(families[family], num_labels=7).save_pretrained(other)
    check(other, LABELS)
    model, _ = load_base(str(other), labels=LABELS)
    assert model.num_labels == len(LABELS)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model.", "backbone.", "student.net."])
def test_a_foreign_prefix_is_told(prefix: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = changed(tiny_model, tmp_path / "m", lambda all_: {prefix + name: part for name, part in all_.items()})
    said = refused(folder)
    count = len(load_file(tiny_model / "model.safetensors"))
    assert f"{count} of its {count} tensors are missing" in said and f"names begin with {prefix!r}" in said


def test_a_prefix_inside_of_a_classifier_is_told_too(families: dict[str, Path], tmp_path: Path) -> None:
    for family in ("bert", "t5"):
        folder = changed(families[family], tmp_path / family, lambda all_: {f"module.{k}": v for k, v in all_.items()})
        assert "names begin with 'module.'" in refused(folder, LABELS if family == "bert" else ())


CASES: dict[str, tuple[str, Callable[[Tensors], Tensors], str]] = {
    "a layer is missing": (
        "llama", lambda all_: {k: v for k, v in all_.items() if ".layers.1." not in k},
        "tensors are missing (model.layers.1.",
    ),
    "one tensor is missing": (
        "gpt2", lambda all_: {k: v for k, v in all_.items() if k != "transformer.h.1.mlp.c_fc.weight"},
        "1 of its 28 tensors are missing (transformer.h.1.mlp.c_fc.weight)",
    ),
    "a bias that the config does not have": (
        "llama", lambda all_: all_ | {"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)},
        "1 in the file belong to nothing in it (model.layers.0.self_attn.q_proj.bias)",
    ),
    "an adapter in the weights": (
        "llama", lambda all_: all_ | {"model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(4, 32)}, "lora_A",
    ),
    "the word head is missing": (
        "gpt_neox", lambda all_: {k: v for k, v in all_.items() if not k.startswith(("embed_out", "lm_head"))},
        "1 of its 28 tensors are missing (",
    ),
    "another width": (
        "llama", lambda all_: {k: v[:, :16] if k.endswith("q_proj.weight") else v for k, v in all_.items()},
        "layers.0.self_attn.q_proj.weight has the shape (32, 16) in the file and (32, 32) in the model, and 1 more",
    ),
    "fewer words": (
        "llama", lambda all_: {k: v[:200] if "embed_tokens" in k else v for k, v in all_.items()},
        "model.embed_tokens.weight has the shape (200, 32) in the file and (300, 32) in the model",
    ),
    "not a number": (
        "llama", lambda all_: {k: v * float("nan") if k == "model.norm.weight" else v for k, v in all_.items()},
        "model.norm.weight holds NaN or infinite numbers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_named(name: str, families: dict[str, Path], tmp_path: Path) -> None:
    family, change, words = CASES[name]
    folder = changed(families[family], tmp_path / "model", change)
    if name == "not a number":  # seen only where the weights are read
        with pytest.raises(ModelError, match="NaN or infinite"):
            load_base(str(folder))
        return
    assert words in refused(folder)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "t5", "bart", "modernbert"])
def test_a_config_of_fewer_layers_drops_none_in_silence(
    family: str, families: dict[str, Path], tmp_path: Path
) -> None:
    fewer = {"gpt2": "n_layer", "t5": "num_layers", "bart": "encoder_layers"}.get(family, "num_hidden_layers")
    folder = reconfigured(families[family], tmp_path / "model", **{fewer: 1, "layer_types": None})
    assert "in the file belong to nothing in it" in refused(folder, LABELS if family in ENCODERS else ())


def test_old_copies_of_masks_and_positions_do_no_harm(families: dict[str, Path], tmp_path: Path) -> None:
    old = {
        "gpt2": {
            "transformer.h.0.attn.bias": torch.ones(1, 1, 8, 8),
            "transformer.h.0.attn.masked_bias": torch.ones(1),
        },
        "gpt_neox": {
            "gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 8, 8).bool(),
            "gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.ones(4),
        },
        "llama": {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4), "score.weight": torch.ones(2, 32)},
        "bart": {"model.encoder.version": torch.ones(1), "model.decoder.version": torch.ones(1)},
    }
    for family, more in old.items():
        folder = changed(families[family], tmp_path / family, lambda all_, more=more: all_ | more)
        check(folder)
        load_base(str(folder))
    bert = {"bert.embeddings.position_ids": torch.arange(130)[None], "cls.seq_relationship.weight": torch.ones(2, 32)}
    folder = changed(families["bert"], tmp_path / "bert", lambda all_: all_ | bert)
    check(folder, LABELS)
    load_base(str(folder), labels=LABELS)


def test_a_tokenizer_of_another_model_is_refused(families: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(families["llama"], tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<more>", "<and more>"] + [f"<{n}>" for n in range(300 - len(tokenizer))])
    tokenizer.save_pretrained(folder)
    said = refused(folder)
    assert "302 tokens, and the model's embedding has 300 rows" in said and "(number 300)" in said
    tokenizer = transformers.AutoTokenizer.from_pretrained(families["llama"])
    tokenizer.add_tokens([f"<{n}>" for n in range(300 - len(tokenizer))])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image_soft_token>"]})
    tokenizer.save_pretrained(folder)
    check(folder)  # a place for pictures, which no text has


def test_an_end_token_is_needed_to_write_but_not_to_label(families: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(families["llama"], tmp_path / "model")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("eos_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(ModelError, match="no end-of-text token"):
        check(folder)
    check(folder, LABELS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": 33}, "its config.json cannot be read, or has an entry that is not allowed"),
        ({"num_attention_heads": 0}, "its config.json cannot be read, or has an entry that is not allowed"),
        ({"hidden_act": "nonsense"}, "its config.json cannot be read"),
        ({"vocab_size": "many"}, "vocab_size = 'many'. Allowed: a whole number"),
        ({"vocab_size": 10**12}, "vocab_size = 1000000000000. Allowed: a whole number from 0 to 8,388,608"),
        ({"vocab_size": 10**5}, "has the shape .300, 32. in the file and .100000, 32. in the model"),
        ({"pad_token_id": 999}, "its config.json cannot be read"),
    ],
)
def test_a_config_that_contradicts_itself(
    change: dict[str, Any], words: str, families: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=words):
        check(reconfigured(families["llama"], tmp_path / "model", **change))


@pytest.mark.parametrize(
    ("name", "text"),
    [("tokenizer.json", "{}"), ("tokenizer.json", '{"model": {"type": "X"}}'), ("tokenizer_config.json", "")],
)
def test_a_tokenizer_that_reads_nothing(name: str, text: str, families: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(families["llama"], tmp_path / "model")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / name).write_text(text or json.dumps({**settings, "model_max_length": "x"}))
    with pytest.raises(ModelError, match="its tokenizer cannot be read"):
        check(folder)


def test_a_change_in_the_folder_is_seen(families: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(families["llama"], tmp_path / "model")
    check(folder)
    weights = load_file(folder / "model.safetensors")
    save_file({f"x.{name}": part for name, part in weights.items()}, folder / "model.safetensors")
    assert "names begin with 'x.'" in refused(folder)
    save_file(weights, folder / "model.safetensors")
    check(folder)


def test_an_adapter_of_a_deeper_model_is_refused(families: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    save_adapter(attach(load_base(str(families["llama"]))[0], METHODS["lora"]), folder)
    load_adapter(load_base(str(families["llama"]))[0], folder)
    shallow = changed(
        reconfigured(families["llama"], tmp_path / "one", num_hidden_layers=1),
        tmp_path / "shallow",
        lambda all_: {name: part for name, part in all_.items() if ".layers.1." not in name},
    )
    with pytest.raises(ModelError, match="made for another base model: it changes block 1 of"):
        load_adapter(load_base(str(shallow))[0], folder)


def test_an_adapter_that_takes_far_more_than_its_file_is_refused(families: dict[str, Path], tmp_path: Path) -> None:
    base = load_base(str(families["llama"]))[0]
    save_adapter(attach(base, METHODS["lora"]), tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**settings, "r": 60_000}))
    thin = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(60_000, 1)}
    save_file(thin, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"tells of 0\.\d GB on this base model, and its weights have 0\.2 MB"):
        load_adapter(load_base(str(families["llama"]))[0], tmp_path)
