"""Which parameters train, and where they are: counts and the layer-by-layer map that the Train page draws."""

from typing import TYPE_CHECKING, Any

from torch import nn

from peft_studio.models.layouts import Layout
from peft_studio.training import Model

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

WRAPPER = "base_model.model."


def count_parameters(model: Model) -> tuple[int, int]:
    """Trainable parameters, and all parameters that take part when the adapter is on.

    A private copy of a base parameter takes that parameter's place, so full fine-tuning trains 100 % of its model.
    Everything else counts as PEFT's ``get_nb_trainable_parameters`` does.
    """
    effective: dict[int, nn.Parameter] = {}
    replaced = _replacing_modules(model)
    for name, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if name in replaced:
            own.update(replaced[name])
        for parameter in own.values():
            effective[id(parameter)] = parameter
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return trainable, sum(parameter.numel() for parameter in effective.values())


def _replacing_modules(model: Model) -> dict[str, dict[str, nn.Parameter]]:
    """Base modules some of whose parameters are replaced by copies: full name -> parameter name -> copy."""
    from peft.utils import ModulesToSaveWrapper

    from peft_studio.methods.partial_tuner import PartialLayer

    replaced: dict[str, dict[str, nn.Parameter]] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, PartialLayer):
            replaced[f"{name}.base_layer"] = layer.copies("default")
        elif isinstance(layer, ModulesToSaveWrapper):
            for inner, module in layer.modules_to_save["default"].named_modules():
                place = f"{name}.original_module" + (f".{inner}" if inner else "")
                replaced[place] = dict(module.named_parameters(recurse=False))
    return replaced


def draw_map(model: "PeftModel", base: "PreTrainedModel", layout: Layout) -> list[dict[str, Any]]:
    """The model from input to output, with its method and, as ``base``, without.

    Returns:
        Entries ``{"name", "kind", "params", "trainable", "added"}``; a block has ``parts`` of the same form.
        ``params`` are the base model's, ``trainable`` how many of those train, ``added`` how many trainable ones the
        method brings, ``frozen`` how many others it brings.
    """
    cells = {name: {**_cell(name, layout), "params": count} for name, count in _owners(base)}
    if layout.purpose == "generation" and layout.head not in cells:  # tied to the embedding: nothing of its own
        cells[layout.head] = {**_cell(layout.head, layout), "tied": True}
    return _assemble(model, base, cells, layout)


def _owners(base: "PreTrainedModel") -> list[tuple[str, int]]:
    """Modules that own parameters, with how many; tied ones once."""
    seen: set[int] = set()
    found = []
    for name, module in base.named_modules():
        fresh = [item for item in module.parameters(recurse=False) if id(item) not in seen]
        seen.update(id(item) for item in fresh)
        if fresh:
            found.append((name, sum(item.numel() for item in fresh)))
    return found


def _cell(name: str, layout: Layout) -> dict[str, Any]:
    place = layout.block_of(name)
    if place:
        shown = place[2]
        kind = "attention" if shown in layout.attention else "mlp" if shown in layout.mlp else "norm"
    else:
        kind, shown = _kind_outside(name, layout), name.rpartition(".")[2]
    return {"name": shown, "kind": kind, "params": 0, "trainable": 0, "added": 0, "frozen": 0}


def _kind_outside(name: str, layout: Layout) -> str:
    heads = (layout.head, *layout.new_heads, "head", "bert.pooler")
    if any(name == head or name.startswith(f"{head}.") for head in heads):
        return "head"
    return "norm" if name in (layout.final_norm, *layout.outer_norms) else "embedding"


def _spread(model: "PeftModel", base: "PreTrainedModel", cells: dict[str, dict[str, Any]]) -> int:
    """Adds every new parameter to the cell it belongs to; returns how many stand in front of the text."""
    in_front = 0
    known = {id(parameter) for parameter in base.parameters()}
    copied = {name.removesuffix(".base_layer") for name in _replacing_modules(model)}
    for name, parameter in model.named_parameters():
        if id(parameter) in known:
            continue
        is_head = ".modules_to_save.default." in name
        path = name.removeprefix(WRAPPER).removeprefix("base_model.").replace(".modules_to_save.default", "")
        owner = _owner(path, cells)
        if not parameter.requires_grad:
            if owner is not None and not is_head:
                cells[owner]["frozen"] += parameter.numel()
        elif owner is None:
            in_front += parameter.numel()
        elif is_head or (WRAPPER + owner in copied and not cells[owner].get("tied")):
            cells[owner]["trainable"] += parameter.numel()
        else:
            cells[owner]["added"] += parameter.numel()
    return in_front


def _owner(path: str, cells: dict[str, dict[str, Any]]) -> str | None:
    """The innermost cell that a parameter is in."""
    while path:
        path = path.rpartition(".")[0]
        if path in cells:
            return path
    return None


def _blocks(base: "PreTrainedModel", layout: Layout) -> list[list[dict[str, Any]]]:
    """For each stack its empty blocks."""
    names = ["layers"] if len(layout.blocks) == 1 else ["encoder", "decoder"]
    return [
        [{"name": f"{name}.{number}", "kind": "block", "parts": []} for number in range(len(base.get_submodule(path)))]
        for name, path in zip(names, layout.blocks, strict=True)
    ]


def _assemble(
    model: "PeftModel", base: "PreTrainedModel", cells: dict[str, dict[str, Any]], layout: Layout
) -> list[dict[str, Any]]:
    in_front, stacks = _spread(model, base, cells), _blocks(base, layout)
    before: list[dict[str, Any]] = []
    after: list[dict[str, Any]] = []
    for path, cell in cells.items():
        place = layout.block_of(path)
        if place:
            stacks[place[0]][place[1]]["parts"].append(cell)
        else:
            early = cell["kind"] == "embedding" or "embed" in path
            (before if early else after).append(cell)
    _place_virtual_tokens(model, in_front, before, stacks[-1])
    blocks = [block for stack in stacks for block in stack]
    for block in blocks:
        for key in ("params", "trainable", "added", "frozen"):
            block[key] = sum(part[key] for part in block["parts"])
    return [*before, *blocks, *after]


def _place_virtual_tokens(
    model: "PeftModel", count: int, before: list[dict[str, Any]], blocks: list[dict[str, Any]]
) -> None:
    """Vectors before the text stand before the model; key-value prefixes are shared out among the last blocks."""
    from peft import PeftType

    if not count:
        return
    cell = {"name": "virtual tokens", "kind": "virtual", "params": 0, "trainable": 0, "added": count, "frozen": 0}
    if model.active_peft_config.peft_type != PeftType.PREFIX_TUNING:
        before.insert(0, cell)
        return
    for block in blocks:
        block["parts"].insert(0, {**cell, "name": "prefix keys and values", "added": count // len(blocks)})
