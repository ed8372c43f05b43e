"""Files of a model's folder, read with suspicion: small JSON files, headers of safetensors files. Torch-free."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from peft_studio.errors import ModelError
from peft_studio.files import open_plain, tensor_header

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.h5", "*.msgpack", "*.npz", "*.onnx", "*.safetensors")
POINTER = b"version https://git-lfs"
MAX_SETTINGS_BYTES = 16 * 2**20  # an index of a thousand shards has one
FLOATS = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}
"""Bytes of a number by the dtypes that weights may have; they are loaded as float32."""
OTHER_DTYPES = {
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "C64": 8,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1,
}  # fmt: skip
"""Likewise for all else that a file may hold, but for the format's smallest ones, which are told from their names."""


def read_settings(folder: Path, name: str) -> dict[str, Any]:
    """A small JSON file of a model's folder.

    Raises:
        ModelError: It cannot be read, or it is no JSON object.
    """
    where = f"{name} in {str(folder)!r}"
    try:
        with open_plain(folder / name) as file:
            if os.fstat(file.fileno()).st_size > MAX_SETTINGS_BYTES:
                raise ModelError(f"{where} has more than {MAX_SETTINGS_BYTES // 2**20} MB, too much for settings.")
            content = file.read()
    except OSError as exc:
        raise ModelError(f"{where} cannot be read: {exc.strerror or 'it is no plain file'}.") from exc
    if content.startswith(POINTER):
        raise pointer_error(name, folder)
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise ModelError(f"{where} is not valid JSON: it is cut short or damaged. Copy the file anew.") from exc
    if not isinstance(value, dict):
        raise ModelError(f"{where} holds no JSON object but a {type(value).__name__}. Copy the file anew.")
    return value


def pointer_error(name: str, folder: Path) -> ModelError:
    """The error for a text that stands in a file's place until git-lfs has brought it."""
    return ModelError(
        f"{name} in {str(folder)!r} is a git-lfs pointer, not the file itself: get it with 'git lfs pull' in that "
        "folder, or download it."
    )


def quantised(where: str, sign: str, method: str = "") -> ModelError:
    """The error for weights that are stored with few bits."""
    how = f" with {method}" if method else ""
    return ModelError(
        f"The weights of {where!r} are quantised{how} ({sign}). Quantised models are not supported: choose the "
        "original one, in float32, float16 or bfloat16."
    )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold a model's weights: a single one, or the shards that an index names.

    Raises:
        ModelError: There are none, the index is damaged, or it names a file that is not there.
    """
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if not (folder / INDEX).exists():
        found = other_weights(folder)
        raise ModelError(
            f"The folder {str(folder)!r} has no .safetensors weights.{f' It holds {found}.' if found else ''} "
            f"Convert it to safetensors: {WEIGHTS}, or shards with {INDEX}."
        )
    places = read_settings(folder, INDEX).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise ModelError(f"{INDEX} in {str(folder)!r} does not say which tensor is in which file (weight_map).")
    names = sorted(set(places.values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(
                f"{INDEX} in {str(folder)!r} names {name!r}, which is no safetensors file of this folder."
            )
    if missing := [name for name in names if not (folder / name).exists()]:
        raise ModelError(
            f"{len(missing)} of the {len(names)} files that {INDEX} in {str(folder)!r} names "
            f"{'is' if len(missing) == 1 else 'are'} missing: {shortened(missing)}."
        )
    return [folder / name for name in names]


def other_weights(folder: Path) -> str:
    """What else a folder holds that looks like weights, with the reason why it is not read; empty without."""
    found = sorted({file.name for pattern in OTHER_WEIGHTS for file in folder.glob(pattern)})
    if not found:
        return ""
    if name := next((name for name in found if name.endswith((".bin", ".pt", ".pth", ".ckpt"))), ""):
        return f"{name}, which is a pickle and may run code when read"
    if name := next((name for name in found if name.endswith(".gguf")), ""):
        return f"{name}, which is in llama.cpp's own format"
    if found[0].endswith(".safetensors"):
        return f"{found[0]}, which is not the name that such a file is looked for"
    return f"{found[0]}, which is in the format of another library"


def check_weights(file: Path) -> None:
    """Makes sure that a safetensors file is what its header says, without reading any weights.

    Raises:
        ModelError: It is not; the message says why.
    """
    where = f"{file.name} in {str(file.parent)!r}"
    try:
        with open_plain(file) as opened:
            if opened.read(len(POINTER)) == POINTER:
                raise pointer_error(file.name, file.parent)
        header, size = tensor_header(file)
        end = end_of_tensors(header)
    except OSError as exc:
        raise ModelError(f"{where} cannot be read: {exc.strerror or 'it is no plain file'}.") from exc
    except (ValueError, RecursionError, MemoryError, OverflowError) as exc:
        why = str(exc) if type(exc) is ValueError else "its header is no JSON"
        raise ModelError(f"{where} is no whole safetensors file: {why}. Copy or download it anew.") from exc
    if size != end:
        how = "is cut short" if size < end else "is longer than it should be"
        raise ModelError(
            f"{where} {how}: its header tells of {end:,} bytes of weights, and {size:,} are there. "
            "Copy or download it anew."
        )
    few_bits = next((name for name, item in header.items() if _has_few_bits(name, item["dtype"])), "")
    if few_bits:
        raise quantised(str(file.parent), f"{few_bits} in {file.name} is {header[few_bits]['dtype']}")


def _has_few_bits(name: str, dtype: str) -> bool:
    packed = name.endswith((".weight", "qweight", "qzeros", "weight_packed", ".absmax", ".SCB"))
    return dtype not in FLOATS and (packed or dtype.startswith(("F8", "F6", "F4")))


def end_of_tensors(header: Mapping[str, Any]) -> int:
    """Where the last tensor of a header ends, in bytes from the end of the header.

    Raises:
        ValueError: The header is not one that the format allows, and why.
    """
    if not header:
        raise ValueError("its header names no tensor")
    spans = sorted(_span(name, item) for name, item in header.items())
    end = 0
    for begin, stop, name in spans:
        if begin != end:
            raise ValueError(f"the tensor {name!r} begins at byte {begin:,} where {end:,} is the next")
        end = stop
    return end


def _span(name: str, item: object) -> tuple[int, int, str]:
    """First byte, the byte behind the last, and the name of a tensor; a ValueError when they contradict its shape."""
    told = item if isinstance(item, dict) else {}
    shape, offsets, dtype = told.get("shape"), told.get("data_offsets"), told.get("dtype")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2 or not isinstance(dtype, str):
        raise ValueError(f"its header does not say dtype, shape and place of the tensor {name!r}")
    width = {**FLOATS, **OTHER_DTYPES}.get(dtype)
    if width is not None and offsets[1] - offsets[0] != math.prod(shape) * width:
        raise ValueError(
            f"the tensor {name!r} of shape {shape} in {dtype} has {offsets[1] - offsets[0]:,} bytes in it, not "
            f"{int(math.prod(shape) * width):,}"
        )
    return offsets[0], offsets[1], name


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 1 << 62 for number in value)


def tensor_shapes(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Name and shape of every tensor that a model's files hold; to be asked after `check_folder`."""
    for file in weight_files(folder):
        yield from ((name, item["shape"]) for name, item in tensor_header(file)[0].items())


def shortened(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
