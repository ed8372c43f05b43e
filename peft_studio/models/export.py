"""Writes an embedded model as an ordinary Hugging Face folder, in half the bytes."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from peft_studio.models.tokenizer import save_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel


def export_model(model: "PreTrainedModel", tokenizer: "Tokenizer", folder: Path) -> None:
    """Writes a Hugging Face folder whose weights take two bytes each on disk and load as float32.

    Args:
        model: Float32 model; left unchanged.
        tokenizer: Its tokenizer.
        folder: Made if missing.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.dtype = torch.float32
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    weights, stored = {}, set()
    for name, value in model.state_dict().items():
        if value.data_ptr() not in stored:  # tied weights are stored once
            weights[name] = value.detach().half().contiguous()
            stored.add(value.data_ptr())
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    save_tokenizer(tokenizer, folder)
