"""The exact size of the file that ``save_pretrained`` will write, from shapes alone.

Source: https://github.com/huggingface/safetensors#format
"""

import json
from collections.abc import Mapping
from typing import Any

import torch

_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
_ALIGNMENT = 8


def adapter_file_bytes(model: Any) -> int:
    """Bytes of ``adapter_model.safetensors`` for a PEFT model, which may be on the meta device."""
    from peft import get_peft_model_state_dict

    if model.active_peft_config.is_prompt_learning:  # what is saved is the finished vectors, under one name
        vectors = model.prompt_encoder["default"].embedding.weight
        return safetensors_bytes({"prompt_embeddings": vectors})
    return safetensors_bytes(get_peft_model_state_dict(model, save_embedding_layers=False))


def safetensors_bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    """Bytes of a safetensors file that holds these tensors, with the metadata that transformers writes.

    Args:
        tensors: Any shapes and dtypes, on any device.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    # The file's order is by falling width of the dtype, then by name; it decides how many digits the offsets have.
    for name in sorted(tensors, key=lambda key: (-tensors[key].element_size(), key)):
        tensor = tensors[name]
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-length // _ALIGNMENT) * _ALIGNMENT + offset
