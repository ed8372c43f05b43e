"""A text, token by token: how likely each is to the base model and to every adapter, and how far these are apart.

The text is read once by each model (teacher forcing), by the very format that training uses.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from peft_studio.errors import ConfigError
from peft_studio.tasks.base import Row
from peft_studio.training import Model
from peft_studio.training.formats.formats import Format
from peft_studio.training.formats.rows import IGNORED, EncodedExample
from peft_studio.training.formats.segments import token_text
from peft_studio.training.formats.target_logits import context_of, row_limit, virtual_tokens
from peft_studio.training.inference.generate import Column, exclusive

LIKELIEST = 5
"""Tokens that are told for each place, beside the one that stands there."""


def token_table(columns: Sequence[Column], form: Format, row: Row) -> dict[str, Any]:
    """Reads a row's target by several models.

    Args:
        columns: Name and model of each; the first is the base model.
        form: How rows meet these models.
        row: What was asked, and the text to read as its answer.

    Returns:
        ``tokens``: ``text`` and ``id`` of each, the one that ends the text included; ``columns``: of each model its
        ``name``, for each token the ``logprob`` in nats, its ``rank`` among all (1 is the likeliest), the
        ``likeliest`` tokens as pairs of text and probability, and ``kl``, the divergence of this model's distribution
        from the base model's in nats (``KL(model || base)``; 0 for the base), and the mean ``loss``.

    Raises:
        ConfigError: The text is empty.
        DataError: Prompt and text do not fit the model.
    """
    if not row.target.strip():
        raise ConfigError("The text is empty, so there are no tokens to look at.", "text")
    limit = min(row_limit(1 << 20, context_of(model.config), virtual_tokens(model)) for _, model in columns)
    (example,) = form.encode([row], limit).examples[-1:]
    read = {name: _distributions(form, name, model, example) for name, model in columns}
    base = read[columns[0][0]]
    targets = [label for label in example.labels if label != IGNORED]  # N
    start = len(example.ids) - len(targets)
    return {
        "tokens": [
            {"text": token_text(form.tokenizer, example.ids, start + place, start + place + 1), "id": token}
            for place, token in enumerate(targets)
        ],
        "columns": [_column(form, name, found, base, targets) for name, found in read.items()],
    }


def _distributions(form: Format, name: str, column: Model, example: EncodedExample) -> Tensor:
    """Log probabilities ``(N, V)`` of all that may stand at each of the text's places."""
    batch = form.inputs([example])
    moved = {part: value.to(column.device) for part, value in batch.items()}
    with exclusive([column]), torch.inference_mode():
        logits, _ = form.logits(column, moved)  # (N, V)
    found = logits.double().log_softmax(-1).cpu()
    if not bool(torch.isfinite(found).all()):
        raise ConfigError(f"The model {name} gives numbers that are none, so nothing can be said of its tokens.")
    return found


def _column(form: Format, name: str, found: Tensor, base: Tensor, targets: Sequence[int]) -> dict[str, Any]:
    own = found.gather(1, torch.tensor(targets)[:, None])  # (N, 1)
    best, ids = found.exp().topk(min(LIKELIEST, found.shape[1]))  # (N, 5) both
    texts = [[form.tokenizer.decode([token]) for token in line] for line in ids.tolist()]
    return {
        "name": name,
        "logprob": own[:, 0].tolist(),
        "rank": (1 + (found > own).sum(-1)).tolist(),
        "likeliest": [list(map(list, zip(*pair, strict=True))) for pair in zip(texts, best.tolist(), strict=True)],
        "kl": (found.exp() * (found - base)).sum(-1).clamp_min(0.0).tolist(),
        "loss": float(-own.mean()),
    }
