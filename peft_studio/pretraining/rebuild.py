"""What is measured of an embedded encoder or encoder-decoder: how well it rebuilds held-out text that was broken."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from peft_studio.pretraining.objectives import Objective

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def rebuild_figures(
    model: "PreTrainedModel", objective: Objective, rows: NDArray[np.integer], batch: int = 20
) -> dict[str, float]:
    """Loss of broken held-out rows, always broken in the same way.

    Args:
        model: In evaluation mode.
        objective: Breaks the rows.
        rows: ``(N, T + 1)``.
        batch: Rows at a time.

    Returns:
        ``held_out``: nats per predicted token.
    """
    rng = np.random.default_rng(1)
    losses, sizes = [], []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch].astype(np.int64)
        losses.append(float(objective.loss(model, objective.prepare(part, rng))))
        sizes.append(len(part))
    return {"held_out": float(np.average(losses, weights=sizes))}


def unigram_loss(
    streams: list[NDArray[np.integer]], rows: NDArray[np.integer], objective: Objective, vocab: int
) -> float:
    """Loss in nats of the same predictions by token frequencies alone, add-one smoothed."""
    counts = np.bincount(np.concatenate(streams).astype(np.int64), minlength=vocab) + 1
    surprise = -np.log(counts / counts.sum())
    targets = objective.prepare(rows.astype(np.int64), np.random.default_rng(1))["targets"].numpy()
    return float(surprise[targets].mean())
