"""Methods that begin by changing base weights (PiSSA, OLoRA, CorDA, LoRA-GA): how the base stays known all the same.

Such a method moves part of each weight into its two small matrices: ``W = W' + s B0 A0``. What it has learnt is
``s (B A - B0 A0)``, which is plain LoRA of twice the rank on the untouched weights. So it is saved.
"""

import copy
import json
import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from peft_studio.errors import StorageError
from peft_studio.files import replace_folder
from peft_studio.models.layouts import Layout
from peft_studio.runs.paths import RunPaths
from peft_studio.training import Model
from peft_studio.training.quiet import known_warnings

if TYPE_CHECKING:
    from peft import PeftModel

_ATTRIBUTE = "_studio_origin"


class Origin:
    """The base model as it was, and the small matrices as they were before the first step."""

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        """Copies a base model; only the weights that a method may change take memory again."""
        wanted = re.compile(layout.linear)
        kept = {
            id(tensor): tensor
            for name, tensor in (*model.named_parameters(), *model.named_buffers())
            if not wanted.fullmatch(name.rpartition(".")[0])
        }
        self.model = copy.deepcopy(model, kept).eval().requires_grad_(False)
        self.initial: dict[str, Tensor] = {}

    @staticmethod
    def known(model: Model) -> "Origin | None":
        """The origin that was remembered for a model."""
        return getattr(model, _ATTRIBUTE, None)

    def remember(self, wrapped: "PeftModel") -> None:
        """Keeps the method's initial state, and ties this origin to the model."""
        self.initial = {name: value.clone() for name, value in _adapter_state(wrapped).items()}
        object.__setattr__(wrapped, _ATTRIBUTE, self)  # not as a submodule: it must not be counted or moved

    def begin_again(self, wrapped: "PeftModel", initial: Mapping[str, Tensor]) -> None:
        """Gives a model the start ``initial`` that was computed before, in place of its own.

        That is the two matrices of every layer, by the names of a saved adapter.
        """
        self.initial = {name: value.clone() for name, value in initial.items()}
        untouched = dict(self.model.named_parameters())
        for name, module in wrapped.get_base_model().named_modules():
            if f"base_model.model.{name}.lora_A.weight" in initial:
                # W' = W - s B0 A0, with A0 (r, d_in) and B0 (d_out, r)
                reader, writer = (initial[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
                moved = module.scaling[wrapped.active_adapter] * writer @ reader
                module.get_base_layer().weight.data = untouched[f"{name}.weight"] - moved


def _adapter_state(model: "PeftModel") -> dict[str, Tensor]:
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: value.detach() for name, value in state.items()}


def save_adapter(model: "PeftModel", folder: Path) -> None:
    """Writes an adapter that fits the untouched base: ``adapter_config.json`` and ``adapter_model.safetensors``."""
    origin = Origin.known(model)
    if origin is None:
        with known_warnings():
            model.save_pretrained(folder, save_embedding_layers=False)
        return
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: _with_start(name, value.cpu(), origin.initial[name].cpu()).contiguous()
        for name, value in _adapter_state(model).items()
    }
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_model.safetensors").chmod(0o600)
    _write_config(model, folder)


def _with_start(name: str, value: Tensor, initial: Tensor) -> Tensor:
    """``[A; A0]`` and ``[B, -B0]``; other tensors, such as a head, as they are."""
    if ".lora_A." in name:
        return torch.cat([value, initial])  # (2 r, d_in)
    if ".lora_B." in name:
        return torch.cat([value, -initial], dim=1)  # (d_out, 2 r)
    return value


def _write_config(model: "PeftModel", folder: Path) -> None:
    model.active_peft_config.save_pretrained(folder)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    growth = math.sqrt(2) if config.get("use_rslora") else 2
    plain = {"corda_config": None, "lora_ga_config": None, "eva_config": None, "init_lora_weights": True}
    alpha = config["lora_alpha"] * growth
    config |= plain | {"r": 2 * config["r"], "lora_alpha": alpha, "inference_mode": True}
    file.write_text(json.dumps(config, indent=2, sort_keys=True, default=str) + "\n")


def write_adapter(model: "PeftModel", paths: RunPaths) -> None:
    """Saves a run's adapter; it appears under its name when it is complete.

    Raises:
        StorageError: It cannot be written.
    """
    draft = paths.root / ".adapter"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        save_adapter(model, draft)
        replace_folder(draft, paths.adapter)
    except (SafetensorError, OSError) as exc:
        shutil.rmtree(draft, ignore_errors=True)
        raise StorageError(f"The adapter could not be saved in {paths.root}: {exc}.") from exc
