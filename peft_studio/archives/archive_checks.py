"""Checks of the files in an imported run: each must be what its name says, in plain JSON, text or safetensors."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft_studio.errors import ArchiveError
from peft_studio.files import refuse_constant, tensor_header
from peft_studio.runs.progress import MAX_KINDS, MAX_METRICS, MAX_NAME
from peft_studio.tasks.reading.labels import MAX_LABELS

MAX_JSON_BYTES = 16 * 2**20  # of a file that is one JSON value
MAX_LINE_BYTES = 2**20  # of one event or one answer
MAX_DEPTH = 32  # levels of a JSON value
MAX_DIGITS = 40  # of a whole number
MAX_EVENTS = 50_000  # that are no steps: an evaluation after each of so many
MAX_LABEL = 1000  # characters of a label
MAX_TENSOR_NAME = 500  # characters of a tensor's name
_ODD_NUMBER = re.compile(rb"[eE]\+?\d{3}|\d{40}")  # what may be too large for a float, or endless
DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip
# Settings of PEFT that make it import a module or run code of a repository.
CODE_KEYS = ("trust_remote_code", "megatron_config", "auto_mapping")


def check_file(path: Path, name: str) -> None:
    """Checks one file.

    Args:
        path: Where it lies.
        name: Its name in the run's folder.

    Raises:
        ArchiveError: It is not what its name says.
    """
    checks: dict[str, Callable[[Path, str], None]] = {
        ".json": _check_json, ".jsonl": _check_lines, ".safetensors": _check_safetensors,
    }  # fmt: skip
    checks.get(path.suffix, _check_text)(path, name)


def _object(text: bytes, what: str) -> dict[str, Any]:
    real, whole = (_finite, _few_digits) if _ODD_NUMBER.search(text) else (None, None)  # None is much faster
    try:
        value = json.loads(text, parse_constant=refuse_constant, parse_float=real, parse_int=whole)
    except (ValueError, RecursionError) as exc:
        raise ArchiveError(f"{what} is not JSON: {str(exc)[:200]}.") from exc
    if not isinstance(value, dict):
        raise ArchiveError(f"{what} is not a JSON object.")
    if text.count(b"{") + text.count(b"[") > MAX_DEPTH and _is_deep(value):
        raise ArchiveError(f"{what} is nested too deeply: {MAX_DEPTH} levels are allowed.")
    return value


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"{digits[:20]} is too large a number")
    return value


def _few_digits(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"{digits[:20]}... is too large a number")
    return int(digits)


def _is_deep(value: object) -> bool:
    """Whether a value has more than ``MAX_DEPTH`` levels; found level by level, without recursion."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        groups = (item.values() if isinstance(item, dict) else item for item in level)
        level = [item for group in groups for item in group if isinstance(item, dict | list)]
    return bool(level)


def _check_json(path: Path, name: str) -> None:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ArchiveError(f"{name} has {path.stat().st_size:,} bytes; {MAX_JSON_BYTES:,} are allowed.")
    value = _object(path.read_bytes(), name)
    if name == "exit.json":
        for key in ("code", "signal"):
            if not (value.get(key) is None or type(value[key]) is int):
                raise ArchiveError(f"exit.json: {key} = {value[key]!r} is not a whole number.")
    if name.startswith("adapter/"):
        _check_no_code(value, name)


def _check_no_code(value: Any, name: str) -> None:
    """No setting at any depth may lead a library to import or run something."""
    for key, item in value.items() if isinstance(value, dict) else ():
        if key in CODE_KEYS and item:
            raise ArchiveError(f"{name}: {key} = {item!r} would run code, which no run of this app needs.")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_no_code(item, name)


def _check_lines(path: Path, name: str) -> None:
    """A log may end in half a line: the disk was full, and readers leave it out."""
    events = _Events() if name == "events.jsonl" else None
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise ArchiveError(f"{name}, line {number:,}: longer than {MAX_LINE_BYTES:,} bytes.")
            if line.strip() and line.endswith(b"\n"):
                value = _object(line, f"{name}, line {number:,},")
                if events:
                    events.check(value, f"{name}, line {number:,}")


class _Events:
    """Counts what is different in a log: tables, plots and memory have a place for each."""

    def __init__(self) -> None:
        self._metrics: set[str] = set()
        self._kinds: set[str] = set()
        self._others = 0

    def check(self, event: dict[str, Any], where: str) -> None:
        """Looks at the next event.

        Raises:
            ArchiveError: It is none, or there are too many different things.
        """
        kind = event.get("kind")
        if not isinstance(kind, str):
            raise ArchiveError(f"{where}: an event has a kind.")
        if kind == "step":
            return
        self._others += 1
        self._kinds.add(_named(kind, f"{where}: the kind of an event", MAX_NAME))
        for group in ("metrics", "tokenizers"):
            names = event.get(group)
            for name in names if isinstance(names, dict) else ():
                self._metrics.add(_named(name, f"{where}: the name of a metric", MAX_NAME))
        for count, most, what in (
            (self._others, MAX_EVENTS, "events beside steps"), (len(self._kinds), MAX_KINDS, "kinds of events"),
            (len(self._metrics), MAX_METRICS, "names of metrics"),
        ):  # fmt: skip
            if count > most:
                raise ArchiveError(f"{where}: there are more than {most:,} {what}, the most that a run may have.")
        data = event.get("data")
        labels = data.get("labels") if isinstance(data, dict) else None
        if isinstance(labels, list):
            if len(labels) > MAX_LABELS:
                raise ArchiveError(f"{where}: there are {len(labels):,} labels; {MAX_LABELS} are allowed.")
            for label in labels:
                _named(str(label), f"{where}: a label", MAX_LABEL)


def _named(name: str, what: str, most: int) -> str:
    if len(name) > most:
        raise ArchiveError(f"{what} has {len(name):,} characters; {most:,} are allowed: {name[:40]!r}...")
    return name


def _check_text(path: Path, name: str) -> None:
    """Logs hold whatever a library printed, so only that nothing binary hides there is asked."""
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            if b"\0" in chunk:
                raise ArchiveError(f"{name} is not a text.")


def _check_safetensors(path: Path, name: str) -> None:
    """Reads the header only, and holds every tensor against the bytes that are there."""
    try:
        header, size = tensor_header(path)
    except ValueError as exc:
        raise ArchiveError(f"{name} is not a safetensors file: {exc}.") from exc
    for tensor in header:
        _named(tensor, f"{name}: the name of a tensor", MAX_TENSOR_NAME)
    end = 0
    spans = sorted((_span(item, tensor, name) for tensor, item in header.items()), key=lambda span: span[0])
    for begin, stop in spans:
        if begin != end:
            raise ArchiveError(f"{name} is damaged: its tensors overlap or leave gaps at byte {end:,}.")
        end = stop
    if end != size:
        raise ArchiveError(f"{name} is damaged: its tensors have {end:,} bytes, but {size:,} are there.")


def _span(item: Any, tensor: str, name: str) -> tuple[int, int]:
    try:
        begin, end = item["data_offsets"]
        shape, bits = item["shape"], DTYPE_BITS[item["dtype"]]
        whole = all(type(number) is int and number >= 0 for number in (begin, end, *shape))
        right = whole and (end - begin) * 8 == math.prod(shape) * bits
    except (KeyError, TypeError, ValueError):
        right = False
    if not right:
        raise ArchiveError(f"{name} is damaged: the place of the tensor {tensor!r} does not fit its shape.")
    return begin, end
