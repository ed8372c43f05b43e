"""What a run's details show beside its curves: test figures, the check after saving, confusion, ranks kept, memory.

Everything is computed from the run's own files when somebody looks.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from peft_studio.config.sections import ModelConfig, ResourcesConfig, TaskConfig, TrainingConfig
from peft_studio.doctor.evidence import predictions
from peft_studio.files import read_json
from peft_studio.methods import METHODS
from peft_studio.runs.event_log import number
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.reader import RunInfo
from peft_studio.tasks import TASKS
from peft_studio.tasks.metrics import confusion_matrix
from peft_studio.ui.form import label

MAX_CLASSES = 12
MAX_SETTINGS = 200  # of a run that may come from elsewhere; ours have about sixty
SECTIONS: Mapping[str, type[BaseModel]] = {
    "model": ModelConfig, "task": TaskConfig, "training": TrainingConfig, "resources": ResourcesConfig,
}  # fmt: skip
NAMES = {"model.id": "Base model", "task.id": "Task", "method.name": "Method"}
_CLASSIFIES = "test/macro_f1"  # only tasks with labels have it
_LAYER = re.compile(r"(?P<layer>.*?\.\d+)\.(?P<part>.+?)(\.lora_E)?")


def run_details(info: RunInfo, paths: RunPaths, saved: Mapping[str, Any]) -> dict[str, Any]:
    """A run's details as JSON values; what a run does not have is None or empty.

    Args:
        info: The run.
        paths: Its files.
        saved: Its latest ``saved`` event; empty before.
    """
    classifies = _CLASSIFIES in info.metrics
    return {
        "id": info.id,
        "metrics": test_metrics(info.metrics, info.tokenizers),
        "validation": validation(info),
        "base": "always answering with the most frequent label" if classifies else "the base model",
        "check": self_check(saved),
        "confusion": confusion(paths, info.task) if classifies else None,
        "ranks": ranks(paths),
        "memory": memory(info, paths),
    }


def settings_of(infos: Sequence[RunInfo]) -> dict[str, Any]:
    """The settings of runs, to be laid side by side.

    Returns:
        ``labels`` (the settings that any run has, in the form's order, by path such as ``training.seed``: what they
        are called), ``says`` (what they are, in words) and ``runs`` (for each id, values by path).
    """
    labels: dict[str, str] = {}
    says: dict[str, str] = {}
    values: dict[str, dict[str, Any]] = {}
    for info in infos:
        method = METHODS[info.method].params if info.method in METHODS else None
        found = values[info.id] = dict[str, Any]()
        for section in ("model", "task", "method", "training", "resources"):
            options = info.config.get(section)
            entries = list(options.items())[:MAX_SETTINGS] if isinstance(options, dict) else []
            for name, value in entries:
                path = f"{section}.{name}"
                found[path] = METHODS[info.method].title if method and path == "method.name" else value
                model = SECTIONS.get(section, method)
                known = model.model_fields.get(name) if model else None
                labels.setdefault(path, NAMES.get(path) or (known.title if known else None) or label(name))
                if known and known.description:
                    says.setdefault(path, known.description)
    return {"labels": labels, "says": says, "runs": values}


def memory(info: RunInfo, paths: RunPaths) -> dict[str, Any] | None:
    """The peak of the run's memory as it was foretold and as it was measured, in bytes.

    Returns:
        ``ledger`` (the foretold lines; empty for a run of an older version), ``predicted`` (their sum, or None), and
        ``measured`` (so far, or None). None when neither is known.
    """
    if info.predicted_memory_bytes is None and info.peak_memory_bytes is None:
        return None
    lines = (read_json(paths.predicted) or {}).get("memory")
    sizes = {name: number(size) for name, size in lines.items()} if isinstance(lines, dict) else {}
    return {
        "ledger": {name: size for name, size in sizes.items() if size is not None},
        "predicted": info.predicted_memory_bytes,
        "measured": info.peak_memory_bytes,
    }


def validation(info: RunInfo) -> dict[str, Any] | None:
    """Validation losses: ``best`` (of ``best_step``), ``saved`` (of ``saved_step``) and ``base``; None without any."""
    if info.best_eval_loss is None:
        return None
    found = {"best": info.best_eval_loss, "best_step": info.best_step, "base": info.metrics.get("base/eval/loss")}
    return found if info.saved_step is None else {**found, "saved": info.eval_loss, "saved_step": info.saved_step}


def test_metrics(metrics: Mapping[str, float], tokenizers: Mapping[str, str]) -> list[dict[str, Any]]:
    """The test metrics by name, each with what it is compared with and the tokenizer that it was scored with."""
    return [
        {
            "name": (short := name.removeprefix("test/")),
            "value": value,
            "base": metrics.get(f"base/{name}"),
            **({"tokenizer": tokenizers[short]} if short in tokenizers else {}),
        }
        for name, value in metrics.items()
        if name.startswith("test/")
    ]


def self_check(saved: Mapping[str, Any]) -> dict[str, Any] | None:
    """How far the saved adapter, loaded again, was from the trained one: ``rows`` and ``max_difference``."""
    check = saved.get("check")
    return {key: number(check.get(key)) for key in ("rows", "max_difference")} if isinstance(check, dict) else None


def confusion(paths: RunPaths, task: str) -> dict[str, Any] | None:
    """How often each class was taken for each other.

    Args:
        paths: The run.
        task: Name of its task, whose labels come in their own order.

    Returns:
        ``labels`` shown, ``counts`` (truth in rows, answers in columns), ``other`` (for each row, answers that are
        none of the labels shown), ``classes`` and ``rows`` in all. None without predictions.
    """
    pairs = list(predictions(paths))
    if not pairs:
        return None
    targets, answers = zip(*pairs, strict=True)
    known = TASKS[task].labels if task in TASKS else ()
    labels = shown_labels(targets, known)
    counts = confusion_matrix(targets, answers, labels)
    totals = Counter(targets)
    return {
        "labels": labels,
        "counts": counts,
        "other": [totals[label] - sum(row) for label, row in zip(labels, counts, strict=True)],
        "classes": len({*targets, *known}),
        "rows": len(pairs),
    }


def shown_labels(targets: Sequence[str], known: Sequence[str]) -> list[str]:
    """All classes, or the most frequent when there are many; in the task's order, else by name."""
    frequent = Counter(targets)
    labels = [*known, *sorted(set(targets) - set(known))]
    if len(labels) <= MAX_CLASSES:
        return labels
    most = {label for label, _ in frequent.most_common(MAX_CLASSES)}
    return [label for label in labels if label in most]


def ranks(paths: RunPaths) -> dict[str, Any] | None:
    """The ranks that a method with a rank schedule has kept: by layer, then by part of the layer.

    Returns:
        ``parts`` (column names), ``layers`` (``name`` and ``cells``: kept and initial rank, or None), ``kept`` and
        ``of`` in all. None for a run without such a schedule.
    """
    pattern = (read_json(paths.adapter / "adapter_config.json") or {}).get("rank_pattern")
    found: dict[str, dict[str, list[int]]] = {}
    for name, mask in pattern.items() if isinstance(pattern, dict) else ():
        place = _LAYER.fullmatch(name)
        if place and isinstance(mask, list):
            found.setdefault(place["layer"], {})[place["part"]] = [sum(map(bool, mask)), len(mask)]
    if not found:
        return None
    parts = list(dict.fromkeys(part for row in found.values() for part in row))
    cells = [cell for row in found.values() for cell in row.values()]
    return {
        "parts": short_names(parts),
        "layers": [
            {"name": name, "cells": [found[layer].get(part) for part in parts]}
            for layer, name in zip(found, short_names(list(found), words=2), strict=True)
        ],
        "kept": sum(kept for kept, _ in cells),
        "of": sum(initial for _, initial in cells),
    }


def short_names(names: Sequence[str], words: int = 1) -> list[str]:
    """The shortest endings, in whole words between dots, that tell names apart."""
    split = [name.split(".") for name in names]
    for count in range(words, max(map(len, split)) + 1):
        short = [".".join(parts[-count:]) for parts in split]
        if len(set(short)) == len(names):
            return short
    return list(names)
