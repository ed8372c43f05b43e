"""What can be had from weights that never change: copies in 16 bits, cast once, and LoRA layers in fewer passes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from peft_studio.training.fast.kernels import LoraLinears, lora_parts


class LowPrecision:
    """Lets frozen matrices be their bfloat16 copies for a while; outside, they are the exact ones again.

    Autocast alone makes such copies anew in every step. Matrices inside the layers of methods that we do not know
    are left to it, and so are vectors. The copies are half the size of what they stand for.

    Args:
        model: With its adapter, on its device.
    """

    def __init__(self, model: nn.Module) -> None:
        self._frozen = frozen_matrices(model)
        self._copies = [part.data.bfloat16() for part in self._frozen]  # each of its matrix's shape
        self._exact: list[Tensor] = []

    def __enter__(self) -> None:
        self._exact = [part.data for part in self._frozen]
        for part, copy in zip(self._frozen, self._copies, strict=True):
            part.data = copy  # the parameter stays the same object, so modules and autograd notice nothing

    def __exit__(self, *_error: object) -> None:
        for part, whole in zip(self._frozen, self._exact, strict=True):
            part.data = whole
        self._exact = []


def frozen_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Frozen float32 weights of linear layers and embeddings, plain ones or under plain LoRA; each once."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    found: dict[int, nn.Parameter] = {}
    inside: set[int] = set()
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            inside.update(id(part) for part in module.modules())
            parts = lora_parts(module)
            if parts is not None:
                found[id(parts[0])] = parts[0]
        elif type(module) in (nn.Linear, nn.Embedding) and id(module) not in inside:
            weight: Any = module.weight
            found[id(weight)] = weight
    return [part for part in found.values() if not part.requires_grad and part.dtype == torch.float32]


def fusible_layers(model: nn.Module) -> list[nn.Module]:
    """The plain LoRA layers, which can compute in fewer passes."""
    return [module for module in model.modules() if lora_parts(module) is not None]


@contextmanager
def fused_lora(model: nn.Module) -> Iterator[None]:
    """Lets plain LoRA layers compute in fewer passes for a while; others, and what is switched off, as ever."""
    from peft.tuners.lora.layer import Linear

    changed = [module for module in model.modules() if type(module) is Linear and "forward" not in vars(module)]
    for module in changed:
        module.forward = _forward_of(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _forward_of(module: nn.Module) -> Callable[..., Tensor]:
    plain = type(module).forward

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        parts = None if args or kwargs else lora_parts(module)  # asked anew: an adapter may have been switched off
        wanted = torch.bfloat16 if torch.is_autocast_enabled(x.device.type) else x.dtype
        if parts is None or parts[0].dtype not in (wanted, torch.bfloat16):
            return plain(module, x, *args, **kwargs)
        return LoraLinears.apply(x, (parts[4],), *parts[:4])[0]  # (..., n) -> (..., m)

    return forward
