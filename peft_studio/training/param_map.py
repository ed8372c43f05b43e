"""Which parameters train, and where they are: counts and the layer-by-layer map that the Train page draws."""

from typing import Any

from torch import nn

from peft_studio.models.layouts import Layout

WRAPPER = "base_model.model."


def count_parameters(model: Any) -> tuple[int, int]:
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


def _replacing_modules(model: Any) -> dict[str, dict[str, nn.Parameter]]:
    """Base modules some of whose parameters are replaced by copies: full name -> parameter name -> copy."""
    from peft_studio.methods.partial_tuner import PartialLayer

    return {
        f"{name}.base_layer": layer.copies("default")
        for name, layer in model.named_modules()
        if isinstance(layer, PartialLayer)
    }


def draw_map(model: Any, base: Any, layout: Layout) -> list[dict[str, Any]]:
    """The model from input to output.

    Args:
        model: The model with its method.
        base: The same model without it.
        layout: Module names of the architecture.

    Returns:
        Entries ``{"name", "kind", "params", "trainable", "added"}``; a block has ``parts`` of the same form.
        ``params`` are the base model's, ``trainable`` how many of those train, ``added`` how many the method brings.
    """
    cells = {name: _cell(name, layout) for name, _ in _owners(base)}
    for name, count in _owners(base):
        cells[name]["params"] += count
    if layout.head not in cells:  # tied to the embedding: no parameters of its own
        cells[layout.head] = {**_cell(layout.head, layout), "tied": True}
    return _assemble(model, cells, layout, base.config.num_hidden_layers)


def _owners(base: Any) -> list[tuple[str, int]]:
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
    inside = name.removeprefix(f"{layout.blocks}.").partition(".")[2] if name.startswith(layout.blocks) else ""
    if inside:
        kinds = (("attention", layout.attention), ("mlp", layout.mlp))
        kind = next((kind for kind, names in kinds if inside in names), "norm")
    else:
        kind = {layout.head: "head", layout.final_norm: "norm"}.get(name, "embedding")
    return {"name": inside or name.rpartition(".")[2], "kind": kind, "params": 0, "trainable": 0, "added": 0}


def _spread(model: Any, cells: dict[str, dict[str, Any]]) -> int:
    """Adds every trainable parameter to the cell it belongs to; returns how many stand in front of the text."""
    in_front = 0
    copied = {f"{name.removesuffix('.base_layer')}" for name in _replacing_modules(model)}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        path = name.removeprefix(WRAPPER)
        owner = max((cell for cell in cells if path.startswith(f"{cell}.")), key=len, default=None)
        if owner is None:
            in_front += parameter.numel()
        elif WRAPPER + owner in copied and not cells[owner].get("tied"):
            cells[owner]["trainable"] += parameter.numel()
        else:
            cells[owner]["added"] += parameter.numel()
    return in_front


def _assemble(model: Any, cells: dict[str, dict[str, Any]], layout: Layout, depth: int) -> list[dict[str, Any]]:
    in_front = _spread(model, cells)
    before: list[dict[str, Any]] = []
    blocks: list[dict[str, Any]] = [
        {"name": f"layers.{number}", "kind": "block", "parts": []} for number in range(depth)
    ]
    after: list[dict[str, Any]] = []
    for path, cell in cells.items():
        if path.startswith(f"{layout.blocks}."):
            number = int(path.removeprefix(f"{layout.blocks}.").partition(".")[0])
            blocks[number]["parts"].append(cell)
        else:
            (before if cell["kind"] == "embedding" else after).append(cell)
    _place_virtual_tokens(model, in_front, before, blocks)
    for block in blocks:
        for key in ("params", "trainable", "added"):
            block[key] = sum(part[key] for part in block["parts"])
    return [*before, *blocks, *after]


def _place_virtual_tokens(model: Any, count: int, before: list[dict[str, Any]], blocks: list[dict[str, Any]]) -> None:
    """Vectors before the text stand before the model; key-value prefixes are shared out among the blocks."""
    from peft import PeftType

    if not count:
        return
    cell = {"name": "virtual tokens", "kind": "virtual", "params": 0, "trainable": 0, "added": count}
    if model.active_peft_config.peft_type != PeftType.PREFIX_TUNING:
        before.insert(0, cell)
        return
    for block in blocks:
        block["parts"].insert(0, {**cell, "name": "prefix keys and values", "added": count // len(blocks)})
