"""Tokenized rows kept on disk: the same rows under the same tokenizer are tokenized once for all runs.

An entry is a safetensors file named by the hash of all that its tokens depend on; it can be deleted at any time. What
cannot be read, or does not say the same as its checksum, is made anew.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from peft_studio.files import DRAFT, cache_write
from peft_studio.tasks.base import Row
from peft_studio.training.formats import chats, formats, seam
from peft_studio.training.formats import greedy as decoding
from peft_studio.training.formats import rows as data
from peft_studio.training.formats.formats import Format
from peft_studio.training.formats.rows import EncodedExample, EncodedRows

FEWEST_ROWS = 256
"""Fewer rows are tokenized as quickly as they are read."""
MAX_BYTES = 256 * 2**20
"""What all entries may take; those that were not used for longest go first."""
_ARRAYS = ("ids", "lengths", "prompts", "unscored")
LEFTOVER_SECONDS = 3600.0  # a draft that is older was cut short


def encode_once(form: Format, rows: Sequence[Row], max_length: int, folder: Path) -> EncodedRows:
    """What ``form.encode(rows, max_length)`` gives, from the cache folder if it is there.

    Raises:
        DataError: No row can be used.
        ModelError: The tokenizer lacks what the format needs.
    """
    if len(rows) < FEWEST_ROWS or (name := _key(form, rows, max_length)) is None:
        return form.encode(rows, max_length)
    file = folder / "tokens" / f"{name}.safetensors"
    found = _read(file)
    if found is None:
        found = form.encode(rows, max_length)
        _write(file, found)
    return found


def _key(form: Format, rows: Sequence[Row], max_length: int) -> str | None:
    """Changes with everything that tokens depend on; None for tokenizers that cannot be told apart."""
    tokenizer: Any = form.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    backend.no_truncation()  # what an earlier call may have left there counts for nothing
    backend.no_padding()
    special = {
        "eos": tokenizer.eos_token_id,
        "bos": tokenizer.bos_token_id,
        "settings": tokenizer.init_kwargs,
        "chat": tokenizer.chat_template,
    }
    parts = [type(tokenizer).__name__, type(form).__name__, list(getattr(form, "labels", ())), max_length, special]
    digest = hashlib.sha256(_code().encode())
    digest.update(json.dumps(parts, sort_keys=True, default=str).encode())
    digest.update(backend.to_str().encode())
    for row in rows:
        # The lengths keep "ab" + "c" and "a" + "bc" apart.
        digest.update(f"{len(row.prompt)} {len(row.target)} {row.prompt}{row.target}".encode(errors="surrogatepass"))
        if row.chat:
            digest.update(repr(row.chat).encode(errors="surrogatepass"))
    return digest.hexdigest()[:32]


@cache
def _code() -> str:
    """Changes with the code that makes examples and with the libraries below it."""
    digest = hashlib.sha256(f"{version('transformers')} {version('tokenizers')}".encode())
    for module in (chats, data, decoding, formats, seam):
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


def _read(file: Path) -> EncodedRows | None:
    """What an entry holds; None when it is not there or damaged."""
    try:
        with safe_open(file, "numpy") as stored:
            told = stored.metadata()
            ids, lengths, prompts, unscored = (stored.get_tensor(name) for name in _ARRAYS)
        counts = int(told["cut"]), int(told["dropped"]), int(told["altered"])
        if told["checksum"] != _checksum(counts, ids, lengths, prompts, unscored):
            return None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    with contextlib.suppress(OSError):
        os.utime(file)  # it was of use
    flat, ends = ids.tolist(), accumulate(lengths.tolist(), initial=0)
    gaps: dict[int, list[tuple[int, int]]] = {}
    for row, start, end in unscored.tolist():
        gaps.setdefault(row, []).append((start, end))
    spans = enumerate(zip(pairwise(ends), prompts.tolist(), strict=True))
    examples = [EncodedExample(flat[start:end], at, tuple(gaps.get(row, ()))) for row, ((start, end), at) in spans]
    return EncodedRows(examples, *counts)


def _write(file: Path, encoded: EncodedRows) -> None:
    """Keeps an entry; a disk that is full or cannot be written is no reason to fail a run."""
    examples = encoded.examples
    gaps = [(row, *span) for row, example in enumerate(examples) for span in example.unscored]
    arrays = {
        "ids": np.concatenate([np.array(example.ids, dtype=np.int32) for example in examples]),
        "lengths": np.array([len(example.ids) for example in examples], dtype=np.int32),
        "prompts": np.array([example.prompt_length for example in examples], dtype=np.int32),
        "unscored": np.array(gaps, dtype=np.int32).reshape(-1, 3),  # row, start and end of each
    }
    counts = encoded.cut, encoded.dropped, encoded.altered
    told = {name: str(getattr(encoded, name)) for name in ("cut", "dropped", "altered")}
    told["checksum"] = _checksum(counts, *arrays.values())
    content = save(arrays, told)
    if len(content) > MAX_BYTES // 2:
        return
    cache_write(file, content)
    with contextlib.suppress(OSError):
        _tidy(file.parent)


def _checksum(counts: tuple[int, int, int], *arrays: np.ndarray) -> str:
    digest = hashlib.sha256(repr(counts).encode())
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _tidy(folder: Path) -> None:
    """Deletes drafts that were cut short, and the entries that were not used for longest, down to ``MAX_BYTES``."""
    entries = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another worker tidies up, too
            state = path.stat()
            if path.suffix == ".safetensors":
                entries.append((state.st_mtime, state.st_size, path))
            elif path.suffix == DRAFT and time.time() - state.st_mtime > LEFTOVER_SECONDS:
                path.unlink()
    size = sum(size for _, size, _ in entries)
    for _, bytes_, path in sorted(entries):
        if size <= MAX_BYTES:
            break
        path.unlink(missing_ok=True)
        size -= bytes_
