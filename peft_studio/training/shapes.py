"""Models as shapes alone, on PyTorch's meta device: what they would take, told before any of it is allocated."""

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from peft_studio.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROOM_BYTES = 64_000_000  # that any adapter may take beside what its file holds: masks, indices, random projections
ROOM_TIMES = 4  # as much as its file holds, likewise: files have 16 bits for a number, and some things twice


class _SkipInitialisation(TorchFunctionMode):
    """Leaves out what only fills in numbers; the meta device would go through most of it step by step, in Python."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if func in (torch.triu_indices, torch.tril_indices):
            return _triangle(func, *args, **kwargs)
        return func(*args, **kwargs)


def _triangle(func: Callable[..., Any], row: int, col: int, offset: int = 0, **options: object) -> Tensor:
    """Indices of a triangle of a matrix, ``(2, N)``."""
    lower = offset if func is torch.tril_indices else offset - 1  # the last diagonal of the lower part
    below = sum(min(max(number + lower + 1, 0), col) for number in range(row))
    count = below if func is torch.tril_indices else row * col - below
    return torch.empty(2, count, dtype=options.get("dtype", torch.int64), device=options.get("device"))


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Within it, new tensors are on the meta device and are not initialised. For the calling thread alone."""
    with torch.device("meta"), _SkipInitialisation():
        yield


def refuse_oversized(folder: Path, base: "PreTrainedModel") -> None:
    """Refuses an adapter that would take far more memory than its file and its base do.

    Args:
        folder: The adapter's, whose settings are allowed ones.
        base: What it is to be put on.

    Raises:
        ModelError: It would.
    """
    from peft import PeftConfig, PeftModel

    config = PeftConfig.from_pretrained(str(folder))
    config.inference_mode = True
    tensors = (*base.parameters(), *base.buffers())
    twins = {id(tensor): _as_meta(tensor) for tensor in tensors}
    own = {id(twin) for twin in twins.values()}
    twin = copy.deepcopy(base, twins)
    try:
        with shapes_only():
            model = PeftModel(twin, config)
    except NotImplementedError:  # two methods draw places at random, which shapes cannot; their sizes are checked
        return
    needed = sum(part.nbytes for part in (*model.parameters(), *model.buffers()) if id(part) not in own)
    held = (folder / "adapter_model.safetensors").stat().st_size
    allowed = ROOM_BYTES + ROOM_TIMES * held + sum(tensor.nbytes for tensor in tensors)
    if needed > allowed:
        raise ModelError(
            f"The adapter's adapter_config.json tells of {needed / 1e9:,.1f} GB on this base model, and its weights "
            f"have {held / 1e6:,.1f} MB: the two do not belong together."
        )


def _as_meta(tensor: Tensor) -> Tensor:
    shape = tensor.detach().to("meta")
    return nn.Parameter(shape, requires_grad=False) if isinstance(tensor, nn.Parameter) else shape
