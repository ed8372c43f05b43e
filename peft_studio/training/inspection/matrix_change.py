"""What became of one weight matrix: how much of it changed, in how many directions, and in which.

The change is ``dW = W' - W``, where ``W'`` is what merging the adapter makes of ``W``. It is measured in double
precision; the directions of large matrices that it is compared with are found in single precision, as they are stored.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

SHOWN_VALUES = 16  # singular values that are told
DIRECTIONS = 64  # of a change that are compared with the matrix, as the LoRA paper's table 7 has them at most
INTRUDER_TOP = 10  # directions of the merged matrix that are looked at, as PEFT's default has it
INTRUDER_COSINE = 0.5  # below it to every direction of the base matrix, a direction is an intruder: PEFT's default
SKETCH = 40  # columns that find out whether a change is of low rank
SMALL = 160  # changes with a side up to this are decomposed whole at once
EXACT = 256  # matrices with a side up to this are decomposed in double precision
_ROUNDING = torch.finfo(torch.float32).eps  # of the weights, relative


@dataclass(frozen=True)
class Directions:
    """A thin singular value decomposition, the largest first: ``U (m, k)``, values ``(k,)``, ``V (n, k)``."""

    left: Tensor
    values: Tensor
    right: Tensor

    def first(self, count: int) -> "Directions":
        """The strongest ones."""
        return Directions(self.left[:, :count], self.values[:count], self.right[:, :count])


def decompose(matrix: Tensor) -> Directions:
    """The singular value decomposition of a matrix ``(m, n)``, by the Gram matrix of its smaller side.

    That takes a fifth of the time. Squaring halves the digits of the smallest values: those below 1e-8 of the largest
    are noise in double precision, those below 3e-4 in single precision.
    """
    rows, columns = matrix.shape
    if rows > columns:
        turned = decompose(matrix.T)
        return Directions(turned.right, turned.values, turned.left)
    left, values = left_directions(matrix)
    right = matrix.T @ left  # (n, m), of these lengths
    return Directions(left, values, right / right.norm(dim=0).clamp(min=torch.finfo(right.dtype).tiny))


def left_directions(matrix: Tensor, count: int | None = None) -> tuple[Tensor, Tensor]:
    """The left directions ``(m, k)`` of a matrix ``(m, n)`` and their singular values ``(k,)``; the first, or all."""
    rows, columns = matrix.shape
    wide = rows <= columns
    squares, found = torch.linalg.eigh(matrix @ matrix.T if wide else matrix.T @ matrix)  # ascending
    first, values = found.flip(1)[:, :count], squares.flip(0)[:count].clamp(min=0).sqrt()
    if wide:
        return first, values
    left = matrix @ first  # (m, k), of these lengths
    return left / left.norm(dim=0).clamp(min=torch.finfo(left.dtype).tiny), values


def decompose_change(change: Tensor, tolerance: float) -> Directions:
    """The directions of a change whose singular values are more than rounding, which most adapters have few of.

    A random sketch finds the space of a low-rank change; when something larger than ``tolerance`` (a singular value)
    lies outside of it, the whole matrix is decomposed.
    """
    if min(change.shape) > SMALL:
        generator = torch.Generator().manual_seed(0)
        probe = torch.randn(change.shape[1], SKETCH, dtype=change.dtype, generator=generator)
        space, _ = torch.linalg.qr(change @ probe)  # (m, SKETCH)
        inside = space.T @ change  # (SKETCH, n)
        outside = float((change - space @ inside).norm())
        if outside <= tolerance * math.sqrt(min(change.shape)):
            found = decompose(inside)
            return _above(Directions(space @ found.left, found.values, found.right), tolerance)
    return _above(decompose(change), tolerance)


def _above(found: Directions, tolerance: float) -> Directions:
    tolerance = max(tolerance, 1e-7 * float(found.values[0]))  # what squaring leaves of double precision
    return found.first(int((found.values > tolerance).sum()))


def rounding_of(weight: Tensor) -> float:
    """Largest singular value that rounding alone gives the change of a single-precision matrix, generously."""
    spread = math.sqrt(weight.shape[0]) + math.sqrt(weight.shape[1])
    return _ROUNDING * float(weight.square().mean().sqrt()) * spread


def effective_rank(values: Tensor) -> float:
    """How many directions a change uses, as the exponential of the entropy of its singular values.

    Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007. 1 for a single
    direction, ``k`` for ``k`` equally strong ones; 0 where nothing changed.
    """
    if not len(values):
        return 0.0
    shares = values / values.sum()
    return float(torch.exp(torch.special.entr(shares).sum()))


def amplification(weight: Tensor, own: Tensor, change: Directions) -> dict[str, float] | None:
    """How much a change amplifies directions that the matrix does not stress (LoRA, arXiv 2106.09685, table 7).

    Args:
        weight: ``W``.
        own: Its singular values, the largest first.
        change: The directions of ``dW``; the first ``r`` count, 64 at most.

    Returns:
        ``directions`` (``r``), ``change`` (the norm of ``dW`` in them), ``projected`` (the norm of ``U' W V``, with
        the directions of ``dW``), ``factor`` (change over projected), and for comparison ``own`` (with the first ``r``
        directions of ``W`` instead) and ``random`` (expected with random ones). None where nothing changed.
    """
    first = change.first(DIRECTIONS)
    count = len(first.values)
    projected = float((first.left.T @ weight @ first.right).norm()) if count else 0.0
    if not projected:
        return None
    size = float(first.values.norm())
    return {
        "directions": count,
        "change": size,
        "projected": projected,
        "factor": size / projected,
        "own": float(own[:count].norm()),
        "random": float(weight.norm()) * count / math.sqrt(weight.numel()),
    }


def intruders(own: Tensor, merged: Tensor) -> dict[str, object]:
    """Strong directions of the merged matrix that resemble none of the base matrix (arXiv 2410.21228).

    Args:
        own: All left directions of the base matrix, ``(m, n)``.
        merged: The first left directions of the merged one, ``(m, k)``.

    Returns:
        ``of`` (how many of the first left directions were looked at), ``cosines`` (of each the largest to any left
        direction of the base matrix) and ``count`` (how many are below 0.5).
    """
    cosines = (merged.T @ own).abs().amax(1)  # (k,)
    return {
        "of": len(cosines),
        "cosines": cosines.tolist(),
        "count": int((cosines < INTRUDER_COSINE).sum()),
    }


def overlap(ours: Directions, theirs: Directions) -> dict[str, float] | None:
    """How much two changes read the same directions of a layer's input (LoRA paper, section 7.2).

    ``phi = ||V_i' V_j||^2 / min(i, j)``, from 0 (at right angles) to 1 (one within the other), over as many right
    directions as each uses: the effective ranks, rounded up. None where one changed nothing.
    """
    i, j = (math.ceil(effective_rank(found.values) - 1e-9) for found in (ours, theirs))
    if not i or not j:
        return None
    shared = ours.first(i).right.T @ theirs.first(j).right  # (i, j)
    width = ours.right.shape[0]
    return {
        "similarity": float(shared.square().sum()) / min(i, j),
        "ours": i,
        "theirs": j,
        "random": max(i, j) / width,
    }


def describe_change(before: Tensor, after: Tensor, others: Tensor | None = None) -> Mapping[str, object]:
    """All that is told of one matrix.

    Args:
        before: ``(m, n)`` of the base model.
        after: The same, merged.
        others: The same, with another run's adapter merged.

    Returns:
        ``norm``, ``change``, ``relative`` (their ratio; None where the matrix is zero), ``values`` (the largest
        singular values of the change), ``rank`` (how many are more than rounding), ``effective_rank``,
        ``amplification``, ``intruders``, ``overlap`` (None without others).
    """
    weight, merged = before.double(), after.double()
    tolerance = rounding_of(weight)
    delta = merged - weight
    change = decompose_change(delta, tolerance)
    norm, size = float(weight.norm()), float(delta.norm())
    found: dict[str, object] = {
        "norm": norm,
        "change": size,
        "relative": size / norm if norm else None,
        "values": change.values[:SHOWN_VALUES].tolist(),
        "rank": len(change.values),
        "effective_rank": effective_rank(change.values),
        "amplification": None,
        "intruders": None,
        "overlap": None,
    }
    if len(change.values):
        small = min(weight.shape) <= EXACT
        own, own_values = left_directions(weight if small else before)
        found["amplification"] = amplification(weight, own_values, change)
        found["intruders"] = intruders(own, left_directions(merged if small else after, INTRUDER_TOP)[0])
        if others is not None:
            found["overlap"] = overlap(change, decompose_change(others.double() - weight, tolerance))
    return found
