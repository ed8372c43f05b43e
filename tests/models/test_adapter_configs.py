"""Settings of adapters: those that our own runs save pass, and no other reaches PEFT."""

import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from peft_studio.errors import ModelError
from peft_studio.models.adapter_configs import check_adapter, check_settings
from peft_studio.models.layouts import LAYOUTS

LORA = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "a rank of millions": ({"r": 10**6}, "r = 1000000. Allowed: a whole number from 0 to 65,536"),
    "a rank of another file": ({"r": 2000}, "r = 2000. Allowed: 32, the largest dimension"),
    "another rank than the tensors'": ({"r": 8}, "r = 8. Allowed: the rank of its tensors, 4"),
    "a rank that is a word": ({"r": "4"}, "r = '4'"),
    "a rank that is a truth": ({"r": True}, "r = True"),
    "a negative rank": ({"r": -4}, "r = -4"),
    "a pattern without end": ({"target_modules": "(a+)+$"}, "no regular expression"),
    "a pattern with a quantifier": ({"target_modules": r".*\.q_proj"}, "no regular expression"),
    "empty choices": ({"target_modules": "(|)" * 30 + "x"}, "no regular expression"),
    "choices that repeat": ({"target_modules": "(a|a)" * 30}, "no regular expression"),
    "a pattern in a list": ({"target_modules": ["q_proj", "(a+)+$"]}, "no regular expression"),
    "a pattern of layers": ({"layers_pattern": "(a+)+$"}, "layers_pattern"),
    "what is left out": ({"exclude_modules": "(x*)*y"}, "exclude_modules"),
    "a rank for a pattern": ({"rank_pattern": {"(a+)+$": 4}}, "rank_pattern"),
    "a scale for a pattern": ({"alpha_pattern": {".*": 4}}, "alpha_pattern"),
    "ranks that are none": ({"rank_pattern": {"q_proj": 10**9}}, "rank_pattern"),
    "heads by a pattern": ({"modules_to_save": ["(a+)+$"]}, "modules_to_save"),
    "a module to import": ({"megatron_core": "os"}, "megatron_core = 'os'"),
    "layers twice": ({"layer_replication": [[0, 10**6]]}, "layer_replication"),
    "another library's class": ({"auto_mapping": {"parent_library": "os"}}, "auto_mapping"),
    "code of others": ({"trust_remote_code": True}, "trust_remote_code"),
    "an unknown setting": ({"surprise": 5}, "surprise = 5. Allowed: nothing"),
    "an unknown kind": ({"peft_type": "SOMETHING"}, "peft_type = 'SOMETHING'"),
    "no kind": ({"peft_type": None}, "peft_type = None"),
    "a scale without end": ({"lora_alpha": float("inf")}, "lora_alpha"),
    "a whole number without end": ({"lora_alpha": 10**400}, "lora_alpha"),
    "many layers": ({"layers_to_transform": [0] * 30_000}, "layers_to_transform"),
    "a long word": ({"bias": "x" * 1000}, "bias"),
    "more than EVA needs": ({"eva_config": {"rho": 1.0, "cache_file": "x.pt"}}, "eva_config"),
}


def write(folder: Path, settings: dict[str, Any], shapes: dict[str, list[int]] | None = None) -> Path:
    """An adapter of float32 zeros."""
    shapes = shapes or {
        "base_model.model.q_proj.lora_A.weight": [4, 32],
        "base_model.model.q_proj.lora_B.weight": [32, 4],
    }
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * shape[0] * shape[1]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def test_a_plain_adapter_passes(tmp_path: Path) -> None:
    assert check_adapter(write(tmp_path, LORA))["r"] == 4
    check_adapter(write(tmp_path, {**LORA, "r": 8, "rank_pattern": {"model.q_proj": 4}}))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_names_as_layouts_write_them(layout: Any) -> None:
    names = "|".join((layout.linear, layout.head.replace(".", r"\.")))
    for pattern in (layout.linear, names, layout.within_blocks([*layout.norms, *layout.attention])):
        check_settings({**LORA, "target_modules": pattern})


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_allowed_is_said_at_once(name: str, tmp_path: Path) -> None:
    change, words = HOSTILE[name]
    write(tmp_path, {**LORA, **change})
    begun = time.perf_counter()
    with pytest.raises(ModelError, match=words.replace("(", r"\(")):
        check_adapter(tmp_path)
    assert time.perf_counter() - begun < 2


@pytest.mark.parametrize(
    "text", ["a|" * 9000 + "(", "(a)" * 9000, "((((" * 999, r"(a)\.\d+\.()?(b)|" * 999 + "*", "\\" * 9999]
)
def test_judging_a_pattern_takes_no_time(text: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(ModelError, match="target_modules"):
        check_settings({**LORA, "target_modules": text})
    assert time.perf_counter() - begun < 2


def test_vectors_of_a_prompt_are_as_many_as_the_settings_say(tmp_path: Path) -> None:
    prompt = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 20, "token_dim": 32, "num_transformer_submodules": 1}
    check_adapter(write(tmp_path, prompt, {"prompt_embeddings": [20, 32]}))
    with pytest.raises(ModelError, match="num_virtual_tokens = 900"):
        check_adapter(write(tmp_path, {**prompt, "num_virtual_tokens": 900}, {"prompt_embeddings": [20, 32]}))
