"""Where in a batch something is to be read, and where a target follows; found out before the batch goes to a GPU."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from peft_studio.training.fast.kernels import Packed, Padded
from peft_studio.training.fast.levers import Levers
from peft_studio.training.formats.rows import IGNORED

WIDTHS, PLACES = 4, 32  # what sizes are rounded up to in 16 bits


@dataclass(frozen=True)
class Places:
    """A batch of ``B`` rows as the decoder reads it, with or without its padding.

    Attributes:
        shape: ``B`` and ``T``.
        ids: What is read: ``(M,)`` without padding, row after row, or ``(B, T)`` with it.
        targets: What follows at ``places``: ``(N,)``, ``IGNORED`` where nothing counts.
        places: ``(N,)``, among the ``M`` or the ``B T`` positions.
        kept: The ``M`` positions among ``B T``; None with padding.
        lengths: How many of them are each row's; None with padding.
    """

    shape: tuple[int, int]
    ids: Tensor
    targets: Tensor
    places: Tensor
    kept: Tensor | None = None
    lengths: tuple[int, ...] | None = None

    def padded(self, x: Tensor) -> Tensor:
        """``(M, n)`` to ``(B T, n)``; what has its padding as it is."""
        return x if self.kept is None else Padded.apply(x, self.kept, self.shape[0] * self.shape[1])

    def packed(self, x: Tensor) -> Tensor:
        """``(B, T, n)`` to ``(M, n)``, or as it is."""
        return x if self.kept is None else Packed.apply(x.flatten(0, 1), self.kept)


def find_places(input_ids: Tensor, labels: Tensor, levers: Levers, device: torch.device) -> Places:
    """Reads a batch.

    A causal model looks at nothing behind a row's last target, so that is padding, whatever stands there. In 16 bits
    on a CPU, sizes are rounded up by places that count for nothing: oneDNN makes code for every new size, and that
    takes time and memory.

    Args:
        input_ids: ``(B, T + 1)``.
        labels: ``(B, T + 1)``, ``IGNORED`` where nothing is to be predicted.
        levers: Whether padding is left out and sizes are rounded.
        device: Where the model is.
    """
    on_cpu = device.type == "cpu"
    few = levers.few_sizes and on_cpu and torch.is_autocast_enabled("cpu")
    ids, following = input_ids[:, :-1], labels[:, 1:]  # (B, T) both: what is read, and what follows it
    if few:
        extra = -ids.shape[1] % WIDTHS  # zeros behind the text, which nothing in it looks at
        ids, following = F.pad(ids, (0, extra)), F.pad(following, (0, extra), value=IGNORED)
    shape, wanted = (ids.shape[0], ids.shape[1]), following != IGNORED  # (B, T)
    read = _until_last(wanted) if on_cpu and levers.unpadded else torch.ones_like(wanted)  # (B, T)
    read = _rounded(read, PLACES) if few else read
    flat = wanted.flatten()[read.flatten()]  # (M,); with padding M = B T
    places = (_rounded(flat, PLACES) if few else flat).nonzero().squeeze(1)  # (N,)
    targets = following[read][places]  # (N,)
    if read.all():
        return Places(shape, *(part.to(device, non_blocking=True) for part in (ids, targets, places)))
    kept = read.flatten().nonzero().squeeze(1)  # (M,)
    return Places(shape, ids[read], targets, places, kept, tuple(read.sum(1).tolist()))


def _until_last(wanted: Tensor) -> Tensor:
    """Which positions ``(B, T)`` stand at or before their row's last target."""
    return wanted.flip(1).cumsum(1).flip(1) > 0


def _rounded(chosen: Tensor, multiple: int) -> Tensor:
    """A mask with so many more of its first free places that their number is a multiple, as long as there are any."""
    flat = chosen.flatten()
    free = (~flat).nonzero().squeeze(1)[: -int(flat.sum()) % multiple]
    return flat.index_fill(0, free, value=True).view_as(chosen)
