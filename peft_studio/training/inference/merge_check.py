"""What folding an adapter into its base's weights changes: the answers (by rounding only), the speed and the size."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from peft_studio.config.resolved_run import ResolvedRun
from peft_studio.training import Model
from peft_studio.training.formats.greedy import DECODING
from peft_studio.training.merging import write_merged

TOKENS, TURNS = 24, 5
"""Tokens of a text that is timed, and how often each model's is."""


def check_merge(run: ResolvedRun, adapter: Path, model: Model, base: Model, cache: Path) -> dict[str, Any]:
    """Merges for a look.

    Args:
        run: The run.
        adapter: Folder of its saved adapter.
        model: That adapter on its base, in evaluation mode.
        base: The base model.
        cache: Where the merged model may lie meanwhile.

    Returns:
        ``max_difference`` of a logit; ``seconds`` for each new token (of a classifier: for a text of 24 tokens) of the
        ``base``, the ``adapter`` and the ``merged`` model, medians of 5 turns; ``bytes`` of the files of ``adapter``
        and ``merged``.

    Raises:
        InvalidStateError: It cannot be merged; says why.
    """
    with tempfile.TemporaryDirectory(prefix="merge-check-", dir=cache) as name:
        merged, difference = write_merged(run, adapter, Path(name))
        merged = merged.to(model.device)
        models: dict[str, Model] = {"base": base, "adapter": model, "merged": merged}
        works = {kind: _work(one, bool(run.task.labels)) for kind, one in models.items()}
        seconds: dict[str, list[float]] = {kind: [] for kind in models}
        for turn in range(TURNS + 1):
            for kind, work in works.items():  # in turns, so that a busy machine is slow for all of them
                begun = time.perf_counter()
                work()
                if turn:  # the first one warms up
                    seconds[kind].append(time.perf_counter() - begun)
        sizes = {"adapter": _bytes(adapter), "merged": _bytes(Path(name))}
    unit = 1 if run.task.labels else TOKENS
    each = {kind: statistics.median(found) / unit for kind, found in seconds.items()}
    return {"max_difference": difference, "seconds": each, "bytes": sizes}


def _work(model: Model, classifies: bool) -> Callable[[], object]:
    ids = torch.arange(TOKENS if classifies else 2, device=model.device)[None] + 3  # (1, T)
    mask = torch.ones_like(ids)

    def read() -> object:
        with torch.inference_mode():
            return model(input_ids=ids, attention_mask=mask)

    def write() -> object:
        with torch.inference_mode():
            options = {**DECODING, "min_new_tokens": TOKENS, "max_new_tokens": TOKENS}
            return model.generate(input_ids=ids, attention_mask=mask, pad_token_id=0, **options)

    return read if classifies else write


def _bytes(folder: Path) -> int:
    """Bytes of the weights of a folder."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
