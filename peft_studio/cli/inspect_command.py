"""``inspect``: what the adapter of a run did to its model, on the terminal."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from peft_studio.cli.printing import Add, print_json, print_table
from peft_studio.settings import Settings


def add_commands(add: Add) -> None:
    """Registers the command."""
    found = add("inspect", _inspect, "Say what a run's adapter did to its model.")
    found.add_argument("run", metavar="RUN_ID")
    found.add_argument("--step", type=int, metavar="N", help="at a snapshot instead of at the end")
    found.add_argument("--other", default="", metavar="RUN_ID", help="tell how much both changed the same directions")


def _inspect(options: argparse.Namespace, settings: Settings) -> int:
    from peft_studio.runs.store import RunStore

    store = RunStore(settings.runs_dir)
    for run in filter(None, (options.run, options.other)):
        store.config(run)  # said before the libraries load
    import torch

    from peft_studio.training.inference.model_pool import ModelPool
    from peft_studio.training.inspection.inspector import Inspector
    from peft_studio.training.quiet import be_quiet

    be_quiet()
    torch.set_num_threads(settings.threads)
    inspector = Inspector(store, ModelPool())
    request = {"run": options.run, "other": options.other, "step": options.step}
    found = next(inspector.operations["inspect"](request))
    if options.json:
        print_json(found)
        return 0
    for note in found["notes"]:
        print(f"note: {note}", file=sys.stderr)
    for name, view in found["views"].items():
        if view:
            print(f"--- {name}")
            print_table(_TABLES[name](view))
    return 0


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _matrices(view: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    head = ("module", "change", "relative", "rank", "effective rank", "amplified", "intruders", "overlap")
    rows: list[tuple[str, ...]] = [head]
    for one in view:
        if one["change"] and "rank" in one:
            factor, shared, strange = one["amplification"], one["overlap"], one["intruders"]
            rows.append((
                f"{one['name']}.{one['parameter']}", _number(one["change"]), _number(one["relative"]),
                str(one["rank"]), _number(one["effective_rank"]), _number(factor and factor["factor"]),
                f"{strange['count']} of {strange['of']}" if strange else "", _number(shared and shared["similarity"]),
            ))  # fmt: skip
    return rows


def _vectors(view: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    moved = sorted((one for one in view if one["change"]), key=lambda one: -(one["relative"] or 0.0))
    rows = [(f"{one['name']}.{one['parameter']}", _number(one["change"]), _number(one["relative"])) for one in moved]
    return [("vector", "change", "relative"), *rows]


def _prompt(view: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    told = (" ".join(f"{token['text']!r} {token['cosine']:.2f}" for token in one["tokens"]) for one in view)
    pairs = enumerate(zip(view, told, strict=True))
    rows = [(str(at), _number(one["norm"]), text) for at, (one, text) in pairs]
    return [("vector", "norm", "nearest tokens"), *rows]


def _attention(view: list[list[dict[str, float]]]) -> list[tuple[str, ...]]:
    rows = [
        (str(layer), str(head), _number(one["to_virtual"]), _number(one["moved"]))
        for layer, heads in enumerate(view)
        for head, one in enumerate(heads)
    ]
    return [("layer", "head", "to virtual tokens", "moved among the others"), *rows]


def _scales(view: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    keys = ("least", "mean", "most")
    rows = [(one["name"], *(_number(one[key]) for key in keys), str(one["moved"])) for one in view]
    return [("module", *keys, "off by a tenth"), *rows]


def _biases(view: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [("module", "added", "own"), *((one["name"], _number(one["added"]), _number(one["own"])) for one in view)]


def _bottlenecks(view: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    keys = ("added", "stream", "ratio")
    return [("module", *keys), *((one["name"], *(_number(one[key]) for key in keys)) for one in view)]


_TABLES: dict[str, Callable[[Any], list[tuple[str, ...]]]] = {
    "matrices": _matrices, "vectors": _vectors, "prompt": _prompt, "attention": _attention, "scales": _scales,
    "biases": _biases, "bottlenecks": _bottlenecks,
}  # fmt: skip
