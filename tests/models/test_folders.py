"""What is wrong with a model's folder is told in our words, whatever file it is in; a good folder is not refused."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_studio.errors import ModelError
from peft_studio.models.catalog import MODELS, known_params
from peft_studio.models.folders import check_folder, sound_folder
from peft_studio.models.weight_files import check_weights, tensor_shapes

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
Change = Callable[[Path], object]


def config(**more: Any) -> Change:
    """Changes config.json."""
    return settings("config.json", **more)


def settings(name: str, **more: Any) -> Change:
    """Changes a JSON file, or makes it."""

    def change(folder: Path) -> None:
        path = folder / name
        found = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({key: value for key, value in (found | more).items() if value is not None}))

    return change


def text(name: str, content: str) -> Change:
    """Writes a file."""
    return lambda folder: (folder / name).write_text(content, encoding="utf-8")


def without(*names: str) -> Change:
    """Deletes files."""
    return lambda folder: [(folder / name).unlink() for name in names]


def renamed(name: str) -> Change:
    """Gives the weights another name."""
    return lambda folder: (folder / "model.safetensors").rename(folder / name)


def safetensors(header: object, size: int = 0) -> bytes:
    """A file with a header of one's own, and so many bytes behind it."""
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + bytes(size)


def weights(header: object, size: int = 0) -> Change:
    """Other weights."""
    return lambda folder: (folder / "model.safetensors").write_bytes(safetensors(header, size))


def cut(name: str, keep: float) -> Change:
    """Cuts a file, or makes it longer."""
    return lambda folder: os.truncate(folder / name, int((folder / name).stat().st_size * keep))


def shards(*names: str, there: tuple[str, ...] = ()) -> Change:
    """An index of shards in place of the one file."""

    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        index = {"metadata": {}, "weight_map": {f"tensor.{number}": name for number, name in enumerate(names)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        for name in there:
            (folder / name).write_bytes(safetensors({"a": tensor([2], 0, 8)}, 8))

    return change


def tensor(shape: list[Any], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def nested(folder: Path) -> None:
    inside = folder / "checkpoint-10"
    inside.mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        path.rename(inside / path.name)


CODE = "brings code of its own to run"
BAD: dict[str, tuple[Change, str]] = {
    "weights by git-lfs": (text("model.safetensors", POINTER), "model.safetensors in .* is a git-lfs pointer"),
    "tokenizer by git-lfs": (text("tokenizer.json", POINTER), "tokenizer.json in .* git-lfs pointer.*git lfs pull"),
    "sentencepiece by git-lfs": (text("tokenizer.model", POINTER), "tokenizer.model in .* git-lfs pointer"),
    "config by git-lfs": (text("config.json", POINTER), "config.json in .* git-lfs pointer"),
    "tokenizer settings by git-lfs": (text("tokenizer_config.json", POINTER), "tokenizer_config.json .* pointer"),
    "shard by git-lfs": (
        lambda folder: (shards("a.safetensors")(folder), text("a.safetensors", POINTER)(folder)),
        "a.safetensors in .* git-lfs pointer",
    ),
    "weights cut in the data": (cut("model.safetensors", 0.5), "is cut short: its header tells of [0-9,]+ bytes"),
    "weights cut in the header": (cut("model.safetensors", 0.001), "no whole safetensors file: its header would have"),
    "weights with a tail": (cut("model.safetensors", 1.1), "is longer than it should be"),
    "empty weights": (text("model.safetensors", ""), "its header would have 0 bytes"),
    "weights that are a page": (text("model.safetensors", "<!doctype html><html></html>"), "its header would have"),
    "weights that are a folder": (
        lambda folder: (without("model.safetensors")(folder), (folder / "model.safetensors").mkdir()),
        "model.safetensors in .* cannot be read",
    ),
    "a header that is none": (weights(b"{" + b" " * 40), "its header is no JSON"),
    "a header of depth": (weights(b"[" * 100_000), "nested too deeply|no JSON"),
    "a header that is a list": (weights([1, 2]), "its header is not a JSON object"),
    "no tensors": (weights({}), "its header names no tensor"),
    "a tensor that is a word": (weights({"a": "b"}), "dtype, shape and place of the tensor 'a'"),
    "a negative shape": (weights({"a": tensor([-1, 2], 0, 8)}, 8), "dtype, shape and place of the tensor 'a'"),
    "a shape too large": (weights({"a": tensor([1 << 61, 4], 0, 8)}, 8), "has 8 bytes in it"),
    "a shape of floats": (weights({"a": tensor([2.5], 0, 8)}, 8), "dtype, shape and place"),
    "another size than the shape's": (weights({"a": tensor([3], 0, 8)}, 8), "has 8 bytes in it, not 12"),
    "a gap": (weights({"a": tensor([2], 0, 8), "b": tensor([2], 16, 24)}, 24), "'b' begins at byte 16 where 8"),
    "an overlap": (weights({"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, 12), "'b' begins at byte 4 where 8"),
    "packed with 8 bits": (weights({"l.weight": tensor([8], 0, 8, "I8")}, 8), r"quantised \(l.weight in .* is I8\)"),
    "packed with fp8": (weights({"l.weight": tensor([8], 0, 8, "F8_E4M3")}, 8), "quantised .*F8_E4M3"),
    "a shard is missing": (
        shards("a.safetensors", "b.safetensors", there=("a.safetensors",)),
        "1 of the 2 files that model.safetensors.index.json in .* names is missing: b.safetensors",
    ),
    "a shard elsewhere": (shards("../a.safetensors"), "names '../a.safetensors', which is no safetensors"),
    "an index without a map": (
        lambda folder: (shards()(folder), text("model.safetensors.index.json", '{"weight_map": [1]}')(folder)),
        "does not say which tensor is in which file",
    ),
    "a broken index": (
        lambda folder: (shards()(folder), text("model.safetensors.index.json", "{")(folder)),
        "model.safetensors.index.json in .* is not valid JSON",
    ),
    "bitsandbytes": (config(quantization_config={"load_in_4bit": True}), "quantised with 4 bits .quantization"),
    "gptq": (config(quantization_config={"quant_method": "gptq", "bits": 4}), "quantised with gptq"),
    "awq": (config(quantization_config={"quant_method": "awq"}), "quantised with awq"),
    "fp8": (config(quantization_config={"quant_method": "fp8"}), "quantised with fp8"),
    "compressed": (config(compression_config={"format": "x"}), "quantised .compression_config"),
    "weights of a dtype that is none": (config(dtype="int8"), "dtype = 'int8', which weights cannot be trained in"),
    "an old dtype that is none": (config(dtype=None, torch_dtype="float31"), "torch_dtype = 'float31'"),
    "code for the model": (config(auto_map={"AutoModelForCausalLM": "modeling_x.X"}), CODE),
    "code for an unknown type": (config(model_type="x", auto_map={"AutoConfig": "configuration_x.X"}), CODE),
    "code for a part": (config(text_config={"auto_map": {"AutoConfig": "configuration_x.X"}}), CODE),
    "code for the tokenizer": (settings("tokenizer_config.json", auto_map={"AutoTokenizer": ["t.T", None]}), CODE),
    "code for generation": (settings("generation_config.json", auto_map={"x": "y.Z"}), CODE),
    "code to generate": (settings("generation_config.json", custom_generate="someone/else"), CODE),
    "a folder of code": (lambda folder: (folder / "custom_generate").mkdir(), CODE),
    "a million layers": (config(num_hidden_layers=10**6), "num_hidden_layers = 1000000. Allowed: .* 0 to 1,000"),
    "hundreds of layers": (config(num_hidden_layers=900), "tells of 900 layers .num_hidden_layers."),
    "a million columns": (config(hidden_size=10**6), "hidden_size = 1000000. Allowed: .* 0 to 131,072"),
    "many columns": (config(hidden_size=10**5), "tells of a model of at least 20,[0-9,]+ parameters"),
    "a million heads": (config(num_attention_heads=10**6), "num_attention_heads = 1000000"),
    "wide heads": (config(head_dim=10**5, num_attention_heads=4000), "tells of a model of at least"),
    "a thousand million labels": (config(num_labels=10**9), "num_labels = 1000000000. Allowed: .* 10,000"),
    "names of too many labels": (config(id2label={str(n): "x" for n in range(10_001)}), "id2label = .*10,000 labels"),
    "a size that is a truth": (config(vocab_size=True), "vocab_size = True. Allowed: a whole number"),
    "a number without end": (text("config.json", '{"model_type": "llama", "rope_theta": 1e999}'), "a finite number"),
    "levels of settings": (config(rope_scaling=json.loads('{"a":' * 20 + "1" + "}" * 20)), "nested too deeply"),
    "kernels of others": (config(attn_implementation="owner/kernel"), "nothing that is fetched and run"),
    "a program for a template": (settings("tokenizer_config.json", chat_template="x" * 200_001), "chat_template = "),
    "a file for a template": (text("chat_template.jinja", "x" * 900_000), "more than 200,000 characters"),
    "other weights": (config(transformers_weights="other.safetensors"), "transformers_weights = 'other.safetensors'"),
    "no type": (config(model_type=None), "does not say of what type the model is"),
    "a type that is a number": (config(model_type=5), "model_type = 5"),
    "another type": (config(model_type="mamba"), "Models of type 'mamba' are not supported"),
    "half a config": (text("config.json", '{"model_type": "lla'), "config.json in .* is not valid JSON"),
    "a config that is a list": (text("config.json", "[]"), "holds no JSON object but a list"),
    "an empty config": (text("config.json", ""), "config.json in .* is not valid JSON"),
    "a config of other bytes": (
        lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe{\0}\0"), "config.json in .* is not valid JSON",
    ),
    "half of the generation settings": (text("generation_config.json", "{"), "generation_config.json .* valid JSON"),
    "no tokenizer": (without("tokenizer.json"), "has no tokenizer: none of tokenizer.json"),
    "half a tokenizer": (cut("tokenizer.json", 0.5), "tokenizer.json in .* cut short or damaged"),
    "an empty tokenizer": (text("tokenizer.json", ""), "tokenizer.json in .* is empty"),
    "no config": (without("config.json"), "it has no config.json"),
    "an empty folder": (emptied, "It is empty"),
    "a folder above": (nested, "Perhaps you mean the folder 'checkpoint-10' in it"),
    "an adapter": (
        lambda folder: (without("config.json")(folder), text("adapter_config.json", "{}")(folder)),
        "It holds an adapter: choose the base model",
    ),
    "an adapter beside the model": (text("adapter_config.json", "{}"), "holds an adapter beside the model"),
    "a pickle": (renamed("pytorch_model.bin"), "It holds pytorch_model.bin, which is a pickle"),
    "pickled shards": (renamed("pytorch_model-00001-of-00002.bin"), "which is a pickle"),
    "llama.cpp": (renamed("model-q4_k_m.gguf"), "model-q4_k_m.gguf, which is in llama.cpp's own format"),
    "llama.cpp alone": (
        lambda folder: (renamed("m.gguf")(folder), without("config.json")(folder)), "no config.json. It holds m.gguf",
    ),
    "TensorFlow": (renamed("tf_model.h5"), "tf_model.h5, which is in the format of another library"),
    "a variant": (renamed("model.fp16.safetensors"), "model.fp16.safetensors, which is not the name"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_it_is_refused_in_our_words(name: str, tiny_model: Path, tmp_path: Path) -> None:
    change, words = BAD[name]
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    change(folder)
    with pytest.raises(ModelError, match=words):
        check_folder(folder)
    known_params(str(folder))  # asked while a config is parsed: it never fails


@pytest.mark.parametrize("card", [card for card in MODELS.values() if card.path], ids=lambda card: card.id)
def test_our_own_models_are_sound(card: Any) -> None:
    check_folder(card.path)


def test_good_folders_of_other_makes_are_sound(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "README.md").write_text("a model")
    (folder / "modeling_old.py").write_text("left over, and named by nothing")
    (folder / "pytorch_model.bin").write_bytes(b"beside the safetensors file")
    config(torch_dtype="float16", dtype="bfloat16")(folder)
    check_folder(folder)
    size = known_params(str(folder))
    (folder / "consolidated.safetensors").write_bytes(safetensors({"a": tensor([2], 0, 8)}, 8))
    assert known_params(str(folder)) == size  # it is not loaded
    header = {f"{dtype}.x": tensor([2], 0, 0, dtype) for dtype in ("BOOL", "U8", "I64")}
    header = {
        "a.weight": tensor([], 0, 2, "BF16"),
        "position_ids": tensor([1], 2, 10, "I64"),
        "e": tensor([0], 10, 10),
    }
    weights(header, 10)(folder)
    check_weights(folder / "model.safetensors")
    shards("a.safetensors", "a.safetensors", "b.safetensors", there=("a.safetensors", "b.safetensors"))(folder)
    assert [name for name, _ in tensor_shapes(folder)] == ["a", "a"] and known_params(str(folder)) == 4


def test_a_folder_is_looked_at_again_when_it_changes(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    sound_folder(folder)
    (folder / "model.safetensors").rename(folder / "blob")
    (folder / "model.safetensors").symlink_to(folder / "blob")  # as in the Hub's cache
    (folder / "lost").symlink_to(folder / "nowhere")
    sound_folder(folder)
    cut("blob", 0.9)(folder)
    with pytest.raises(ModelError, match="cut short"):
        sound_folder(folder)
