"""What works where, as the Learn tab's table shows it: outcomes of the tests, each "no" with its reason."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from peft_studio import methods
from peft_studio.methods import METHODS, Method
from peft_studio.methods.not_offered import NOT_OFFERED, NotOffered

MATRIX = Path(methods.__file__).with_name("matrix.json")
FAMILIES = {
    "llama": ("Llama", "decoder"), "qwen3": ("Qwen3", "decoder"), "gpt2": ("GPT-2", "decoder"),
    "gpt_neox": ("GPT-NeoX", "decoder"), "opt": ("OPT", "decoder"), "bert": ("BERT", "encoder"),
    "roberta": ("RoBERTa", "encoder"), "distilbert": ("DistilBERT", "encoder"),
    "modernbert": ("ModernBERT", "encoder"), "t5": ("T5", "encoder-decoder"), "bart": ("BART", "encoder-decoder"),
}  # fmt: skip
"""Titles and kinds of the architecture families that the tests go through."""
TIERS = {"common": "Common", "more": "More", "research": "Research"}
NO_PARAMETERS = "Models of this family usually have no such parameters."


@lru_cache(maxsize=1)
def outcomes() -> dict[str, dict[str, str]]:
    """The tests' outcomes: method -> family -> "yes", "no" or "yes, not mergeable"."""
    found: dict[str, dict[str, str]] = json.loads(MATRIX.read_text(encoding="utf-8"))
    return found


def works_on(name: str, family: str) -> bool:
    """Whether a method can be put on a family; what was never tried counts as yes, and says so when it fails."""
    return outcomes().get(name, {}).get(family) != "no"


def reason(method: Method, family: str) -> str:
    """Why a method cannot be put on a family."""
    kind = FAMILIES[family][1]
    if kind not in method.kinds:
        return f"It does not fit a model that is an {kind}."
    return method.not_for.get(family, NO_PARAMETERS)


def cell(method: Method, family: str) -> dict[str, str]:
    """One field of the table: ``mark`` and ``says``."""
    outcome = outcomes().get(method.name, {}).get(family)
    if outcome is None:
        return {"mark": "unknown", "says": "not tried"}
    if outcome == "no":
        return {"mark": "no", "says": f"no: {reason(method, family)}"}
    if not method.mergeable:
        return {"mark": "stays", "says": "works; stays beside the base model, it cannot be merged"}
    if outcome == "yes":
        return {"mark": "yes", "says": "works, and merges into the base model"}
    return {"mark": "stays", "says": "works; on this family it cannot be merged"}


def _row(method: Method) -> dict[str, Any]:
    return {"name": method.name, "title": method.title, "cells": [cell(method, family) for family in FAMILIES]}


def _not_offered(entry: NotOffered) -> dict[str, Any]:
    told = {name: getattr(entry, name) for name in ("name", "what", "why", "seen")}
    return {**told, "instead": [{"name": name, "title": METHODS[name].title} for name in entry.instead]}


@lru_cache(maxsize=1)
def library() -> dict[str, Any]:
    """The table and the list of what is not offered, as JSON values."""
    return {
        "families": [{"id": family, "title": title, "kind": kind} for family, (title, kind) in FAMILIES.items()],
        "tiers": [
            {"title": title, "methods": [_row(method) for method in METHODS.values() if method.tier == tier]}
            for tier, title in TIERS.items()
        ],
        "notOffered": [_not_offered(entry) for entry in NOT_OFFERED],
    }
