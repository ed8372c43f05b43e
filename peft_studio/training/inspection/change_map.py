"""Where an adapter changed its model: every weight of the merged model beside the base model's."""

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from peft_studio.models.layouts import Layout
from peft_studio.training.inspection.matrix_change import describe_change
from peft_studio.training.load import load_adapter
from peft_studio.training.merging import unloaded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_MOVED = 5  # entries of a vector that are told


@dataclass(frozen=True)
class Weight:
    """A parameter before and after.

    Attributes:
        name: Its full name.
        before: Of the base model.
        after: Of the merged one; the very same values where nothing changed.
    """

    name: str
    before: Tensor
    after: Tensor

    @property
    def changed(self) -> bool:
        """Whether any entry differs."""
        return not torch.equal(self.before, self.after)


def merged_with(base: "PreTrainedModel", adapter: Path) -> "PreTrainedModel":
    """A copy of a base model with an adapter in its weights.

    Raises:
        ModelError: The adapter does not fit.
        ValueError, RuntimeError, NotImplementedError: PEFT cannot merge it into this model.
    """
    return unloaded(load_adapter(copy.deepcopy(base), adapter))


def weights_of(base: "PreTrainedModel", merged: "PreTrainedModel") -> Iterator[Weight]:
    """All parameters of a merged model, in its order; a head that was tied and is no more stands for itself."""
    for name, after in merged.named_parameters():
        before = base.get_parameter(name)
        yield Weight(name, before.detach().cpu(), after.detach().cpu())


def place_of(name: str, layout: Layout) -> dict[str, Any]:
    """Where a module is: ``stack`` and ``block`` (None outside of blocks), and its short ``part``."""
    place = layout.block_of(name)
    if place is None:
        return {"stack": None, "block": None, "part": name}
    return {"stack": place[0], "block": place[1], "part": place[2]}


def change_map(
    base: "PreTrainedModel", merged: "PreTrainedModel", layout: Layout, other: "PreTrainedModel | None" = None
) -> dict[str, list[dict[str, Any]]]:
    """Every parameter of a model with what became of it.

    Args:
        base: The base model.
        merged: With the adapter in its weights.
        layout: Of the base model.
        other: With another run's adapter in its weights, to be compared with.

    Returns:
        ``matrices`` and ``vectors``: ``name``, ``stack``, ``block`` and ``part`` of the module, ``parameter``,
        ``shape``; matrices with what `describe_change` tells, vectors with what `describe_vector` does.
    """
    weights = list(weights_of(base, merged))
    others = dict(other.named_parameters()) if other is not None else {}
    threads = torch.get_num_threads()
    # One matrix for each core is faster than all cores for one matrix: a decomposition waits for itself.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        told = list(pool.map(lambda weight: _described(weight, layout, others.get(weight.name)), weights))
    found: dict[str, list[dict[str, Any]]] = {"matrices": [], "vectors": []}
    for entry in told:
        found["matrices" if len(entry["shape"]) > 1 else "vectors"].append(entry)
    return found


def _described(weight: Weight, layout: Layout, other: Tensor | None) -> dict[str, Any]:
    module, _, parameter = weight.name.rpartition(".")
    shape = list(weight.before.shape)
    entry = {"name": module, **place_of(module, layout), "parameter": parameter, "shape": shape}
    with torch.inference_mode():
        if not weight.changed:
            return {**entry, "norm": float(weight.before.norm()), "change": 0.0, "relative": 0.0}
        if len(shape) != 2:
            return {**entry, **describe_vector(weight.before.flatten(), weight.after.flatten())}
        others = None if other is None else other.detach().cpu()
        return {**entry, **describe_change(weight.before, weight.after, others)}


def describe_vector(before: Tensor, after: Tensor) -> dict[str, Any]:
    """``norm``, ``change``, ``relative`` and the entries of a bias or norm ``(n,)`` that ``moved`` most."""
    delta = (after - before).double()
    norm, size = float(before.double().norm()), float(delta.norm())
    most = delta.abs().topk(min(MOST_MOVED, len(delta))).indices.tolist()
    moved = [{"entry": at, "before": float(before[at]), "after": float(after[at])} for at in most]
    return {"norm": norm, "change": size, "relative": size / norm if norm else None, "moved": moved}
