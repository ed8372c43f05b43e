"""Building models whose parameters have a shape and a dtype but no numbers, without computing numbers for them."""

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _NoNumbers(TorchFunctionMode):
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


def _triangle(func: Callable[..., Any], row: int, col: int, offset: int = 0, **options: Any) -> torch.Tensor:
    """Indices of a triangle of a matrix, ``(2, N)``."""
    lower = offset if func is torch.tril_indices else offset - 1  # the last diagonal of the lower part
    below = sum(min(max(number + lower + 1, 0), col) for number in range(row))
    count = below if func is torch.tril_indices else row * col - below
    return torch.empty(2, count, dtype=options.get("dtype", torch.int64), device=options.get("device"))


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Within it, new tensors are on the meta device and are not initialised. For the calling thread alone."""
    with torch.device("meta"), _NoNumbers():
        yield


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """Within it, garbage is not looked for: among so many new objects that stay, that is a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
