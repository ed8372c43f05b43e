"""Takes the folders of this machine out of a run's files before they leave it: a path becomes its last name."""

import json
import re
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from peft_studio.runs.redact import redact, redact_lines

_TEXTS = (".json", ".jsonl", ".log", ".md", ".txt")
_ROWS = ("predictions.jsonl",)  # rows and answers, in which no log of ours writes paths
_PLACE = re.compile(
    r"""(?<![\w.:/~<])(?:~|\.{1,2}|/(?P<top>[\w.@+-]+))(?:/[^/\s"'<>|:*?\\,;()\[\]{}]+)*/(?=[^/\s"'])"""
)
_FILES = ("train_file", "validation_file", "test_file")


def without_places(path: Path, name: str) -> bytes | None:
    """What is told of a file of a run, without secrets; None for one that goes as it is.

    Args:
        path: The file.
        name: Its name in the run's folder.
    """
    if path.suffix not in _TEXTS:
        return None
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    if name in _ROWS:
        told = redact_lines(text)
        return None if told == text else told.encode("utf-8", errors="surrogateescape")
    text = bare(_config(text) if name == "config.json" else text)
    text = redact_lines(text) if path.suffix == ".jsonl" else redact(text)
    return text.encode("utf-8", errors="surrogateescape")


def bare(text: str) -> str:
    """A text in which every path of this machine is its last name."""
    text = _PLACE.sub(lambda match: "" if match["top"] is None or _is_here(match["top"]) else match[0], text)
    for place in _known():  # folders with names that the pattern does not take
        text = text.replace(f"{place}/", "")
    return text


def _config(text: str) -> str:
    """A run's config, whose folders may have names that no pattern would find."""
    try:
        record = json.loads(text)
        config = record["config"]
        _shorten(config["model"], "id")
        for file in _FILES:
            _shorten(config["task"], file)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return text  # damaged; the reader will say so
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def _shorten(section: dict[str, Any], key: str) -> None:
    value = section.get(key)
    if isinstance(value, str) and value.startswith(("/", "~", ".")):
        section[key] = Path(value).name


@cache
def _known() -> tuple[str, ...]:
    """Folders that this machine's logs name, the longest first."""
    places = {str(Path.home()), tempfile.gettempdir(), sys.prefix, str(Path(__file__).parents[2])}
    return tuple(sorted((place for place in places if place != "/"), key=len, reverse=True))


@cache
def _is_here(top: str) -> bool:
    """Whether a path begins with a folder that this machine has; others are routes or fractions."""
    return Path("/", top).is_dir()
