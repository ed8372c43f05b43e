"""What is wrong with a model's folder, said before anything is loaded from it. Torch-free; no weights are read."""

import contextlib
import math
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from peft_studio.errors import ModelError
from peft_studio.files import open_plain
from peft_studio.models.layouts import known_layout
from peft_studio.models.model_configs import LAYERS, MAX_TEMPLATE, check_bounds, check_told_size
from peft_studio.models.weight_files import (
    INDEX,
    POINTER,
    WEIGHTS,
    check_weights,
    other_weights,
    pointer_error,
    quantised,
    read_settings,
    tensor_shapes,
    weight_files,
)

CONFIG = "config.json"
TOKENIZERS = (
    "tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.txt", "vocab.json",
)  # fmt: skip
"""Files that hold a vocabulary, of which a tokenizer needs at least one."""
SETTINGS = ("tokenizer_config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json")
"""Other files that the libraries read, if they are there."""
MAX_TOKENIZER_BYTES = 1 << 27  # of a file with a vocabulary; the largest have a quarter of that
TEMPLATE = "chat_template.jinja"
DTYPES = ("float32", "float16", "bfloat16", "float64")
"""What a config may say that weights are stored in; they are loaded as float32."""


def require_model(path: Path) -> None:
    """Makes sure that a folder looks like a model's, and does not ask for code to be run; a quick look.

    Raises:
        ModelError: It does not; the message says what is missing.
    """
    if not path.is_dir():
        raise ModelError(f"{str(path)!r} is a file. A model is a folder with config.json and safetensors weights.")
    try:
        if not (path / CONFIG).exists():
            raise ModelError(f"The folder {str(path)!r} is not a model: it has no config.json.{_instead(path)}")
        for name in (CONFIG, *SETTINGS):
            with contextlib.suppress(ModelError):  # what cannot be read is told by `check_folder`
                settings = read_settings(path, name)
                if place := code_in(settings):
                    break
        else:
            place, name = ("custom_generate", "") if (path / "custom_generate").exists() else ("", "")
        if place:
            raise own_code(str(path), f"{place} in {name}" if name else place)
        weight_files(path)
    except OSError as exc:
        raise ModelError(f"The folder {str(path)!r} cannot be looked into: {exc.strerror or exc}.") from exc


def check_folder(path: Path) -> None:
    """Makes sure that a folder holds a model that can be loaded, as far as that can be told without the libraries.

    Raises:
        ModelError: It does not; the message names the file and says what is wrong with it.
    """
    require_model(path)
    try:
        _check_files(path, {name: read_settings(path, name) for name in (CONFIG, *SETTINGS) if (path / name).exists()})
    except OSError as exc:
        raise ModelError(f"The folder {str(path)!r} cannot be looked into: {exc.strerror or exc}.") from exc


def sound_folder(path: Path) -> None:
    """Like ``check_folder``, of what may be no folder; what was found sound is not read again until it changes.

    Raises:
        ModelError: See ``check_folder``.
    """
    if path.is_dir():
        _once(path, stamp(path))


@lru_cache(maxsize=32)
def _once(path: Path, _stamp: object) -> None:
    check_folder(path)


def _check_files(path: Path, settings: Mapping[str, Mapping[str, Any]]) -> None:
    for name, found in settings.items():
        check_bounds(found, str(path), name)
    refuse_settings(settings[CONFIG], str(path))
    if (path / "adapter_config.json").exists():
        raise ModelError(
            f"The folder {str(path)!r} holds an adapter beside the model (adapter_config.json), which would be loaded "
            "with it. A base model is to be alone: take the adapter's files out."
        )
    model_type = settings[CONFIG].get("model_type")
    if not model_type or not isinstance(model_type, str):
        raise ModelError(
            f"config.json in {str(path)!r} does not say of what type the model is (model_type = {model_type!r}). "
            "It should be a word such as 'llama'."
        )
    known_layout(model_type)
    for file in weight_files(path):
        check_weights(file)
    _check_depth(path, settings[CONFIG])
    _check_tokenizer(path)


def _check_depth(path: Path, settings: Mapping[str, Any]) -> None:
    """A config of a million layers would keep whoever builds them busy for ever; each has a tensor at least."""
    shapes = [shape for _, shape in tensor_shapes(path)]
    tensors = len(shapes)
    for key in LAYERS:
        count = settings.get(key)
        if isinstance(count, int | float) and count > tensors:
            raise ModelError(
                f"config.json in {str(path)!r} tells of {count:,} layers ({key}), and the weights have {tensors:,} "
                "tensors in all: one of the two belongs to another model."
            )
    check_told_size(settings, sum(math.prod(shape) for shape in shapes), str(path))


def _instead(path: Path) -> str:
    """What a folder without a model's config holds, as a hint."""
    if not any(path.iterdir()):
        return " It is empty."
    if (path / "adapter_config.json").exists():
        return " It holds an adapter: choose the base model that it was made for."
    if found := other_weights(path):
        return f" It holds {found}."
    inside = sorted(file.parent.relative_to(path).as_posix() for file in path.glob("*/config.json"))
    inside += sorted(file.parent.relative_to(path).as_posix() for file in path.glob("snapshots/*/config.json"))
    return f" Perhaps you mean the folder {inside[0]!r} in it." if inside else ""


def own_code(where: str, name: str) -> ModelError:
    """The error for a model that cannot be used without running what it brings along."""
    return ModelError(
        f"The model {where!r} brings code of its own to run ({name}). Such models are not supported here: nothing but "
        "weights, settings and a tokenizer is read, and no code of a model is ever run."
    )


def code_in(settings: Mapping[str, Any]) -> str:
    """Which entry of a file of settings names code that a library would have to run; empty when none does."""
    for key in ("auto_map", "custom_generate", "custom_pipelines"):
        if settings.get(key) or any(isinstance(value, dict) and value.get(key) for value in settings.values()):
            return key
    return ""


def refuse_code(settings: Mapping[str, Any], where: str, name: str) -> None:
    """Refuses a model whose file of settings names code to run.

    Args:
        settings: What the file says.
        where: Folder or Hub id, for the message.
        name: Of the file.

    Raises:
        ModelError: It does.
    """
    if place := code_in(settings):
        raise own_code(where, f"{place} in {name}")


def refuse_settings(settings: Mapping[str, Any], where: str) -> None:
    """Refuses a model's config whose weights are quantised, or of a dtype that is none.

    Raises:
        ModelError: It is.
    """
    for key in ("quantization_config", "compression_config"):
        if told := settings.get(key):
            method = told.get("quant_method") if isinstance(told, dict) else None
            bits = isinstance(told, dict) and next((n for n in (4, 8) if told.get(f"load_in_{n}bit")), 0)
            raise quantised(where, f"{key} in config.json", str(method or (f"{bits} bits" if bits else "")))
    if (other := settings.get("transformers_weights")) not in (None, WEIGHTS, INDEX):
        raise ModelError(
            f"config.json of {where!r} names other weights than {WEIGHTS} (transformers_weights = {other!r}), which "
            "are not looked at here. Give the file that name, and take the entry out."
        )
    for key in ("dtype", "torch_dtype"):
        told = settings.get(key)
        if told is not None and not (isinstance(told, str) and told.removeprefix("torch.") in (*DTYPES, "auto")):
            raise ModelError(
                f"config.json of {where!r} says {key} = {told!r}, which weights cannot be trained in. "
                f"Allowed: {', '.join(DTYPES)}."
            )


def _check_tokenizer(folder: Path) -> None:
    there = [name for name in TOKENIZERS if (folder / name).exists()]
    for template in (*folder.glob(TEMPLATE), *folder.glob("additional_chat_templates/*")):
        if template.stat().st_size > 4 * MAX_TEMPLATE:
            raise ModelError(f"{template.name} in {str(folder)!r} has more than {MAX_TEMPLATE:,} characters.")
    if not there:
        raise ModelError(
            f"The model in {str(folder)!r} has no tokenizer: none of {', '.join(TOKENIZERS)} is there. Copy those of "
            "the model that it was made from."
        )
    for name in (*there, *(["merges.txt"] if (folder / "merges.txt").exists() else [])):
        with open_plain(folder / name) as file:
            begin, size = file.read(len(POINTER)), os.fstat(file.fileno()).st_size
        if begin == POINTER:
            raise pointer_error(name, folder)
        if not begin:
            raise ModelError(f"{name} in {str(folder)!r} is empty. Copy the file anew.")
        if size > MAX_TOKENIZER_BYTES:
            raise ModelError(f"{name} in {str(folder)!r} has {size:,} bytes; {MAX_TOKENIZER_BYTES:,} are allowed.")
        if name.endswith(".json") and not _closes(folder / name):
            raise ModelError(f"{name} in {str(folder)!r} is not valid JSON: it is cut short or damaged. Copy it anew.")


def _closes(path: Path) -> bool:
    """Whether a JSON file ends as an object does; the library reads what stands in it."""
    with open_plain(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 256))
        return file.read().rstrip().endswith(b"}")


def stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes when a file of the folder does: names, sizes and times; empty for what is no folder."""
    try:
        return tuple(sorted(_state(entry) for entry in os.scandir(folder)))
    except OSError:
        return ()


def _state(entry: os.DirEntry[str]) -> tuple[str, int, int]:
    try:
        state = entry.stat()
    except OSError:  # a link to nowhere
        return entry.name, -1, 0
    return entry.name, state.st_size, state.st_mtime_ns
