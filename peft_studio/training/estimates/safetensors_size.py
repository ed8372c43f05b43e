"""The exact size of the file that ``save_pretrained`` will write, from shapes alone.

Source: https://github.com/huggingface/safetensors#format
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from peft import PeftModel

_NAMES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Names of dtypes in the file, in the order in which it stores them."""
_ORDER = list(_NAMES)
_ALIGNMENT = 8


def adapter_file_bytes(model: "PeftModel", converted: bool = False) -> int:
    """Bytes of ``adapter_model.safetensors`` for a PEFT model, which may be on the meta device.

    ``converted`` tells that the adapter is saved as plain LoRA of twice the rank (``training.adapter_files``).
    """
    from peft import get_peft_model_state_dict

    if model.active_peft_config.is_prompt_learning:
        return safetensors_bytes(_prompt_tensors(model))
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    if converted:
        tensors = {name: _doubled(name, tensor) for name, tensor in tensors.items()}
    return safetensors_bytes(tensors)


def _doubled(name: str, tensor: torch.Tensor) -> torch.Tensor:
    side = 0 if ".lora_A." in name else 1 if ".lora_B." in name else None
    return tensor if side is None else torch.cat([tensor, tensor], dim=side)


def _prompt_tensors(model: "PeftModel") -> dict[str, torch.Tensor]:
    """What a prompt method saves: the finished vectors under one name, without what made them; and heads."""
    encoder = model.prompt_encoder["default"]
    rows, width = encoder.embedding.weight.shape
    if getattr(encoder, "prefix_projection", False):
        width = encoder.transform[-1].out_features
    tensors = {"prompt_embeddings": torch.empty(rows, width, device="meta")}  # (virtual tokens, d)
    for name, tensor in model.state_dict().items():
        if ".modules_to_save.default." in name:
            tensors[name.replace("modules_to_save.default.", "")] = tensor
    return tensors


def safetensors_bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    """Bytes of a safetensors file of tensors on any device, with the metadata that transformers writes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    # The file's order, by dtype and then by name, decides how many digits the offsets have.
    for name in sorted(tensors, key=lambda key: (_ORDER.index(tensors[key].dtype), key)):
        tensor = tensors[name]
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-length // _ALIGNMENT) * _ALIGNMENT + offset
