"""Whether the fast path gives what the library gives: asked once in every process, on rows of the first batch.

The tests know the versions that we were written for. Another version of PyTorch or transformers, another chip or a
model with something of its own may still make the two differ, and then the library is right.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from peft_studio.training.formats.rows import Batch

ROWS = 2  # rows do not see each other but for their padding, and a check must cost little time and memory

Measured = tuple[float, tuple[Tensor, ...]]
"""A loss, and its gradient by each trainable parameter."""


# In float32 rounding alone made 5e-7 of the loss and 2e-4 of a gradient (nano-lm, all kinds of methods); a wrong sign,
# scale or mask makes 100 times as much. In bfloat16, with its 8 bits, gradients of a few rows are off by 20 to 70 % in
# the library as well, so a run with bf16 is checked in float32 first, and then for what is no rounding in 16 bits.
TOLERANCES = {torch.float32: (1e-4, 1e-2, 1e-4), torch.bfloat16: (0.02, 0.0, 1.5)}
"""How far the two ways may be apart: share of the loss; share of a parameter's gradient, by its norm; and share of
the norm of all gradients, which is added, as small gradients are differences of large numbers."""


def rows_to_check(batch: Batch) -> dict[str, Tensor]:
    """The first rows of a batch, as wide as all of it."""
    tensors = {name: part for name, part in batch.items() if isinstance(part, Tensor)}
    return {name: part[:ROWS] for name, part in tensors.items()}  # each (2, ...)


def loss_and_gradients(loss: Tensor, trainable: Sequence[nn.Parameter]) -> Measured:
    """The value of a loss, and its gradients, which are left nowhere else; zeros of what it does not depend on."""
    return float(loss.detach()), torch.autograd.grad(loss, trainable, materialize_grads=True)


def describe_difference(ours: Measured, theirs: Measured, dtype: torch.dtype) -> str:
    """How the fast path differs from the library by more than rounding, in words; empty when it does not.

    Args:
        ours: Of the fast path.
        theirs: Of the library, in float32. A loss that is no number says nothing about the fast path.
        dtype: What matrix products of the fast path are computed in.
    """
    (of_loss, own, whole), (found, gradients), (right, wanted) = TOLERANCES[dtype], ours, theirs
    if not math.isfinite(right):
        return ""
    if not abs(found - right) <= of_loss * abs(right):  # also when ours is no number
        return f"its loss is {found:.6g} instead of {right:.6g}"
    sizes = torch.stack([part.norm() for part in wanted])  # (P,), of P parameters
    apart = torch.stack([(a - b).norm() for a, b in zip(gradients, wanted, strict=True)])  # (P,)
    near = apart <= own * sizes + whole * sizes.norm()  # (P,)
    if bool(near.all()):
        return ""
    far, share = int((~near).sum()), float(apart.norm() / sizes.norm())
    return f"{far} of {len(near)} gradients differ, and {share:.2%} of all they say"
